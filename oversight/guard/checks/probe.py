"""A probe on the hidden states of a model that runs in this process.

The probe is one that `oversight.interp.probes` fitted and saved. Request and answer are read by the
model's own weights, at the place that the probe was fitted to, and its log-odds become the score: a
second reading of the words beside the one that wrote them, which costs a forward pass over them.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from oversight.config import Settings
from oversight.errors import ConfigError, OversightError
from oversight.guard.checks.base import GuardedExchange, Score, Surroundings, WholeCheck
from oversight.guard.checks.judge import plain_messages
from oversight.models import content_name, content_of, resolve
from oversight.types import Message, Prompt

if TYPE_CHECKING:
    from oversight.chat.prompt_ids import ChatIds
    from oversight.interp.probes import FittedProbe
    from oversight.interp.reading import SiteReader

IN_PROCESS = "transformers"
"""The engine whose model runs in this process, weights and all."""


class Config(Settings):
    """A probe, and the model that it reads."""

    model: str = Field(min_length=1)
    """A name under [upstreams] or [engines] of the guard's file."""
    probe: Path
    """File that `FittedProbe.save` wrote, of that model and its tokenizer."""
    site: str = ""
    """Place that is read, such as "residual.2"; empty: the one that the probe was fitted to, which
    another is refused beside."""
    read: Literal["last", "mean"] = "last"
    """Tokens that are read: the last one, or the mean over all. Of an output they are the answer's,
    of an input the request's. A probe that pools reads all."""
    threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Probability of the probe's label from which on something is found."""


class ProbeCheck(WholeCheck):
    """Scores request and answer by a probe; the model is read with the first of them."""

    def __init__(self, config: Config, place: str, probe: FittedProbe) -> None:
        """Take a probe that is known to be of the model.

        Args:
            config: The settings.
            place: Folder or name of the model.
            probe: Of that model.
        """
        self.threshold = config.threshold
        self.reads = config.model
        """Name of the model in the guard's file."""
        self._config, self._place, self._probe = config, place, probe
        self._loaded: tuple[SiteReader, ChatIds] | None = None
        self._one_at_a_time = asyncio.Lock()

    async def examine(self, exchange: GuardedExchange) -> Score:
        """The probability of the probe's label.

        Raises:
            ConfigError: The model cannot be read, or has no such place.
        """
        async with self._one_at_a_time:
            odds = await asyncio.to_thread(self._log_odds, exchange)
        value = 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, odds))))
        return Score(value, f"{self._probe.name} at {self._probe.about['site']}: {odds:.2f}")

    def _log_odds(self, exchange: GuardedExchange) -> float:
        import numpy as np

        from oversight.interp.probes import ProbeData
        from oversight.modeling.scoring.sites import Site

        reader, chat = self._loaded = self._loaded or self._load()
        messages = plain_messages(exchange.messages) or [Message(role="user", parts=("",))]
        prompt = Prompt(messages=tuple(messages))
        ids = np.asarray(chat.prompt_ids(prompt))
        start = 0
        if exchange.output is not None:
            answer = np.asarray(chat.choice_ids(prompt, exchange.output), dtype=ids.dtype)
            # An answer without a token is read where it would begin.
            start = len(ids) if len(answer) else len(ids) - 1
            ids = np.concatenate([ids, answer])
        is_pooled = self._probe.query_E is not None or self._config.read == "mean"
        at = np.arange(start if is_pooled else len(ids) - 1, len(ids))
        site = Site.parse(str(self._probe.about["site"]))
        [tensors] = reader.read([ids], [site], [at])
        tokens_PE = tensors[site].flatten(1).double().cpu().numpy()
        data = ProbeData(tokens_PE.mean(0)[None], np.zeros(1, dtype=bool), tokens=[tokens_PE])
        return float(self._probe.score(data)[0])

    def _load(self) -> tuple[SiteReader, ChatIds]:
        from transformers import AutoTokenizer

        from oversight.chat.prompt_ids import ChatIds
        from oversight.interp.reading import SiteReader

        reader = SiteReader.load(self._place)
        tokenizer = AutoTokenizer.from_pretrained(resolve(self._place), local_files_only=True)
        return reader, ChatIds(tokenizer)

    async def prepare(self) -> None:
        """Load the model and read a first exchange, so that a wrong place is told at once."""
        try:
            await self.examine(GuardedExchange([{"role": "user", "content": "Hello."}], "Hello."))
        except (OversightError, ValueError) as error:
            raise ConfigError(
                f"probe = {str(self._config.probe)!r} cannot be applied to model "
                f"{self._config.model!r}: {str(error)[:300]}"
            ) from error

    async def aclose(self) -> None:
        """Let the model go."""
        self._loaded = None


def build(config: Config, around: Surroundings) -> ProbeCheck:
    """The check of a probe.

    Raises:
        ConfigError: The model does not run in this process, the probe is of another model, another
            tokenizer or another place, or does not say of which; names it.
        DataError: The file holds no probe.
    """
    from oversight.interp.probes import FittedProbe

    spec = around.spec(config.model, "settings")
    if spec is None or spec.engine != IN_PROCESS:
        runs = "on a server" if spec is None else f"by the engine {spec.engine!r}"
        raise ConfigError(
            f"settings.model = {config.model!r} runs {runs}, and a probe reads the hidden states "
            f"of a model that runs in this process: name one with engine = {IN_PROCESS!r}"
        )
    place = str(spec.settings["model"])
    probe = FittedProbe.read(
        config.probe, model=content_name(place), tokenizer=content_of(place, "tokenizer")
    )
    missing = [name for name in ("model", "site") if not probe.about.get(name)]
    if missing:
        raise ConfigError(
            f"settings.probe = {str(config.probe)!r} does not say of which {missing[0]} it is; "
            "save it with `about`, as interp.evaluation.study does"
        )
    if config.site and config.site != probe.about["site"]:
        raise ConfigError(
            f"settings.site = {config.site!r}, and {str(config.probe)!r} was fitted to "
            f"{probe.about['site']!r}; leave it out, or fit one there"
        )
    return ProbeCheck(config, place, probe)
