"""Tiny models of every type that transformers knows, with weights that let small terms show.

Sizes are set by the names of a configuration's fields: whatever a configuration calls its hidden
size, it becomes 64. What that does not fit stands in `OVERRIDES`, one entry a model type. Windows
become 16 tokens, so that rows of some forty tokens pass them.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import torch
import transformers
from sizes import (
    COUNTS_OF_LAYERS,
    DROPOUTS,
    EMBEDDINGS,
    EOS,
    FACTORS,
    FIRST_ID,
    KINDS_OF_LAYERS,
    MULTIPLIERS,
    NEEDED,
    OVERRIDES,
    PAD,
    PARTS,
    SIZES,
    SWITCH,
    VARIANTS,
    VOCAB,
    WHERE_NONE,
)
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

CAUSAL = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
CLASSIFIERS = tuple(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A row of the table: a model type, and how its configuration departs from the default."""

    name: str
    model_type: str
    overrides: dict[str, Any]


def kinds() -> list[Kind]:
    """All rows of the table, in the order of their names."""
    types = sorted(set(CAUSAL) | set(CLASSIFIERS))
    found = [Kind(name, name, OVERRIDES.get(name, {})) for name in types]
    found += [
        Kind(name, of, OVERRIDES.get(of, {}) | changes) for name, (of, changes) in VARIANTS.items()
    ]
    return sorted(found, key=lambda kind: kind.name)


def small_config(kind: Kind) -> Any:
    """The configuration of a kind, small."""
    return _small(CONFIG_MAPPING[kind.model_type], kind.overrides)


def _small(config_class: Any, overrides: dict[str, Any]) -> Any:
    default = config_class(**{k: v for k, v in overrides.items() if k in NEEDED})
    fields = {name: value for name, value in vars(default).items() if not name.startswith("_")}
    given: dict[str, Any] = {
        name: value
        for name, value in SIZES.items()
        if name in fields and (fields[name] is not None or name in WHERE_NONE)
    }
    for name, value in fields.items():
        if isinstance(value, float) and any(part in name for part in DROPOUTS):
            given[name] = 0.1
        if isinstance(value, transformers.PretrainedConfig):
            given[name] = _small(type(value), overrides.get(name, {}))
        if value == 1.0 and isinstance(value, float) and any(part in name for part in FACTORS):
            given[name] = 0.7
        if name in ("mlp_multipliers", "ssm_multipliers"):
            given[name] = [0.7] * len(value)
        if name == "rope_parameters" and isinstance(value, dict):
            given[name] = _short_regimes(value)
    if "qk_rope_head_dim" in fields:
        # Latent attention has no groups of heads.
        given["num_key_value_heads"] = given["num_attention_heads"]
    given |= {k: v for k, v in overrides.items() if not isinstance(given.get(k), PARTS)}
    return config_class(**given | _layers(config_class, fields, given, overrides))


def _layers(config_class: Any, fields: Any, given: Any, overrides: Any) -> dict[str, Any]:
    """Settings for the number and kinds of layers: each kind twice, or once if there are many."""
    listed = {
        name: list(dict.fromkeys(fields[name]))
        for name in KINDS_OF_LAYERS
        if name not in overrides
        and isinstance(fields.get(name), list | tuple)
        and fields[name]
        and not isinstance(getattr(config_class, name, None), property)
    }
    count = next((name for name in COUNTS_OF_LAYERS if name in given), None)
    number = given.get(count, 2)
    if count not in overrides:
        most = max((len(kinds) for kinds in listed.values()), default=1)
        number = max(number, 2 * most if most < 3 else most) if most > 1 else number
    found: dict[str, Any] = {} if count is None else {count: number}
    found |= {n: [kinds[i % len(kinds)] for i in range(number)] for n, kinds in listed.items()}
    for name in ("intermediate_size", "activation_sparsity_pattern"):
        if isinstance(fields.get(name), list):
            found[name] = [96 if name == "intermediate_size" else 0.0] * number
    return {name: value for name, value in found.items() if name not in overrides}


def _short_regimes(rope: dict[str, Any]) -> dict[str, Any]:
    """Rotary parameters whose switches come early."""
    changed = {k: _short_regimes(v) if isinstance(v, dict) else v for k, v in rope.items()}
    if "original_max_position_embeddings" in rope:
        changed["original_max_position_embeddings"] = SWITCH
    if "max_position_embeddings" in rope:
        changed["max_position_embeddings"] = 512
    return changed


def random_model(
    auto: Any, config: Any, multiplier: float, embeddings: bool = True, seed: int = 0
) -> Any:
    """A model with random weights: matrices times `multiplier`, constants with noise."""
    torch.manual_seed(seed)
    model = auto.from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point() or not tensor.numel():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim < 2 or (tensor == tensor.flatten()[0]).all():
                tensor.add_(0.1 * noise)
            elif embeddings or not any(part in name for part in EMBEDDINGS):
                tensor.mul_(multiplier)
    return model


def tokenizer(kind: Kind) -> Any:
    """A byte-level tokenizer of fewer ids than the models have embeddings, with their padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<pad>", "<s>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(["the key was in the kitchen at noon"] * 20, trainer)
    pad = {PAD: "<pad>", EOS: "</s>", None: None}[kind.overrides.get("pad_token_id", PAD)]
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, bos_token="<s>", eos_token="</s>"
    )


def classifier_config(kind: Kind) -> Any:
    """The configuration of a kind as a reward model."""
    config = small_config(kind)
    config.num_labels = 1
    if getattr(config, "is_decoder", False):
        config.is_decoder = False
    return config


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds that a random model has to keep so that a fault shows and rounding does not."""

    noise: float
    """At most so far does rounding move a logit, relative to the largest or to `MOST_SCALE`."""
    change: float
    """At least so far does another token five places back move the last logits."""
    embeddings: bool = True
    """Whether embeddings are multiplied as well."""


MOST_SCALE = 10.0
LIMITS = (
    Limits(1e-5, 1e-2),
    Limits(1e-5, 1e-2, embeddings=False),
    Limits(1e-4, 1e-2),
    Limits(1e-5, 2e-3),
    Limits(1e-5, 2e-3, embeddings=False),
)
"""The first that can be kept."""


class NotBuiltError(Exception):
    """There is no such model here; the message says why."""


def save(kind: Kind, auto: Any, folder: Path, tokenizer: Any) -> float:
    """Save a model of a kind with its tokenizer; gives the rounding error of its logits in float32.

    Weights are multiplied by as much as keeps that error small.

    Raises:
        NotBuiltError: transformers does not make it from its configuration, or not of numbers.
    """
    for limits in LIMITS:
        for multiplier in MULTIPLIERS:
            try:
                is_causal = auto is AutoModelForCausalLM
                config = small_config(kind) if is_causal else classifier_config(kind)
                model = random_model(auto, config, multiplier, limits.embeddings)
                how = {"use_cache": False} if is_causal else {}
                noise, change, scale = _noise_and_change(model, how)
            except Exception as error:
                reason = f"{type(error).__name__}: {str(error).strip()[:200]}"
                raise NotBuiltError(reason) from error
            if noise <= limits.noise * min(scale, MOST_SCALE) and change >= limits.change:
                model.save_pretrained(folder)
                if type(model.config) is not type(config):
                    config.save_pretrained(folder)  # of which it is the text part
                tokenizer.save_pretrained(folder)
                return noise
    raise NotBuiltError("its logits depend too little on its input, or too much on rounding")


def read(auto: Any, folder: Path) -> Any:
    """The model of a folder as transformers reads it.

    Raises:
        NotBuiltError: It cannot, or not with all weights.
    """
    try:
        model, report = auto.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise NotBuiltError(f"transformers cannot read it back: {reason}") from error
    if missing := sorted(report["missing_keys"]):
        raise NotBuiltError(f"transformers reads it back without {missing[0]!r}")
    return model.eval()


@torch.no_grad()
def _noise_and_change(model: Any, how: dict[str, Any]) -> tuple[float, float, float]:
    """Noise, change and scale of a model's logits.

    Noise is the farthest that rounding moves a logit; change, the farthest that another token
    five places back moves one of the last logits, relative to the scale; scale, 1 plus the largest.
    """
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(FIRST_ID, VOCAB, (1, 60), generator=generator)
    ids[0, -1] = EOS
    other_ids = ids.clone()
    other_ids[0, -6] = FIRST_ID + (ids[0, -6] - FIRST_ID + 7) % 100
    single = model(input_ids=ids, **how).logits
    change = (
        (model(input_ids=other_ids, **how).logits - single).flatten()[-VOCAB:].abs().max().item()
    )
    scale = 1 + single.abs().max().item()
    kept = [parameter.clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        # About what float32 leaves of a number.
        parameter.mul_(1 + 1e-7 * torch.randn(parameter.shape, generator=generator))
    noise = (model(input_ids=ids, **how).logits - single).abs().max().item()
    for parameter, before in zip(model.parameters(), kept, strict=True):
        parameter.copy_(before)
    with contextlib.suppress(RuntimeError):  # not all experts multiply in float64
        wide = model.double()(input_ids=ids, **how).logits
        noise = max(noise, (wide - single).abs().max().item())
    model.float()
    return noise, change / scale, scale
