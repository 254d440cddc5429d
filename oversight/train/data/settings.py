"""Settings of the data path: where rows come from, how they become ids, what is left out."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from oversight.config.settings import Settings
from oversight.preferences.settings import PreferenceSettings

FormatName = Literal[
    "auto",
    "pair",
    "implicit_pair",
    "hh",
    "kwise",
    "unpaired",
    "messages",
    "prompt_completion",
    "text",
    "prompt",
]
"""`formats` says which columns each of them has."""

Truncation = Literal["drop", "prompt_left", "response_right"]


class DataSettings(Settings):
    """What to train on."""

    path: str | tuple[str, ...] = ()
    """Files (.jsonl, .json, .parquet), or patterns such as `data/train-*.parquet`."""
    store: str = ""
    """A store's path or URL: its judged debates become preference rows."""
    protocol: str | None = None
    """Of a store: only debates of this protocol."""
    dataset: str | None = None
    """Of a store: only debates about questions of this data set."""
    preferences: PreferenceSettings = PreferenceSettings()
    """Of a store: what counts as a preference."""
    format: FormatName = "auto"
    """What the columns mean; `auto` tells it by their names."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Other names for columns, ours first: `{prompt = "question"}`."""
    max_rows: int | None = Field(default=None, ge=1)
    """Read no more rows than this."""

    ids: Literal["auto", "given", "text"] = "auto"
    """Token ids that come with a row. `given`: they are used, and a row without them is refused.
    `text`: the text is rendered and encoded anew. `auto`: they are used where they decode to the
    row's own text with this tokenizer, else the text is, and it is counted."""
    template: Literal["auto", "always", "never"] = "auto"
    """The chat template. `auto`: for lists of messages and hh-rlhf dialogues, not for plain
    strings. `always`: a plain prompt is a user's message. `never`: messages as plain text."""
    template_args: dict[str, Any] = Field(default_factory=dict)
    """Further values for the chat template."""
    train_on: Literal["responses", "all"] = "responses"
    """SFT: learn the assistant's turns only, or every token but the first."""
    margin: Literal["column", "scores"] = "column"
    """Of a pair: the column `margin` where there is one, or the difference of the two scores."""

    max_length: int | None = Field(default=None, ge=2)
    """Most tokens of prompt and response; None for as many as the model takes."""
    max_prompt_length: int | None = Field(default=None, ge=1)
    """Most tokens of a prompt."""
    truncation: Truncation = "drop"
    """What to do with a row that is too long: leave it out, cut the prompt's beginning, or cut
    the response's end (which then has no EOS). All responses of a prompt keep the same prompt."""
    duplicates: Literal["drop", "keep"] = "drop"
    """What to do with examples of the same content: keep the first, or all."""
    on_bad: Literal["drop", "error"] = "drop"
    """What to do with rows that cannot be used: leave them out and count them, or stop."""

    eval_path: str | tuple[str, ...] = ()
    """Files of the held-out part; rows that share a prompt with it are left out of training."""
    eval_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Or the share of rows to hold out; all rows of a prompt or question stay together."""
    eval_rows: int = Field(default=0, ge=0)
    """Or how many rows to hold out, as nearly as whole prompts and questions allow."""
    split_seed: int = 0
    """Another seed holds out other prompts."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.paths and self.store:
            raise ValueError("give a path or a store, not both")
        if bool(self.eval_paths) + bool(self.eval_fraction) + bool(self.eval_rows) > 1:
            raise ValueError("give one of eval_path, eval_fraction and eval_rows, not several")
        if self.max_length and self.max_prompt_length and self.max_prompt_length >= self.max_length:
            raise ValueError("max_prompt_length must be below max_length, to leave a response room")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The files as a tuple, however they were given."""
        return _as_tuple(self.path)

    @property
    def eval_paths(self) -> tuple[str, ...]:
        """The files of the held-out part."""
        return _as_tuple(self.eval_path)


def _as_tuple(path: str | tuple[str, ...]) -> tuple[str, ...]:
    return ((path,) if path else ()) if isinstance(path, str) else path
