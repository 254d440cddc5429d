"""Any Hugging Face causal language model, in this process.

Requests of all debates run in one continuous batch, and what earlier prompts
have computed is not computed again. A caller can rely on this:

- The prompt is the tokenizer's chat template (or, where it has none, the plain
  rendering of `oversight.chat.plain_text`), encoded once. Nothing that
  stands in a message becomes a control token.
- `token_ids` are what was sampled, EOS included. `text` is their decoding
  without special tokens but those that mark thoughts, cut before the first stop string.
- `logprobs` are of the distribution sampled from: after temperature and top-p,
  or the model's own where temperature is 0. `top` is the model's own always.
- With `choices`, `max_tokens` and `stop` are set aside. Each choice is scored
  by the sum of its tokens' log-probabilities (no EOS added), one is drawn from
  the softmax of these sums over the temperature, and `logprobs` are the model's
  own. The first place of `top` holds the choices' first tokens besides the
  likeliest ones.
- The same request with the same seed gives the same tokens whatever else is in
  the batch, up to the rounding of the model's own arithmetic, which depends on
  the shape of a batch (about 1e-6 in float32, more in bfloat16). Over some ten
  thousand tokens that is one drawn otherwise; `dtype = "float64"` has the error
  so far below what a token hangs on that a run repeats, at twice the time.
- A streamed piece holds whole characters only. A character that the end of the
  answer cuts through is one replacement character, as in `text`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, JsonValue, ValidationInfo, field_validator

from oversight.chat import checked_template_args
from oversight.config import Settings
from oversight.engines import all_at_once
from oversight.engines.transformers.sequence import Job, ModelThread
from oversight.errors import ConfigError
from oversight.models import check_obtainable, check_whole, content_name, is_content_name, resolve
from oversight.types import Capabilities, Chunk, Completion, Request

if TYPE_CHECKING:
    from oversight.engines.transformers.batching import SequenceBatch

NAME = "transformers"
WORK = ("num_passes", "num_tokens", "num_padding", "num_kept_tokens")


class Config(Settings):
    """Model, device, precision, and how much runs at the same time."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"device", "max_batch_size", "max_batch_tokens", "kv_cache_tokens", "num_threads"}
    )

    model: str = Field(min_length=1)
    """A folder with a model and its tokenizer, a name on the Hugging Face hub, or `seedling`."""
    revision: str | None = None
    """Branch, tag or commit on the hub; None for its main branch, and for a folder."""
    device: str = "auto"
    """`auto` takes an accelerator if there is one; else a name such as `cpu` or `cuda:1`."""
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16"] = "auto"
    """`auto` takes the type that the weights were saved in; `float64` lets samples repeat exactly
    whatever else is in the batch, for small models on a CPU."""
    chat: Literal["auto", "plain"] = "auto"
    """`plain` leaves the tokenizer's chat template aside."""
    template_args: dict[str, JsonValue] = Field(default_factory=dict)
    """Further values for the chat template, such as `reasoning_effort`."""
    enable_thinking: bool | None = Field(default=None, exclude_if=lambda value: value is None)
    """Given to the chat template, by which those of many models turn thoughts off and on."""
    max_model_len: int | None = Field(default=None, ge=2)
    """Tokens of prompt and answer together; None for what the model was made for."""
    max_batch_size: int = Field(default=32, ge=1)
    """Sequences that run at the same time; others wait."""
    max_batch_tokens: int = Field(default=65_536, ge=2)
    """Sequences in the batch times the longest of them, which bounds its keys and values."""
    kv_cache_tokens: int = Field(default=65_536, ge=0)
    """Tokens of earlier prompts and answers whose keys and values are kept for reuse."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads that the model runs on; None for what torch takes by itself."""

    @field_validator("template_args")
    @classmethod
    def _check_template_args(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        checked_template_args(value)
        return value

    @field_validator("enable_thinking")
    @classmethod
    def _check_thinking(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        given = info.data.get("template_args", {})
        if value is not None and "enable_thinking" in given:
            raise ValueError(f"template_args = {given!r} stands beside it: set one of them")
        return value

    def identity(self) -> dict[str, Any]:
        """As of all settings; a model in a folder is what it holds, and not where it is."""
        return super().identity() | {"model": content_name(self.model)}


def build(config: Config) -> TransformersEngine:
    """An engine that loads its model with the first request.

    Raises:
        ConfigError: The model is a folder that is not there or holds no model, or a folder is
            given with a revision.
    """
    _check_folder(config)
    return TransformersEngine(config)


def check(config: Config) -> None:
    """Refuse a model that is nowhere.

    Raises:
        ConfigError: It is no folder with a model, and cannot be had from the hub.
    """
    _check_folder(config)
    check_obtainable(f"engine.{NAME}.model", config.model, config.revision)
    check_whole(f"engine.{NAME}.model", config.model)


class TransformersEngine:
    """Runs a model in a thread of its own; its methods may be called from any event loop."""

    name = NAME
    capabilities = Capabilities(logprobs=True, choices=True)

    def __init__(self, config: Config) -> None:
        self.model = content_name(config.model)
        self._thread = ModelThread(partial(_load, config, self.model))
        self._in_flight: dict[str, list[Job]] = {}

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of `requests`, computed in one batch.

        Raises:
            ConfigError: The model or its tokenizer cannot be used.
            EngineRefusedError: A request does not fit the model, or asks for what there is not.
            EngineError: The model could not answer; the message says which request.
        """
        return await all_at_once(map(self._answer, requests))

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """The completion piece by piece; the last chunk carries it whole.

        Raises:
            EngineError: As `generate`.
        """
        loop = asyncio.get_running_loop()
        news: asyncio.Queue[str | Completion | Exception] = asyncio.Queue()
        put = partial(_call_in, loop, news.put_nowait)
        job = Job(request, on_text=put, on_done=put)
        with self._submitted(job):
            while isinstance(item := await news.get(), str):
                yield Chunk(text=item, opened=job.opened)
            if isinstance(item, Exception):
                raise item
            yield Chunk(text="", completion=item)

    async def cancel(self, request_id: str) -> None:
        """End a request in flight; it returns what it has, with finish reason CANCELLED."""
        for job in self._in_flight.get(request_id, ()):
            job.cancelled = True

    async def aclose(self) -> None:
        """Give the model's memory back; requests in flight end with an EngineError."""
        await asyncio.to_thread(self._thread.close)

    def work(self) -> dict[str, int]:
        """Counts since the model was loaded: forward passes, tokens computed and padding of all
        passes, and tokens kept for reuse now; all 0 before."""
        batch = self._thread.batch
        return batch.work() if batch else dict.fromkeys(WORK, 0)

    async def _answer(self, request: Request) -> Completion:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Completion] = loop.create_future()
        with self._submitted(Job(request, None, partial(_call_in, loop, partial(_settle, done)))):
            return await done

    @contextlib.contextmanager
    def _submitted(self, job: Job) -> Iterator[None]:
        """A job in flight; it leaves the batch if the caller goes before it is done."""
        self._thread.submit(job)
        self._in_flight.setdefault(job.request.id, []).append(job)
        try:
            yield
        finally:
            job.cancelled = True
            jobs = self._in_flight[job.request.id]
            jobs.remove(job)
            if not jobs:
                del self._in_flight[job.request.id]


def _call_in(loop: asyncio.AbstractEventLoop, take: Callable[[Any], None], item: Any) -> None:
    """Hand `item` over to a loop's own thread; dropped if that loop is closed by now."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(take, item)


def _settle(done: asyncio.Future[Completion], item: Completion | Exception) -> None:
    if done.done():
        return
    if isinstance(item, Exception):
        done.set_exception(item)
    else:
        done.set_result(item)


def _check_folder(config: Config) -> None:
    """A model that is written as a folder must be one."""
    model = config.model
    folder = Path(resolve(model)).expanduser()
    is_path = model.startswith(("/", "./", "../", "~")) or model in (".", "..")
    if is_content_name(model):
        raise ConfigError(
            f"engine.transformers.model = {model!r} says what a model holds and not where it is: "
            "describe an engine with its folder, under [engines]"
        )
    if not folder.exists() and (is_path or model.count("/") > 1):
        raise ConfigError(
            f"engine.transformers.model = {model!r}: there is no such folder; give the folder of a "
            "saved model, or a hub name such as 'organisation/model'"
        )
    if folder.is_file():
        raise ConfigError(
            f"engine.transformers.model = {model!r}: a file; give the folder it is in"
        )
    if folder.is_dir() and config.revision is not None:
        raise ConfigError(
            f"engine.transformers.revision = {config.revision!r}: {model!r} is a folder, which has "
            "no revisions; leave it out"
        )
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ConfigError(
            f"engine.transformers.model = {model!r}: this folder holds no config.json, so it is no "
            "saved model"
        )


def _load(config: Config, name: str) -> SequenceBatch:
    """The model with its batch; called in the engine's thread."""
    import torch

    from oversight.chat.prompt_ids import ChatIds
    from oversight.engines.transformers.batching import Name, SequenceBatch
    from oversight.engines.transformers.loading import load_model
    from oversight.engines.transformers.sequence import BatchLimits, Intake

    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    place = resolve(config.model)
    loaded = load_model(
        place, config.revision, config.device, config.dtype, config.max_batch_tokens
    )
    template_args = dict(config.template_args)
    if config.enable_thinking is not None:
        template_args["enable_thinking"] = config.enable_thinking
    chat = ChatIds(loaded.tokenizer, config.chat == "plain", template_args)
    limits = BatchLimits(
        _max_model_len(config, loaded.max_len), config.max_batch_size, config.max_batch_tokens
    )
    intake = Intake(loaded.tokenizer, chat, limits)
    return SequenceBatch(loaded, intake, limits, config.kv_cache_tokens, Name(NAME, name))


def _max_model_len(config: Config, made_for: int | None) -> int | None:
    if config.max_model_len is None or made_for is None:
        return config.max_model_len or made_for
    if config.max_model_len > made_for:
        raise ConfigError(
            f"engine.transformers.max_model_len = {config.max_model_len}: the model was made for "
            f"{made_for} tokens; give at most that, or leave it out"
        )
    return config.max_model_len
