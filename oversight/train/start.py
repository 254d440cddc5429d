"""Start of a trainer: its processes, its model's configuration, its data, its description."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from oversight.errors import ConfigError
from oversight.modeling.contract import switch_of
from oversight.modeling.scoring.attention import choose_back_end
from oversight.text.terminal import tell
from oversight.train.data.examples import fingerprint, fingerprint_before
from oversight.train.data.files import Row, texts
from oversight.train.data.loading import LoadedExamples, require_batch
from oversight.train.distributed import World
from oversight.train.experts import check_experts
from oversight.train.loading import Vocabulary, read_config, resolve_device
from oversight.train.runs.checkpoints import check_fingerprint
from oversight.train.runs.final import check_before_training
from oversight.train.runs.folder import MODEL, RunDescription, describe_settings
from oversight.train.runs.state import seed_all
from oversight.train.settings import DataSettings, ModelSettings, TrainSettings
from oversight.train.types import Example

E = TypeVar("E", bound=Example)
Rows = Sequence[Row]
"""Rows or records in memory; they are read more than once."""


@dataclass(frozen=True, slots=True)
class RunStart:
    """All that is known of a run before a weight is read."""

    world: World
    config: Any
    """The model's configuration."""
    vocabulary: Vocabulary
    notes: tuple[str, ...] = ()
    """Notes about the model, for the person."""
    tells: bool = True
    """True if the loading of models is shown on stderr."""

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.vocabulary.tokenizer

    def load(
        self,
        loader: Callable[..., LoadedExamples[E]],
        data: DataSettings,
        batch_size: int,
        rows: Rows | None = None,
        *,
        room: int = 0,
    ) -> LoadedExamples[E]:
        """The run's data, shown and checked.

        Args:
            loader: Of the data path.
            data: Its settings.
            batch_size: No fewer examples than that are enough.
            rows: Rows in memory, in place of files.
            room: Tokens that are left free behind each example, for a response to be sampled.

        Raises:
            DataError: There are too few examples, or rows that `data.on_bad` says to refuse.
        """
        positions = self.vocabulary.max_length
        if room and (switch := switch_of(self.config)) is not None:
            # Past it a response would be scored by other angles than it was sampled by.
            positions = min(positions, switch)
        longest = positions - room
        if longest < 2:
            raise ConfigError(
                f"sampling.max_new_tokens = {room} leaves no room for a prompt: the model has "
                f"{positions} positions"
                + (" before its rotary angles change" * (positions < self.vocabulary.max_length))
            )
        loaded = loader(data, self.tokenizer, self.vocabulary.size, longest, rows=rows)
        require_batch(loaded, batch_size)
        if self.world.is_first and self.tells:
            tell([*loaded.lines(), *self.notes])
        return loaded


def begin(
    settings: TrainSettings,
    data: DataSettings,
    rows: Rows | None = None,
    world: World | None = None,
) -> RunStart:
    """Join the run's processes, and read or make the model's configuration and tokenizer.

    Args:
        settings: Of the run.
        data: Its data, of which a new tokenizer is made.
        rows: Rows in memory, in place of files.
        world: The processes, where they have been joined already.
    """
    world = world or World.join(resolve_device(settings.model.device))
    choose_back_end(settings.model.attention, world.device)
    seed_all(settings.seed)
    config, vocabulary = _read(settings.model, _texts(data, rows))
    check_before_training(vocabulary.tokenizer, config)
    notes = (*settings.notes(), *check_experts(settings.model, config))
    return RunStart(world, config, vocabulary, notes)


def _read(settings: ModelSettings, found: Iterator[str]) -> tuple[Any, Vocabulary]:
    """As `read_config`, whose errors speak of a model's path whatever it reads.

    Raises:
        ConfigError: It names the setting that the folder or name stands in.
    """
    try:
        return read_config(settings, found)
    except ConfigError as error:
        # Of a model from scratch nothing is read but the tokenizer.
        if settings.tokenizer is None:
            raise
        reason = str(error).removeprefix(f"model.path = {settings.tokenizer!r}: ")
        raise ConfigError(f"model.tokenizer = {settings.tokenizer!r}: {reason}") from error


def about(trainer: str, settings: TrainSettings, loaded: LoadedExamples[Any]) -> RunDescription:
    """Return the run's description, for its folder."""
    described = describe_settings(settings)
    return RunDescription(
        trainer=trainer,
        config=settings.model_dump(mode="json"),
        identity=described["config"],
        data=loaded.fingerprint,
        data_before=fingerprint_before(loaded.examples),
        seed=settings.seed,
        provenance=loaded.to_json(),
        held_out=fingerprint(loaded.eval_examples),
        contents=described["contents"],
        defaults=described["defaults"],
    )


def finished_model(
    trainer: str, settings: TrainSettings, loaded: LoadedExamples[Any], *, resume: bool
) -> Path | None:
    """The finished model of a run that is resumed after its end; None of any other.

    Raises:
        CheckpointError: The finished run had other settings or data.
    """
    if not (resume and (settings.out / MODEL).is_dir()):
        return None
    try:
        saved = json.loads((settings.out / "config.json").read_text(encoding="utf-8"))
        before = saved["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no run of ours: the folder is refused where it is opened
    check_fingerprint(settings.out, before, about(trainer, settings, loaded).fingerprint())
    return settings.out / MODEL


def _texts(data: DataSettings, rows: Rows | None) -> Iterator[str]:
    """Return the texts that a new tokenizer is made from; read only if there is one to be made."""
    yield from texts(data, rows)
