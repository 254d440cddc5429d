"""Sparse autoencoders with the K strongest features kept, trained on states and browsed by context.

code = TopK(relu((x - b_dec) W_enc + b_enc)), and x is made of it again as code W_dec + b_dec (Gao
et al. 2024, arXiv:2406.04093). Rows of W_dec have norm 1. Features that have not been active for a
while are revived by that paper's auxiliary loss, and those that stay dead are reported.

`save` writes what SAELens reads: `cfg.json` and `sae_weights.safetensors` with W_enc [E, F],
b_enc [F], W_dec [F, E] and b_dec [E], the architecture "topk".

Shapes: N states, E hidden size, F features, K features that are kept of each state.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from oversight.errors import ConfigError, DataError
from oversight.files import whole_file, write_json

AUXILIARY = 1.0 / 32.0
DEAD_AFTER = 200
"""Steps without being active after which a feature counts as dead while training."""
WEIGHTS, SETTINGS = "sae_weights.safetensors", "cfg.json"


@dataclass(frozen=True, slots=True, eq=False)
class SparseAutoencoder:
    """Weights of a TopK autoencoder, and how many of its features are dead."""

    w_enc_EF: torch.Tensor
    b_enc_F: torch.Tensor
    w_dec_FE: torch.Tensor
    b_dec_E: torch.Tensor
    k: int
    scale: float = 1.0
    """States are divided by it before they are coded; folded into the weights when saved."""
    num_dead: int = 0
    """Features that were active at none of the states it was fitted to."""
    explained: float = 0.0
    """Share of the variance of those states that is made again."""
    hook: str = ""
    """The site it was fitted to, such as "residual.2"."""
    model: str = ""

    @property
    def num_features(self) -> int:
        """Features, dead ones among them."""
        return len(self.b_enc_F)

    def code(self, states_NE: torch.Tensor) -> torch.Tensor:
        """Activations [N, F] of which at most K of each state are not 0."""
        return _code(states_NE / self.scale, self.w_enc_EF, self.b_enc_F, self.b_dec_E, self.k)

    def decode(self, codes_NF: torch.Tensor) -> torch.Tensor:
        """States [N, E] made of activations."""
        return (codes_NF @ self.w_dec_FE + self.b_dec_E) * self.scale

    def save(self, folder: str | Path) -> None:
        """Write it as SAELens does.

        Raises:
            FileError: It cannot be written.
        """
        folder = Path(folder)
        # Scaled into the weights: codes are those of states as they are.
        arrays = {
            "W_enc": self.w_enc_EF,
            "b_enc": self.b_enc_F * self.scale,
            "W_dec": self.w_dec_FE,
            "b_dec": self.b_dec_E * self.scale,
        }
        with whole_file(folder / WEIGHTS, "out") as part:
            save_file({name: each.contiguous() for name, each in arrays.items()}, part)
        write_json(
            folder / SETTINGS,
            {
                "architecture": "topk",
                "d_in": self.w_enc_EF.shape[0],
                "d_sae": self.num_features,
                "k": self.k,
                "dtype": "float32",
                "device": "cpu",
                "apply_b_dec_to_input": True,
                "normalize_activations": "none",
                "rescale_acts_by_decoder_norm": False,
                "metadata": {
                    "model_name": self.model,
                    "hook_name": self.hook,
                    "num_dead": self.num_dead,
                    "explained": self.explained,
                },
            },
        )

    @classmethod
    def load(cls, folder: str | Path, *, model: str = "") -> SparseAutoencoder:
        """The TopK autoencoder in a folder, ours or SAELens's.

        Raises:
            DataError: There is none, or it is of another architecture.
            ConfigError: It is of another model than `model`.
        """
        folder = Path(folder)
        try:
            known: dict[str, Any] = json.loads((folder / SETTINGS).read_bytes())
            arrays = load_file(folder / WEIGHTS)
            if known.get("architecture") != "topk":
                raise ValueError(f"architecture {known.get('architecture')!r}, and 'topk' is read")
            about = known.get("metadata") or {}
            found = cls(
                arrays["W_enc"],
                arrays["b_enc"],
                arrays["W_dec"],
                arrays["b_dec"],
                k=int(known["k"]),
                num_dead=int(about.get("num_dead", 0)),
                explained=float(about.get("explained", 0.0)),
                hook=str(about.get("hook_name", "")),
                model=str(about.get("model_name", "")),
            )
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{str(folder)!r} holds no TopK autoencoder ({error})") from None
        if model and found.model and found.model != model:
            raise ConfigError(
                f"{str(folder)!r}: it is of model {found.model!r}, not of {model!r}; fit one again"
            )
        return found


def _code(
    x_NE: torch.Tensor, w_EF: torch.Tensor, b_F: torch.Tensor, b_dec_E: torch.Tensor, k: int
) -> torch.Tensor:
    all_NF = torch.relu((x_NE - b_dec_E) @ w_EF + b_F)
    top = all_NF.topk(k, dim=-1)
    return torch.zeros_like(all_NF).scatter(-1, top.indices, top.values)


def fit_sae(
    states: NDArray[np.float32] | torch.Tensor,
    num_features: int,
    k: int,
    *,
    num_steps: int = 2000,
    batch: int = 256,
    lr: float = 2e-3,
    seed: int = 0,
    hook: str = "",
    model: str = "",
) -> SparseAutoencoder:
    """An autoencoder fitted to states [N, E] by Adam.

    Args:
        states: At least as many as a batch is best.
        num_features: F.
        k: Features that are kept of each state.
        num_steps: Batches that it learns from.
        batch: States a step, drawn with replacement.
        lr: Falls to 0 over the last fifth of the steps.
        seed: Of first weights and batches.
        hook: The site that the states are of.
        model: The model that they are of.

    Raises:
        ConfigError: `k` is not between 1 and `num_features`.
        DataError: There are no states, or values among them that are no numbers.
    """
    x_NE = torch.as_tensor(states, dtype=torch.float32)
    if not 1 <= k <= num_features:
        raise ConfigError(f"k = {k}: give 1 to num_features = {num_features}")
    if x_NE.dim() != 2 or not len(x_NE) or not bool(torch.isfinite(x_NE).all()):
        raise DataError(f"states of shape {list(x_NE.shape)}: give rows of numbers, at least one")
    scale = float((x_NE - x_NE.mean(0)).square().sum(-1).mean().sqrt()) or 1.0
    x_NE = x_NE / scale
    rng = torch.Generator().manual_seed(seed)
    size = x_NE.shape[1]
    w_dec = torch.randn(num_features, size, generator=rng)
    w_dec = (w_dec / w_dec.norm(dim=-1, keepdim=True)).requires_grad_()
    w_enc = w_dec.detach().T.clone().requires_grad_()
    b_enc = torch.zeros(num_features, requires_grad=True)
    b_dec = x_NE.mean(0).clone().requires_grad_()
    optimizer = torch.optim.Adam([w_enc, b_enc, w_dec, b_dec], lr=lr)
    idle_F = torch.zeros(num_features)
    for step in range(num_steps):
        left = (num_steps - step) / max(1.0, 0.2 * num_steps)
        optimizer.param_groups[0]["lr"] = lr * min(1.0, left)
        x = x_NE[torch.randint(len(x_NE), (batch,), generator=rng)]
        all_NF = torch.relu((x - b_dec) @ w_enc + b_enc)
        top = all_NF.topk(k, dim=-1)
        codes = torch.zeros_like(all_NF).scatter(-1, top.indices, top.values)
        error = x - (codes @ w_dec + b_dec)
        loss = error.square().sum(-1).mean()
        idle_F = torch.where(codes.detach().amax(0) > 0, 0.0, idle_F + 1.0)
        if num_idle := int((idle_F > DEAD_AFTER).sum()):
            # What is left over is made of idle features, so that they learn to say something.
            idle = ((x - b_dec) @ w_enc + b_enc).masked_fill(idle_F <= DEAD_AFTER, float("-inf"))
            chosen = idle.topk(min(num_idle, max(1, size // 2)), dim=-1)
            revived = torch.zeros_like(idle).scatter(
                -1, chosen.indices, chosen.values.exp().log1p()
            )
            loss = loss + AUXILIARY * (error.detach() - revived @ w_dec).square().sum(-1).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        with torch.no_grad():
            w_dec /= w_dec.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    with torch.no_grad():
        codes = torch.cat([_code(x, w_enc, b_enc, b_dec, k) for x in torch.split(x_NE, 4096)])
        left_over = (x_NE - (codes @ w_dec + b_dec)).square().sum()
        explained = 1.0 - float(left_over / (x_NE - x_NE.mean(0)).square().sum())
    return SparseAutoencoder(
        w_enc.detach(),
        b_enc.detach(),
        w_dec.detach(),
        b_dec.detach(),
        k=k,
        scale=scale,
        num_dead=int((codes.amax(0) <= 0).sum()),
        explained=explained,
        hook=hook,
        model=model,
    )


def mean_max_cosine(features_FE: Any, found_FE: torch.Tensor) -> float:
    """Mean over known features of the largest cosine that any found one has with it."""
    known = torch.as_tensor(features_FE, dtype=torch.float32)
    known = known / known.norm(dim=-1, keepdim=True)
    found = found_FE / found_FE.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    return float((known @ found.T).amax(-1).mean())


@dataclass(frozen=True, slots=True)
class FeatureContext:
    """One place at which a feature is strong."""

    activation: float
    row: int
    token: int


def strongest_contexts(
    sae: SparseAutoencoder, rows: Sequence[torch.Tensor], feature: int, num: int = 8
) -> list[FeatureContext]:
    """The tokens at which a feature is strongest, at most one a row, strongest first.

    Args:
        sae: The autoencoder.
        rows: States [P, E] of each row at the autoencoder's site.
        feature: Its number.
        num: The most that are given.

    Raises:
        ConfigError: There is no such feature.
    """
    if not 0 <= feature < sae.num_features:
        raise ConfigError(f"feature {feature} is none of 0 to {sae.num_features - 1}")
    found = []
    for number, states_PE in enumerate(rows):
        values = sae.code(states_PE)[:, feature]
        token = int(values.argmax())
        if values[token] > 0:
            found.append(FeatureContext(float(values[token]), number, token))
    return sorted(found, key=lambda each: -each.activation)[:num]
