"""Probes: directions and small readers fitted to states with labels, each with a registered name.

logistic            logistic regression, L2 penalty (Alain and Bengio 2016, arXiv:1610.01644).
mean_difference     the difference of the classes' means (Marks and Tegmark 2023, arXiv:2310.06824).
leace               the direction that least-squares concept erasure takes out (Belrose et al. 2023,
                    arXiv:2306.03819); `erase` leaves nothing that a linear reader finds.
inlp                iterated nullspace projection (Ravfogel et al. 2020, arXiv:2004.07667).
attention           one learned query pools a row's tokens, and a line reads the pool.
ccs                 contrast-consistent search (Burns et al. 2022, arXiv:2212.03827), without
                    labels but for its sign: a baseline known to be weak.

A probe of a user's own is a function under `@probe` in a file, named "file.py:function". Each takes
`ProbeData` and gives a `FittedProbe`, whose score is higher where the label is likelier 1.

Shapes: N examples, P tokens of one, E hidden size, K directions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from oversight.errors import ConfigError, DataError
from oversight.files import whole_file
from oversight.registry import load_named, nearest

Floats64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ProbeData:
    """States with labels, as a probe is fitted to them."""

    states_NE: Floats64
    """One vector an example."""
    labels_N: NDArray[np.bool_]
    pairs_N: NDArray[np.int64] | None = None
    """Number of the contrast pair that each belongs to, for `ccs`."""
    tokens: Sequence[Floats64] | None = None
    """All read tokens [P, E] of each example, for `attention`."""

    def chosen(self, rows: NDArray[np.int64]) -> ProbeData:
        """Some of the examples."""
        return ProbeData(
            self.states_NE[rows],
            self.labels_N[rows],
            None if self.pairs_N is None else self.pairs_N[rows],
            None if self.tokens is None else [self.tokens[i] for i in rows],
        )

    def check(self) -> None:
        """Refuse what no probe can be fitted to.

        Raises:
            DataError: There is one class, or a state that is no number.
        """
        if len(self.states_NE) != len(self.labels_N):
            raise DataError(f"{len(self.states_NE)} states and {len(self.labels_N)} labels")
        num_true = int(self.labels_N.sum())
        if num_true in (0, len(self.labels_N)):
            raise DataError(
                f"the contrast set has one class: {num_true} of {len(self.labels_N)} labels are "
                "true; give examples of both"
            )
        if not np.isfinite(self.states_NE).all():
            raise DataError("the states hold values that are no numbers; read them again")


@dataclass(frozen=True, slots=True, eq=False)
class FittedProbe:
    """A fitted probe: score = (x - center) @ direction + bias, of a vector or a pool of tokens."""

    name: str
    direction_E: Floats64
    center_E: Floats64
    bias: float = 0.0
    query_E: Floats64 | None = None
    """Pools tokens: weights are the softmax of token @ query."""
    eraser_KE: Floats64 | None = None
    read_KE: Floats64 | None = None
    """Erasure takes (x - center) @ read.T @ eraser out of x."""
    about: dict[str, Any] = field(default_factory=dict)
    """JSON-plain: site, model, tokenizer, what it was fitted to."""

    def score(self, data: ProbeData) -> Floats64:
        """Scores [N]: log-odds of a label 1 where the probe was fitted as such."""
        states_NE = data.states_NE
        if self.query_E is not None:
            if data.tokens is None:
                raise ConfigError(f"probe {self.name!r} reads all tokens; give them")
            states_NE = np.stack([self._pool(each) for each in data.tokens])
        scores: Floats64 = (states_NE - self.center_E) @ self.direction_E + self.bias
        return scores

    def _pool(self, tokens_PE: Floats64) -> Floats64:
        assert self.query_E is not None
        logits = tokens_PE @ self.query_E
        weights = np.exp(logits - logits.max())
        pooled: Floats64 = (weights / weights.sum()) @ tokens_PE
        return pooled

    def erase(self, states_NE: Floats64) -> Floats64:
        """States without what the probe found.

        Raises:
            ConfigError: The probe is none that erases.
        """
        if self.eraser_KE is None or self.read_KE is None:
            raise ConfigError(f"probe {self.name!r} erases nothing; take leace or inlp")
        return states_NE - ((states_NE - self.center_E) @ self.read_KE.T) @ self.eraser_KE

    def save(self, path: str | Path) -> None:
        """Write it as safetensors, what it was fitted to in the file's metadata.

        Raises:
            FileError: The file cannot be written.
        """
        arrays = {
            name: np.ascontiguousarray(value)
            for name in ("direction_E", "center_E", "query_E", "eraser_KE", "read_KE")
            if (value := getattr(self, name)) is not None
        }
        about = {"name": self.name, "bias": repr(self.bias), "about": json.dumps(self.about)}
        with whole_file(Path(path), "out") as part:
            save_file(arrays, part, metadata=about)

    @classmethod
    def read(cls, path: str | Path, *, model: str = "", tokenizer: str = "") -> FittedProbe:
        """The probe in a file.

        Args:
            path: Written by `save`.
            model: Refuse a probe of another model.
            tokenizer: Refuse a probe of another tokenizer.

        Raises:
            DataError: It is no probe's file.
            ConfigError: It is of another model or tokenizer.
        """
        try:
            with safe_open(path, framework="np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                known = file.metadata()
            found = cls(
                known["name"], bias=float(known["bias"]), about=json.loads(known["about"]), **arrays
            )
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{str(path)!r} holds no probe ({error})") from None
        for key, wanted in (("model", model), ("tokenizer", tokenizer)):
            has = found.about.get(key)
            if wanted and has and has != wanted:
                raise ConfigError(
                    f"{str(path)!r}: it is of {key} {has!r}, not of {wanted!r}; fit one again"
                )
        return found


Fit = Callable[..., FittedProbe]
_PROBES: dict[str, Fit] = {}


def probe(function: Fit) -> Fit:
    """Register a function from `ProbeData` and options to a `FittedProbe` by its name."""
    _PROBES[function.__name__] = function
    return function


def probe_names() -> list[str]:
    """All probes that are registered."""
    return sorted(_PROBES)


def probe_named(name: str) -> Fit:
    """The fitting function of that name, or a user's own, "file.py:function".

    Raises:
        ConfigError: There is none.
    """
    if name in _PROBES:
        return _PROBES[name]
    if ":" in name:
        found: Fit = load_named(name, "probe", __file__)
        return found
    raise ConfigError(f"there is no probe {name!r}.{nearest(name, _PROBES)}")


def fit(name: str, data: ProbeData, **options: Any) -> FittedProbe:
    """A probe of that name, fitted.

    Raises:
        ConfigError: There is no such probe.
        DataError: The data has one class, or states that are no numbers.
    """
    data.check()
    return probe_named(name)(data, **options)


@probe
def logistic(data: ProbeData, *, c: float = 0.1) -> FittedProbe:
    """Logistic regression on standardised states; `c` is the inverse of the penalty."""
    from sklearn.linear_model import LogisticRegression

    center_E, scale_E = data.states_NE.mean(0), data.states_NE.std(0) + 1e-8
    model = LogisticRegression(C=c, max_iter=2000)
    model.fit((data.states_NE - center_E) / scale_E, data.labels_N)
    return FittedProbe("logistic", model.coef_[0] / scale_E, center_E, float(model.intercept_[0]))


@probe
def mean_difference(data: ProbeData) -> FittedProbe:
    """The difference of the classes' means, scored in log-odds along it.

    Its scale and offset are fitted to the labels by logistic regression on the projection, which
    changes no order.
    """
    one, other = data.states_NE[data.labels_N], data.states_NE[~data.labels_N]
    center_E = (one.mean(0) + other.mean(0)) / 2.0
    return _in_log_odds("mean_difference", one.mean(0) - other.mean(0), center_E, data)


def _in_log_odds(
    name: str, direction_E: Floats64, center_E: Floats64, data: ProbeData, **more: Any
) -> FittedProbe:
    """A probe along a direction, whose sign, scale and offset the labels give."""
    from sklearn.linear_model import LogisticRegression

    along_N = (data.states_NE - center_E) @ direction_E
    spread = float(along_N.std()) or 1.0
    line = LogisticRegression(C=1.0).fit(along_N[:, None] / spread, data.labels_N)
    slope = float(line.coef_[0, 0]) / spread
    return FittedProbe(name, direction_E * slope, center_E, float(line.intercept_[0]), **more)


@probe
def leace(data: ProbeData, *, ridge: float = 1e-3) -> FittedProbe:
    """Least-squares concept erasure in closed form.

    x -> x - W^+ P W (x - mean), with W the whitening and P the projection on the span of W Sigma_xz
    (Belrose et al. 2023, theorem 4.3). `ridge` is added to the covariance's diagonal, relative to
    its mean.
    """
    x_NE, z_N = data.states_NE, data.labels_N.astype(float)
    center_E = x_NE.mean(0)
    x_NE = x_NE - center_E
    cov_EE = x_NE.T @ x_NE / len(x_NE)
    values, vectors = np.linalg.eigh(cov_EE)
    values = values + ridge * values.mean()
    whiten_EE = vectors @ np.diag(values**-0.5) @ vectors.T
    color_EE = vectors @ np.diag(values**0.5) @ vectors.T
    cross_E = x_NE.T @ (z_N - z_N.mean()) / len(x_NE)
    unit_E = whiten_EE @ cross_E
    unit_E = unit_E / np.linalg.norm(unit_E)
    read_E, out_E = whiten_EE @ unit_E, color_EE @ unit_E
    # Exactly zero covariance, ridge or not: what is taken out is scaled to the cross-covariance.
    out_E = cross_E / float(cross_E @ read_E)
    return _in_log_odds(
        "leace", read_E, center_E, data, eraser_KE=out_E[None], read_KE=read_E[None]
    )


@probe
def inlp(data: ProbeData, *, num_directions: int = 4, c: float = 0.1) -> FittedProbe:
    """The first direction of iterated nullspace projection, and the span of all as its eraser."""
    states_NE = data.states_NE.copy()
    basis: list[Floats64] = []
    center_E = states_NE.mean(0)
    states_NE = states_NE - center_E
    first: FittedProbe | None = None
    for _ in range(num_directions):
        found = logistic(ProbeData(states_NE, data.labels_N), c=c)
        first = first or found
        direction_E = found.direction_E
        for other_E in basis:
            direction_E = direction_E - (direction_E @ other_E) * other_E
        norm = np.linalg.norm(direction_E)
        if norm < 1e-9:
            break
        basis.append(direction_E / norm)
        states_NE = states_NE - np.outer(states_NE @ basis[-1], basis[-1])
    assert first is not None
    span_KE = np.stack(basis)
    return FittedProbe(
        "inlp", first.direction_E, center_E, first.bias, eraser_KE=span_KE, read_KE=span_KE
    )


@probe
def attention(
    data: ProbeData, *, penalty: float = 1e-2, num_steps: int = 200, seed: int = 0
) -> FittedProbe:
    """A query that pools all read tokens of a row and a line that reads the pool, by Adam.

    Raises:
        ConfigError: The data has no tokens.
    """
    if data.tokens is None:
        raise ConfigError("probe 'attention' pools tokens, and the data has one vector an example")
    every = np.concatenate(list(data.tokens))
    center_E, scale = every.mean(0), float(every.std()) or 1.0
    longest = max(len(each) for each in data.tokens)
    tokens = torch.zeros(len(data.tokens), longest, every.shape[1], dtype=torch.float64)
    mask = torch.zeros(len(data.tokens), longest, dtype=torch.bool)
    for i, each in enumerate(data.tokens):
        tokens[i, : len(each)] = torch.from_numpy((each - center_E) / scale)
        mask[i, : len(each)] = True
    labels = torch.from_numpy(data.labels_N.astype(float))
    rng = torch.Generator().manual_seed(seed)
    size = every.shape[1]
    query = (0.01 * torch.randn(size, generator=rng, dtype=torch.float64)).requires_grad_()
    line = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([query, line, bias], lr=0.03)
    for _ in range(num_steps):
        weights = (tokens @ query).masked_fill(~mask, float("-inf")).softmax(-1)
        logits = (weights[..., None] * tokens).sum(1) @ line + bias
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
        loss = loss + penalty * (line.square().sum() + query.square().sum())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return FittedProbe(
        "attention",
        line.detach().numpy() / scale,
        center_E,
        float(bias.detach()),
        query_E=query.detach().numpy() / scale,
    )


@probe
def ccs(data: ProbeData, *, num_tries: int = 5, num_steps: int = 300, seed: int = 0) -> FittedProbe:
    """Contrast-consistent search over pairs, the best of several starts by its own loss.

    loss = (p(x+) - (1 - p(x-)))^2 + min(p(x+), p(x-))^2, states of either side centred apart.
    Labels choose the sign alone.

    Raises:
        ConfigError: The data has no pairs.
    """
    if data.pairs_N is None:
        raise ConfigError("probe 'ccs' needs contrast pairs, and the data has none")
    sides: dict[int, list[int]] = {}
    for i, pair in enumerate(data.pairs_N.tolist()):
        sides.setdefault(pair, []).append(i)
    couples = np.array([each[:2] for each in sides.values() if len(each) >= 2])
    if not len(couples):
        raise ConfigError("probe 'ccs' needs contrast pairs, and no pair has two sides")
    center_E, scale = data.states_NE.mean(0), float(data.states_NE.std()) or 1.0
    # Which side comes first must not tell the label: that would be centred away.
    couples = np.random.default_rng(seed).permuted(couples, axis=1)
    left, right = (torch.from_numpy(data.states_NE[couples[:, k]]) for k in (0, 1))
    left, right = (left - left.mean(0)) / scale, (right - right.mean(0)) / scale
    rng = torch.Generator().manual_seed(seed)
    best: tuple[float, Floats64] | None = None
    for _ in range(num_tries):
        line = torch.randn(left.shape[1], generator=rng, dtype=torch.float64)
        line = (line / line.norm()).requires_grad_()
        bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.AdamW([line, bias], lr=0.01, weight_decay=0.01)
        for _ in range(num_steps):
            one, other = (left @ line + bias).sigmoid(), (right @ line + bias).sigmoid()
            loss = (one - (1 - other)).square().mean() + torch.minimum(one, other).square().mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
        lost = float(loss.detach())
        if best is None or lost < best[0]:
            best = lost, line.detach().numpy() / scale
    assert best is not None
    return _in_log_odds("ccs", best[1], center_E, data)
