from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from oversight.engines import vllm
from oversight.engines.vllm.server import ServerProcess
from oversight.engines.vllm.settings import (
    PYTHON_VARIABLE,
    Config,
    check_model,
    command_line,
    find_interpreter,
    server_environment,
)
from oversight.errors import ConfigError, MissingDependencyError


def fake_interpreter(folder: Path, *, has_vllm: bool) -> str:
    """A program that answers the one question that is asked of an interpreter."""
    path = folder / ("with_vllm" if has_vllm else "without_vllm")
    path.write_text(f"#!/bin/sh\nexit {0 if has_vllm else 1}\n")
    path.chmod(0o755)
    return str(path)


def options(command: list[str]) -> dict[str, str]:
    """Value by option of a command line."""
    return {
        key: value
        for key, value in zip(command, [*command[1:], ""], strict=True)
        if key.startswith("--")
    }


def test_the_engine_imports_neither_vllm_nor_torch():
    code = (
        "import sys, oversight.engines.vllm as v; v.build(v.Config(model='org/m'));"
        "print([m for m in ('vllm', 'torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_line_serves_on_loopback_and_gives_the_distribution_sampled_from():
    command = command_line(Config(model="org/m"), "/usr/bin/python", "org/m", 0, 4321)
    assert command[:3] == ["/usr/bin/python", "-m", "vllm.entrypoints.openai.api_server"]
    given = options(command)
    assert given["--host"] == "127.0.0.1"
    assert given["--port"] == "4321"
    assert given["--logprobs-mode"] == "processed_logprobs"
    assert given["--generation-config"] == "vllm"
    assert "--enable-prompt-tokens-details" in command
    assert not {"--max-model-len", "--block-size", "--tensor-parallel-size"} & set(given)


def test_every_setting_of_the_server_reaches_the_command_line():
    config = Config(
        model="org/m",
        dtype="bfloat16",
        max_model_len=512,
        block_size=64,
        gpu_memory_utilization=0.5,
        kv_cache_gib=0.5,
        logprobs_mode="raw_logprobs",
        extra_args=("--enforce-eager", "--max-num-seqs=8"),
    )
    command = command_line(config, "python", "/models/m", 0, 1)
    given = options(command)
    assert given["--model"] == "/models/m"
    assert given["--served-model-name"] == "org/m"
    assert given["--dtype"] == "bfloat16"
    assert given["--max-model-len"] == "512"
    assert given["--block-size"] == "64"
    assert given["--gpu-memory-utilization"] == "0.5"
    assert given["--kv-cache-memory-bytes"] == str(2**29)
    assert given["--logprobs-mode"] == "raw_logprobs"
    assert command[-2:] == ["--enforce-eager", "--max-num-seqs=8"]


def test_each_replica_sees_its_own_devices_and_is_spread_over_them():
    config = Config(model="org/m", replicas=2, devices=("0,1", "2"))
    environments = [server_environment(config, index, {"HOME": "/h"}) for index in range(2)]
    assert [e["CUDA_VISIBLE_DEVICES"] for e in environments] == ["0,1", "2"]
    assert environments[0]["HOME"] == "/h"
    spread = [options(command_line(config, "p", "m", index, 1)) for index in range(2)]
    assert spread[0]["--tensor-parallel-size"] == "2"
    assert "--tensor-parallel-size" not in spread[1]


@pytest.mark.parametrize("argument", ["--pipeline_parallel_size=2", "-tp=1", "-pp"])
def test_a_spread_that_the_user_gives_is_left_alone(argument):
    config = Config(model="org/m", devices=("0,1",), extra_args=(argument,))
    assert "--tensor-parallel-size" not in command_line(config, "p", "m", 0, 1)


def test_an_inherited_cache_size_does_not_overrule_the_setting():
    base = {"VLLM_CPU_KVCACHE_SPACE": "40"}
    given = Config(model="org/m", kv_cache_gib=1)
    assert "VLLM_CPU_KVCACHE_SPACE" not in server_environment(given, 0, base)
    assert server_environment(Config(model="org/m"), 0, base)["VLLM_CPU_KVCACHE_SPACE"] == "40"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": "org/m", "devices": ["0"], "replicas": 2}, "devices=\\['0'\\] are for 1"),
        ({"model": "org/m", "extra_args": ["--logprobs_mode=x"]}, "may not hold --logprobs-mode"),
        ({"model": "org/m", "replicas": 0}, "engine.replicas = 0"),
        ({"model": "org/m", "replica": 1}, "Did you mean 'replicas'"),
        ({"model": "org/m", "dtype": "int8"}, "engine.dtype = 'int8'"),
        ({"model": ""}, "engine.model = ''"),
        ({}, "'engine.model' is missing"),
    ],
)
def test_bad_settings_are_named(settings, says):
    with pytest.raises(ConfigError, match=says):
        Config.parse(settings, "engine")


def test_what_determines_a_result_is_in_the_identity_and_the_hardware_is_not():
    plain = Config(model="org/m").identity()
    moved = Config(model="org/m", replicas=2, devices=("0", "1"), restarts=0, kv_cache_gib=1)
    assert moved.identity() == plain
    assert Config(model="org/m", dtype="float16").identity() != plain
    assert Config.incidental <= set(Config.model_fields)


# --- the model -----------------------------------------------------------------


def test_a_folder_is_made_absolute(tiny_model, monkeypatch):
    monkeypatch.chdir(tiny_model.parent)
    assert check_model(f"./{tiny_model.name}") == str(tiny_model.resolve())
    assert check_model(tiny_model.name) == str(tiny_model.resolve())


@pytest.mark.parametrize("name", ["gpt2", "org/model-1.5B_x"])
def test_a_hub_name_passes(name):
    assert check_model(name) == name


@pytest.mark.parametrize("model", ["/no/such/folder", "./nothing", "~/nothing", "a/b/c", "../x"])
def test_a_path_to_nothing_is_an_error_before_anything_starts(model):
    with pytest.raises(ConfigError, match="no such folder"):
        check_model(model)


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        check_model(str(tmp_path))


async def test_a_missing_model_is_found_before_a_server_starts(tmp_path):
    engine = vllm.build(Config(model=str(tmp_path / "gone")))
    try:
        with pytest.raises(ConfigError, match="gone"):
            await engine.start()
    finally:
        await engine.aclose()


async def test_a_folder_for_logs_that_cannot_be_made_is_named(tiny_model, tmp_path):
    (tmp_path / "file").touch()
    python = fake_interpreter(tmp_path, has_vllm=True)
    logs = str(tmp_path / "file" / "logs")
    engine = vllm.build(Config(model=str(tiny_model), python=python, log_dir=logs))
    try:
        with pytest.raises(ConfigError, match=r"log_dir = .*file/logs"):
            await engine.generate([])
    finally:
        await engine.aclose()


# --- the interpreter -----------------------------------------------------------


def test_the_interpreter_given_comes_before_the_variable(tmp_path):
    given = fake_interpreter(tmp_path, has_vllm=True)
    assert find_interpreter(given, {PYTHON_VARIABLE: "/nowhere"}) == given


@pytest.fixture
def no_vllm_here(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


@pytest.mark.usefixtures("no_vllm_here")
def test_the_variable_names_the_interpreter_where_this_one_has_no_vllm(tmp_path):
    named = fake_interpreter(tmp_path, has_vllm=True)
    assert find_interpreter(None, {PYTHON_VARIABLE: named}) == named


@pytest.mark.usefixtures("no_vllm_here")
def test_without_any_the_error_says_what_to_install_and_which_variable_to_set():
    with pytest.raises(MissingDependencyError, match=r"oversight\[vllm\].*OVERSIGHT_VLLM_PYTHON"):
        find_interpreter(None, {})


@pytest.mark.usefixtures("no_vllm_here")
def test_an_interpreter_that_is_not_there_or_has_no_vllm_is_an_error(tmp_path):
    with pytest.raises(MissingDependencyError, match="'/nowhere/python': no such program"):
        find_interpreter("/nowhere/python")
    without = fake_interpreter(tmp_path, has_vllm=False)
    with pytest.raises(MissingDependencyError, match=r"OVERSIGHT_VLLM_PYTHON .* has no vLLM"):
        find_interpreter(None, {PYTHON_VARIABLE: without})


def test_a_server_on_a_cpu_reads_each_prompt_in_one_piece_unless_told_otherwise() -> None:
    config = Config(model="org/m")
    flag = "--no-enable-chunked-prefill"
    assert flag in command_line(config, "p", "m", 0, 1, on_cpu=True)
    assert flag not in command_line(config, "p", "m", 0, 1)
    told = Config(model="org/m", extra_args=("--enable-chunked-prefill",))
    assert flag not in command_line(told, "p", "m", 0, 1, on_cpu=True)


LOG = """\
(VllmWorker-0 pid=7) ERROR ValueError: Available memory on node 0 (9.4/18.96 GiB) is less
(EngineCore pid=6) ERROR Exception: WorkerProc initialization failed due to an exception in a \
background process. See stack trace for root cause.
(APIServer pid=5) RuntimeError: Engine core initialization failed. See root cause above.
launcher: the server ended with exit status 1
"""


async def test_a_server_that_did_not_start_is_told_with_the_error_that_began_it(tmp_path):
    log = tmp_path / "replica0.log"
    log.write_text(LOG)
    server = ServerProcess("vllm replica 0", [], {}, "http://127.0.0.1:9", log, 1.0)
    told = server.log_excerpt()
    await server.aclose()
    assert "Cause: (VllmWorker-0 pid=7) ERROR ValueError: Available memory on node 0" in told


CPU = (
    "Available memory on node 0 (9.4/18.96 GiB) on startup is less than desired CPU memory "
    "utilization (0.92, 17.44 GiB). On the CPU backend, the `--gpu-memory-utilization` flag"
)
GPU = (
    "Free memory on device cuda:0 (3.1/79.2 GiB) on startup is less than desired GPU memory "
    "utilization (0.92, 72.8 GiB). Decrease GPU memory utilization"
)
CACHE = (
    "To serve at least one request with the model's max seq len (131072), (14.0 GiB KV cache is "
    "needed, which is larger than the available KV cache memory (3.2 GiB)."
)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (CPU, "Set gpu_memory_utilization = 0.4 in the engine's settings"),
        (CPU, "--set engines.model.settings.gpu_memory_utilization=0.4)"),
        (GPU, "Set gpu_memory_utilization = 0.05 in the engine's settings"),
        (CACHE, "lower max_model_len, in the engine's settings"),
        ("No available memory for the cache blocks. Try", "Raise gpu_memory_utilization (on a"),
    ],
)
async def test_a_server_that_lacks_memory_is_told_with_the_setting_that_helps(
    tmp_path: Path, said: str, told: str
) -> None:
    log = tmp_path / "replica0.log"
    log.write_text(f"(EngineCore pid=6) ERROR ValueError: {said}\nlauncher: ended\n")
    server = ServerProcess("vllm replica 0", [], {}, "http://127.0.0.1:9", log, 1.0)
    excerpt = server.log_excerpt()
    await server.aclose()
    assert told in excerpt.partition(" Last lines:")[0]
