"""Settings that all trainers share: the model, the optimiser, the length and pace of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, JsonValue, model_validator

from oversight.chat import checked_template_args
from oversight.config import Settings
from oversight.preferences.settings import PreferenceSettings
from oversight.train.guard_settings import GuardSettings
from oversight.train.registered import NAMES_ELSEWHERE

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
PairsOf = Literal["all", "best_worst", "adjacent"]

INITIAL, NONE = "initial", "none"
"""References that are no model's name: the policy as it began, or none."""


class DataSettings(Settings):
    """Settings of the training data."""

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
    answers: Literal["compared", "first", "last"] = Field(
        default="compared", exclude_if=lambda each: each == "compared"
    )
    """SFT on a store: the better of responses that were compared; or, of every open prompt, its
    first answer or its last, which critique and revision left, changed or not."""
    format: FormatName = "auto"
    """Meaning of the columns; `auto` tells it by their names."""
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
    """Further values for the chat template, such as `enable_thinking`; an engine that serves the
    finished model needs the same ones."""
    train_on: Literal["responses", "all"] = "responses"
    """SFT: learn the assistant's turns only, or every token but the first."""
    margin: Literal["column", "scores"] = "column"
    """Of a pair: the column `margin` where there is one, or the difference of the two scores."""

    max_length: int | None = Field(default=None, ge=2)
    """Most tokens of prompt and response; None for as many as the model takes."""
    max_prompt_length: int | None = Field(default=None, ge=1)
    """Most tokens of a prompt."""
    truncation: Truncation = "drop"
    """Treatment of a row that is too long: leave it out, cut the prompt's beginning, or cut
    the response's end (which then has no EOS). All responses of a prompt keep the same prompt."""
    duplicates: Literal["drop", "keep"] = "drop"
    """Treatment of examples of the same content: keep the first, or all."""
    on_bad: Literal["drop", "error"] = "drop"
    """Treatment of rows that cannot be used: leave them out and count them, or stop."""

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
        checked_template_args(self.template_args)
        if self.paths and self.store:
            raise ValueError("give a path or a store, not both")
        if self.answers != "compared" and not self.store:
            raise ValueError(f"answers = {self.answers!r} are those of a store: name it")
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


class ScratchSettings(Settings):
    """A small model with random weights and a tokenizer made from the training data."""

    architecture: Literal["llama", "qwen2"] = "llama"
    hidden_size: int = Field(default=128, ge=8)
    num_layers: int = Field(default=4, ge=1)
    num_heads: int = Field(default=4, ge=1)
    num_key_heads: int | None = Field(default=None, ge=1)
    """Heads of keys and values; None for as many as query heads."""
    intermediate_size: int | None = Field(default=None, ge=8)
    """None for four times the hidden size."""
    vocab_size: int = Field(default=2048, ge=300)
    """Of a byte-level BPE tokenizer that is trained on the data."""
    max_length: int = Field(default=2048, ge=16)
    """Positions that the model is made for."""
    init_std: float = Field(default=0.02, gt=0.0)
    """Standard deviation of the weights. Small models from scratch learn to look up with 0.06."""
    tied: bool = False
    """Use one matrix for input and output embeddings."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size is no multiple of num_heads = {self.num_heads}")
        if self.num_heads % (self.num_key_heads or self.num_heads):
            raise ValueError(f"num_heads is no multiple of num_key_heads = {self.num_key_heads}")
        return self


class LoraSettings(Settings):
    """Train low-rank adapters instead of the weights (Hu et al., "LoRA", 2021)."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32.0, gt=0.0)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    modules: str | tuple[str, ...] = "all-linear"
    """Layers to adapt: names as peft takes them."""
    merge: bool = True
    """Save the finished model with the adapters merged into its weights, beside the adapter."""


class ModelSettings(Settings):
    """Settings of the model that is trained, and of its computation."""

    by_content: ClassVar[Mapping[str, str]] = {"path": "model", "tokenizer": "tokenizer"}

    path: str | None = None
    """A folder with a model and its tokenizer, a name on the Hugging Face hub, or `seedling`."""
    revision: str | None = None
    scratch: ScratchSettings | None = None
    """Begin with random weights instead."""
    tokenizer: str | None = None
    """With `scratch`: the tokenizer of this folder or name, instead of a new one."""
    device: str = "auto"
    """`auto` takes an accelerator if there is one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Data type in which the layers compute; weights and sums stay in float32."""
    attention: Literal["auto", "blocks", "dense", "flex"] = "auto"
    router_aux_coefficient: float = Field(default=0.0, ge=0.0)
    """Of a model with experts: times their load-balancing loss (Fedus et al. 2021) is added to the
    loss of the policy or reward model, over all tokens of a step. Models often bring 0.001 to 0.02
    along."""
    gradient_checkpointing: bool = False
    """Compute each layer's activations again in the backward pass instead of keeping them."""
    lora: LoraSettings | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.path is None) == (self.scratch is None):
            raise ValueError("give either path (a trained model) or scratch (random weights)")
        if self.tokenizer is not None and self.scratch is None:
            raise ValueError("tokenizer goes with scratch; a trained model has its own")
        if self.lora is not None and self.scratch is not None:
            raise ValueError("lora adapts a trained model; with scratch there is none")
        return self


Beta = Annotated[float, Field(ge=0.0, lt=1.0)]


class OptimizerSettings(Settings):
    """AdamW and its schedule (Loshchilov and Hutter, 2019)."""

    lr: float = Field(default=1e-5, gt=0.0)
    """Learning rate; 1e-3 where `model.scratch` gives random weights and no rate is given."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0.0)
    weight_decay: float = Field(default=0.0, ge=0.0)
    """On matrices only, not on norms and biases."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    schedule: Literal["constant", "linear", "cosine", "wsd"] = "linear"
    warmup: float = Field(default=0.03, ge=0.0)
    """Steps that the rate rises from 0; below 1, a share of all steps."""
    min_ratio: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of the rate that is left at the end."""


SCRATCH_LR = 1e-3
"""Rate where none is given and weights are random: at one for trained models nothing is learnt."""
SCRATCH_RATES, TRAINED_RATES = (5e-5, 5e-2), (1e-8, 5e-3)
"""Bounds beyond which AdamW leaves random weights as random as they are, or ruins them; and beyond
which it moves trained ones by less than their rounding, or away from all that they know."""


TRACKERS = ("tensorboard", "wandb", "mlflow")
"""Settings that name services which show a run."""


class TrainSettings(Settings):
    """Settings that every trainer takes besides its own."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"out", "keep", *TRACKERS, "save_every", "log_every"}
    )

    out: Path
    """The run's folder."""
    model: ModelSettings
    optimizer: OptimizerSettings = OptimizerSettings()
    batch_size: int = Field(default=16, ge=1)
    """Examples an optimiser step, over all processes."""
    epochs: float = Field(default=1.0, gt=0.0)
    """Passes over the data, unless `steps` is given."""
    steps: int | None = Field(default=None, ge=1)
    """Optimiser steps."""
    shuffle: bool = True
    """Visit examples in a new order each epoch. Off: in the data's own order, for easy ones first,
    or for rows with one beginning to meet in one step, where it is computed once."""
    micro_batch_tokens: int = Field(default=8192, ge=16)
    """Tokens that a process computes at once, shared beginnings counted once; a step's examples
    are cut into as many parts as that takes, and a group that is larger into its rows, which
    changes nothing but the memory. On a CPU, groups that share nothing come in smaller parts still,
    where that is no slower."""
    eval_every: int = Field(default=50, ge=1)
    """Steps between evaluations on the held-out part."""
    save_every: int = Field(default=50, ge=1)
    """Steps between checkpoints."""
    keep: int = Field(default=2, ge=1)
    """Checkpoints kept, besides the best one."""
    log_every: int = Field(default=1, ge=1)
    patience: int | None = Field(default=None, ge=1)
    """Evaluations without a better result after which the run ends early; None: never."""
    seed: int = Field(default=0, ge=0)
    tensorboard: bool = False
    """Write TensorBoard's files into the run's folder."""
    wandb: bool = False
    """Show the run in Weights & Biases, as WANDB_API_KEY, WANDB_PROJECT and WANDB_MODE say."""
    mlflow: bool = False
    """Show the run in MLflow, at MLFLOW_TRACKING_URI, under MLFLOW_EXPERIMENT_NAME."""
    guards: GuardSettings = GuardSettings()

    @model_validator(mode="after")
    def _rate_from_scratch(self) -> Self:
        if self.model.scratch is not None and "lr" not in self.optimizer.model_fields_set:
            changed = self.optimizer.model_copy(update={"lr": SCRATCH_LR})
            object.__setattr__(self, "optimizer", changed)
        return self

    @classmethod
    def name_here(cls, name: str) -> str | None:
        """The dotted setting that users of TRL and transformers mean by `name`."""
        tables = (NAMES_ELSEWHERE.get(kind.__name__, {}) for kind in cls.__mro__)
        return next((table[name] for table in tables if name in table), None)

    def rates(self) -> tuple[str, str, tuple[float, float]]:
        """The name of what learns, its usual rate, and the bounds of those that can work."""
        if self.model.scratch is not None:
            return "random weights", "1e-3", SCRATCH_RATES
        return "a trained model", "1e-5", TRAINED_RATES

    def notes(self) -> tuple[str, ...]:
        """Lines for the person on settings that cannot work, though nothing forbids them."""
        lr, (what, usual, (low, high)) = self.optimizer.lr, self.rates()
        if low <= lr <= high:
            return ()
        does = "hardly moves" if lr < low else "ruins"
        return (f"optimizer.lr = {lr:g} {does} {what}: {usual} is usual for such a start",)

    def unread(self) -> Iterator[tuple[str, str]]:
        """Dotted settings that nothing reads beside the others, each with the reason.

        Trainers add their own. One of these that has another value than its default is refused.
        """
        if self.optimizer.schedule == "constant":
            yield "optimizer.min_ratio", "schedule = 'constant' does not fall"
        if self.model.scratch is not None:
            yield "model.revision", "model.scratch reads no trained model"
        data = getattr(self, "data", None)
        if data is not None and not (data.eval_paths or data.eval_fraction or data.eval_rows):
            yield "patience", "nothing is held out, so there are no results to wait for"

    @model_validator(mode="after")
    def _check_unread(self) -> Self:
        for name, why in self.unread():
            *path, last = name.split(".")
            owner: Any = self
            for part in path:
                owner = owner[part] if isinstance(owner, Mapping) else getattr(owner, part)
            value = getattr(owner, last)
            if value != type(owner).model_fields[last].get_default(call_default_factory=True):
                raise ValueError(f"{name} = {value!r} is read by nothing: {why}; leave it out")
        return self


class SFTSettings(TrainSettings):
    """Settings of an SFT run."""

    data: DataSettings
    per_sequence: bool = False
    """Let each response count the same instead of each token."""

    def unread(self) -> Iterator[tuple[str, str]]:
        """Settings that nothing reads beside the others, each with the reason."""
        yield from super().unread()
        yield "data.margin", "SFT learns one response a row"


class RewardModelSettings(TrainSettings):
    """Settings of a reward model's run."""

    by_content: ClassVar[Mapping[str, str]] = {"loss": "function"}

    data: DataSettings
    loss: str = "bradley_terry"
    """The name of a reward loss (below), or your own, as "file.py:function"."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """The loss's own, such as `centring` or `label_smoothing`."""
    soft_labels: bool = True
    """Learn the probabilities that judges gave, and not only who won."""
    pairs_of: PairsOf = "all"
    """The pairs of a ranking that are compared (not with plackett_luce, which takes it whole)."""
    members: int = Field(default=1, ge=1, le=64)
    """Models of an ensemble: each is a run of its own, in OUT/member-1 and so on."""
    trains: Literal["model", "head"] = "model"
    """`head`: only the last linear map from a state to the reward, while the layers stay those of
    `model.path`. So several groups of raters have heads of their own on one trunk."""

    @model_validator(mode="after")
    def _has_a_trunk(self) -> Self:
        if self.trains == "head" and self.model.scratch is not None:
            raise ValueError(
                "trains = 'head' learns a head on the layers of a trained model, and model.scratch "
                "gives random ones; give model.path, or leave trains out"
            )
        return self

    def rates(self) -> tuple[str, str, tuple[float, float]]:
        """A linear map bears the rates of random weights."""
        return super().rates() if self.trains == "model" else ("a head", "1e-2", SCRATCH_RATES)

    def unread(self) -> Iterator[tuple[str, str]]:
        """Settings that nothing reads beside the others, each with the reason."""
        yield from super().unread()
        yield "data.train_on", "a reward model reads each response as a whole"
        if self.trains == "head":
            for name in ("lora", "gradient_checkpointing", "router_aux_coefficient"):
                yield f"model.{name}", "trains = 'head' leaves all layers as they are"


class DPOSettings(TrainSettings):
    """Settings of a DPO run."""

    by_content: ClassVar[Mapping[str, str]] = {"reference": "reference", "loss": "function"}

    data: DataSettings
    loss: str = "sigmoid"
    """The name of a loss of pairs or, for labelled single responses, of an unpaired one, both
    below; or your own, as "file.py:function"."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """The loss's own, such as `beta` or `label_smoothing`."""
    reference: str = "initial"
    """`initial`: the policy as it was before training. `none`: a uniform one. Or a model."""
    precompute: bool = True
    """Score all rows by the reference once, before training, and keep that by content hash."""
    sft_weight: float = Field(default=0.0, ge=0.0)
    """Of an added likelihood term on the chosen responses (Pang et al. 2024)."""
    length_alpha: float = Field(default=1.0, ge=0.0, le=1.0)
    """Weight of tokens beyond the shorter response's length (LD-DPO, Liu et al. 2024)."""
    weighted: bool = False
    """Weigh pairs by how likely the policy is to say them, beside what it would say itself (WPO,
    Zhou et al. 2024, eq. 2)."""
    soft_labels: bool = True
    """Learn the probabilities that judges gave, and not only who won."""
    pairs_of: PairsOf = "all"
    """The pairs of a ranking that are compared."""

    def unread(self) -> Iterator[tuple[str, str]]:
        """Settings that nothing reads beside the others, each with the reason."""
        yield from super().unread()
        yield "data.train_on", "DPO learns from responses"
        yield "data.margin", "no loss of DPO's family takes a margin from the rows"
