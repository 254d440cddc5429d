"""Models to be trained: read from a folder or a hub name, or made from scratch, and checked.

Checks are made here before a step is taken: the tokenizer fits the model,
a reference has the same vocabulary, and scoring over a trie gives what the
model's own forward pass gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from oversight.errors import ConfigError
from oversight.modeling.contract import switch_off
from oversight.modeling.scoring.checks import check_policy as _check_policy
from oversight.modeling.scoring.checks import (
    check_policy_kind,
    check_scalar_kind,
    check_stored,
    empty_model,
    refusing,
)
from oversight.modeling.scoring.checks import check_scalar as _check_scalar
from oversight.modeling.scoring.policy import PolicyModel, ScalarModel
from oversight.models import check_obtainable, check_whole, resolve
from oversight.train.runs.final import quiet
from oversight.train.settings import LoraSettings, ModelSettings, ScratchSettings

PAD, EOS, SYSTEM, USER, ASSISTANT = "<pad>", "<eos>", "<|system|>", "<|user|>", "<|assistant|>"


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """A byte-level BPE tokenizer of at most `vocab_size` tokens, with a chat template.

    Raises:
        ConfigError: There is no text to learn from.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, EOS, SYSTEM, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    counted = _Counted(texts)
    core.train_from_iterator(counted, trainer)
    if not counted.num:
        raise ConfigError("model.scratch: the data has no text to make a tokenizer from")
    make: Any = PreTrainedTokenizerFast
    tokenizer = make(tokenizer_object=core, pad_token=PAD, eos_token=EOS)
    tokenizer.add_special_tokens({"additional_special_tokens": [SYSTEM, USER, ASSISTANT]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


class _Counted:
    """Texts handed on, and how many there were."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.num = 0

    def __iter__(self) -> Any:
        for text in self._texts:
            if text.strip():
                self.num += 1
                yield text


def random_config(settings: ScratchSettings, tokenizer: Any) -> Any:
    """The transformers configuration of a model of that size for that tokenizer."""
    from transformers import LlamaConfig, Qwen2Config

    kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[settings.architecture]
    return kind(
        # Whole multiples of 64 are what serving engines and matrix kernels like.
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size or 4 * settings.hidden_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        num_key_value_heads=settings.num_key_heads or settings.num_heads,
        max_position_embeddings=settings.max_length,
        initializer_range=settings.init_std,
        tie_word_embeddings=settings.tied,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )


def random_model(kind: Any, config: Any, seed: int) -> Any:
    """A model of class `kind` with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind.from_config(config)


CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer, and what the model it belongs to can take."""

    tokenizer: Any
    size: int
    """Embeddings of the model: every id is below."""
    max_length: int
    """Tokens of prompt and response together."""


def resolve_device(name: str) -> torch.device:
    """The device that `name` stands for; under torchrun each process has its own.

    Raises:
        ConfigError: It cannot be used here.
    """
    import os

    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"model.device = {name!r} cannot be used here: {reason}") from None
    return device


def read_config(settings: ModelSettings, texts: Iterable[str]) -> tuple[Any, Vocabulary]:
    """The model's configuration and vocabulary; reads no weight.

    Args:
        settings: Which model.
        texts: Texts that a new tokenizer is made from, for a model from scratch.

    Raises:
        ConfigError: There is no such model, or its tokenizer does not fit it.
    """
    if settings.scratch is not None:
        tokenizer = (
            train_tokenizer(texts, settings.scratch.vocab_size)
            if settings.tokenizer is None
            else _read("tokenizer", settings.tokenizer, None)
        )
        config = random_config(settings.scratch, tokenizer)
    else:
        tokenizer = _read("tokenizer", str(settings.path), settings.revision)
        config = _read("config", str(settings.path), settings.revision)
    text_config = config.get_text_config()
    if not isinstance(getattr(text_config, "vocab_size", None), int):
        raise ConfigError(
            f"model: a model of type {config.model_type!r} has no vocabulary of token ids; name a "
            "causal language model"
        )
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= text_config.vocab_size:
        raise ConfigError(
            f"model: the tokenizer gives ids up to {largest}, but the model has "
            f"{text_config.vocab_size} embeddings; they do not belong together"
        )
    max_length = getattr(text_config, "max_position_embeddings", None) or 1 << 20
    return config, Vocabulary(tokenizer, text_config.vocab_size, max_length)


def load_policy(settings: ModelSettings, config: Any, seed: int, **kind: Any) -> PolicyModel:
    """The causal language model that `settings` describe, trainable and checked.

    Args:
        settings: Which model, and how it computes.
        config: As `read_config` gave it.
        seed: Of random weights, those of adapters too.
        **kind: Further arguments of `PolicyModel`.

    Raises:
        ConfigError: The weights cannot be read, or the model cannot score a trie.
    """
    from transformers import AutoModelForCausalLM

    check_policy_kind(config, settings.attention)
    model = _weights(settings, AutoModelForCausalLM, config, seed)
    model = adapted(model, settings, "CAUSAL_LM", seed)
    with refusing(config):
        policy = PolicyModel(_prepared(model, settings), **_computing(settings), **kind)
    _check_policy(policy)
    return policy


def load_scalar(settings: ModelSettings, config: Any, seed: int) -> ScalarModel:
    """The sequence-classification model of one label that `settings` describe.

    From a causal language model it takes the layers, and begins with a random head.

    Raises:
        ConfigError: As `load_policy`.
    """
    from transformers import AutoModelForSequenceClassification

    check_scalar_kind(config, settings.attention)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _weights(settings, AutoModelForSequenceClassification, config, seed)
    model = adapted(model, settings, "SEQ_CLS", seed)
    with refusing(config):
        scalar = ScalarModel(_prepared(model, settings), **_computing(settings))
    _check_scalar(scalar)
    return scalar


def frozen(model: Any) -> Any:
    """The same model in eval mode, without gradients: a reference."""
    return model.eval().requires_grad_(False)


def head_alone(model: torch.nn.Module) -> None:
    """Leave nothing of a sequence-classification model to be trained but its linear head."""
    for name, weight in model.named_parameters():
        weight.requires_grad_("score" in name.split("."))


def _read(part: str, name: str, revision: str | None) -> Any:
    from transformers import AutoConfig, AutoTokenizer

    place, source = _place(name, revision, part)
    check_obtainable("model.path", name, revision)
    kind: Any = {"tokenizer": AutoTokenizer, "config": AutoConfig}[part]
    try:
        with quiet():
            return kind.from_pretrained(place, trust_remote_code=False, **source)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise _unreadable(name, part, error) from error


def _place(name: str, revision: str | None, part: str = "model") -> tuple[str, dict[str, Any]]:
    folder = Path(resolve(name)).expanduser()
    if not folder.exists() and (name.startswith(("/", ".", "~")) or name.count("/") > 1):
        raise ConfigError(
            f"model.path = {name!r}: there is no such folder; give the folder of a saved model "
            "(RUN/model of a finished run), or a hub name such as 'organisation/model'"
        )
    if part != "tokenizer":
        check_whole("model.path", name)
    is_enough = part == "tokenizer" and (folder / "tokenizer_config.json").is_file()
    if folder.is_dir() and not is_enough and not is_saved_model(folder):
        inner = folder / "model"
        hint = f" Did you mean its folder {str(inner)!r}?" if is_saved_model(inner) else ""
        raise ConfigError(f"model.path = {name!r}: this folder holds no saved model.{hint}")
    return str(folder) if folder.is_dir() else name, {
        "revision": revision,
        "local_files_only": folder.is_dir(),
    }


def is_saved_model(folder: Path) -> bool:
    """Return whether `folder` is a model's, and not a run's, which has a config.json as well."""
    return (folder / "config.json").is_file() and not (folder / "metrics.jsonl").exists()


def _unreadable(name: str, part: str, error: Exception) -> ConfigError:
    reason = str(error).strip().splitlines()[0]
    return ConfigError(f"model.path = {name!r}: its {part} cannot be read ({reason})")


def _weights(settings: ModelSettings, kind: Any, config: Any, seed: int) -> Any:
    # From scratch, float32; weights kept in less would lose what an optimiser step adds to them.
    if settings.scratch is not None:
        return random_model(kind, config, seed)
    place, source = _place(str(settings.path), settings.revision)
    try:
        with quiet():
            model, report = kind.from_pretrained(
                place,
                config=config,
                dtype=torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
                **source,
            )
    except Exception as error:
        check_stored(place, empty_model(kind, config), f"model.path = {place!r}")
        raise _unreadable(str(settings.path), "weights", error) from error
    _check_complete(report, f"model.path = {str(settings.path)!r}")
    return model


def check_weights(path: str, kind: Any, config: Any, where: str) -> None:
    """Refuse stored weights that a model cannot be read from; reads no more than their headers.

    A name on the hub that is not in a folder is not looked at.

    Raises:
        ConfigError: They are damaged, incomplete, or of another model.
    """
    check_stored(path, empty_model(kind, config), where)
    folder = Path(resolve(path)).expanduser()
    if not folder.is_dir():
        return
    with quiet():
        _, report = kind.from_pretrained(
            str(folder),
            config=config,
            device_map="meta",
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    _check_complete(report, where)


def _check_complete(report: Mapping[str, Any], where: str) -> None:
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("score."))
    if missing:
        raise ConfigError(
            f"{where}: {len(missing)} weights are missing, such as {missing[0]!r}; the checkpoint "
            "belongs to another kind of model"
        )


@contextmanager
def named(path: str | None, where: str) -> Iterator[None]:
    """Lets errors of loading name the setting that a further model stands in.

    Raises:
        ConfigError: One was raised, with `where` in place of `model.path`.
    """
    try:
        yield
    except ConfigError as error:
        text = str(error)
        for given in (path, resolve(str(path))):
            text = text.replace(f"model.path = {given!r}", where)
        raise ConfigError(text if where in text else f"{where}: {text}") from error


def adapted(model: Any, settings: ModelSettings, task: str, seed: int = 0) -> Any:
    """The model with adapters, if the settings ask for them; they begin as `seed` says.

    Raises:
        MissingDependencyError: peft is not installed.
        ConfigError: The adapters do not fit the model.
    """
    if settings.lora is None:
        return model
    # Their start must not depend on what was drawn before, which another process may not draw.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _with_lora(model, settings.lora, task)


def _with_lora(model: Any, settings: LoraSettings, task: str) -> Any:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        from oversight.errors import MissingDependencyError

        raise MissingDependencyError(
            'model.lora needs the package peft: pip install "oversight[lora]"'
        ) from None
    modules = settings.modules
    how = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # any number works
        lora_dropout=settings.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type=task,
    )
    try:
        return get_peft_model(model, how)
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"model.lora.modules = {modules!r}: {reason}") from error


def _prepared(model: Any, settings: ModelSettings) -> Any:
    """On its device, checkpointing if asked, and without dropout but that of adapters."""
    switch_off(model)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if settings.lora is not None:
            model.enable_input_require_grads()
    return model.to(resolve_device(settings.device))


def _computing(settings: ModelSettings) -> dict[str, Any]:
    return {"attention": settings.attention, "precision": getattr(torch, settings.precision)}
