"""How a trainer begins: its processes, its model's configuration, its data, and what a run is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from oversight.train.data.loading import Loaded, require_batch
from oversight.train.data.settings import DataSettings
from oversight.train.data.texts import texts
from oversight.train.distributed import World
from oversight.train.model.loading import Vocabulary, read_config, resolve_device
from oversight.train.runs.folder import About
from oversight.train.settings import TrainSettings
from oversight.train.types import Example

E = TypeVar("E", bound=Example)
Rows = Iterable[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Started:
    """What is known of a run before a weight is read."""

    world: World
    config: Any
    """The model's configuration."""
    vocabulary: Vocabulary

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        return self.vocabulary.tokenizer

    def load(
        self,
        loader: Callable[..., Loaded[E]],
        data: DataSettings,
        batch_size: int,
        rows: Rows | None = None,
    ) -> Loaded[E]:
        """The run's data, checked; `rows` in memory take the place of files."""
        loaded = loader(
            data, self.tokenizer, self.vocabulary.size, self.vocabulary.max_length, rows=rows
        )
        require_batch(loaded, batch_size)
        return loaded


def begin(settings: TrainSettings, data: DataSettings, rows: Rows | None = None) -> Started:
    """Join the run's processes, and read or make the model's configuration and tokenizer."""
    world = World.join(resolve_device(settings.model.device))
    config, vocabulary = read_config(settings.model, _texts(data, rows))
    return Started(world, config, vocabulary)


def about(trainer: str, settings: TrainSettings, loaded: Loaded[Any]) -> About:
    """What the run is, for its folder."""
    return About(
        trainer=trainer,
        config=settings.model_dump(mode="json"),
        identity=settings.identity(),
        data=loaded.fingerprint,
        seed=settings.seed,
        provenance=loaded.to_json(),
    )


def _texts(data: DataSettings, rows: Rows | None) -> Iterator[str]:
    """What a new tokenizer is made from; read only if there is one to be made."""
    yield from texts(data, rows)
