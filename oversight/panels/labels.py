"""One label an item from many votes, and how good each rater is, by majority or by EM.

`dawid_skene` gives each rater a table of errors (Dawid and Skene 1979, "Maximum likelihood
estimation of observer error-rates using the EM algorithm", eqs. 2.3 to 2.5); `one_coin` gives each
a single accuracy, with what is wrong spread evenly over the other labels (the homogeneous model of
Zhang et al. 2014, arXiv:1406.3824), which fewer votes can bear.

Who is right is learnt from agreement alone, so both need at least three raters; `unfit` says in
words where votes cannot bear the fit. Raters who err together are taken for good ones.

Shapes: R raters, U items, L labels, K different patterns of votes on an item.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from oversight.aggregation import LEVEL

if TYPE_CHECKING:  # a viewer's first page waits for whatever is imported here
    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

    Floats = NDArray[np.float64]
    Ints = NDArray[np.intp]

MISSING = -1
"""A vote that was not given."""
MIN_RATERS = 3
"""Two raters who disagree could either be right: their accuracies cannot be told apart."""
MIN_VOTES = 5
"""Votes of each rater from which its accuracy is fitted."""
MAX_ROUNDS = 200
TOLERANCE = 1e-7
"""Gain in log-likelihood a vote below which EM ends."""
ROUGH = 1e-6
"""The same of a resample, whose fit begins at that of all items."""
LEAST = 1e-10
"""Probability that no label is held less likely than: one surprise must not be impossible."""
NUM_RESAMPLES = 200
MAX_DENSE = 1_000_000
"""Places of a table of votes up to which it is held whole."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelModel:
    """A fit of votes: labels' probabilities by item, and raters' tables of errors."""

    posterior_UL: Floats
    """Probability of each label of each item; the prevalence where nobody voted."""
    confusion_RLL: Floats
    """Probability of each vote (last axis) under each true label."""
    prevalence_L: Floats
    log_likelihood: float
    num_rounds: int
    converged: bool

    @property
    def accuracy_R(self) -> Floats:
        """Each rater's probability of a right vote, over labels as often as they occur."""
        import numpy as np

        found: Floats = np.einsum("rll,l->r", self.confusion_RLL, self.prevalence_L)
        return found


@dataclass(frozen=True, slots=True)
class RaterQuality:
    """One rater's accuracy as a model of votes has it, with a percentile interval over items; with
    Wilson's where no resample differs."""

    value: float
    low: float
    high: float
    num_votes: int


def majority(votes_RU: Ints, num_labels: int) -> Floats:
    """Shares (U, L) of the votes for each label; NaN of items that nobody voted on.

    Raises:
        ValueError: A vote is neither a label nor `MISSING`.
    """
    import numpy as np

    _, items, labels = _given(votes_RU, num_labels)
    counts = np.bincount(items * num_labels + labels, minlength=votes_RU.shape[1] * num_labels)
    counts_UL = counts.reshape(-1, num_labels).astype(np.float64)
    with np.errstate(invalid="ignore"):
        shares: Floats = counts_UL / counts_UL.sum(1, keepdims=True)
    return shares


def unfit(votes_RU: Ints) -> str | None:
    """Reason in words why no rater's accuracy can be fitted to these votes; None where it can."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    given_RU = votes_RU != MISSING
    voted = given_RU.sum(1)
    if len(votes_RU) < MIN_RATERS or (voted > 0).sum() < MIN_RATERS:
        return f"fewer than {MIN_RATERS} judges voted: which of two is right cannot be told"
    if voted.min() < MIN_VOTES:
        return f"a judge has {int(voted.min())} votes; {MIN_VOTES} are needed of each"
    shared = csr_matrix(given_RU[:, given_RU.sum(0) > 1].astype(int))
    num_parts, _ = connected_components(shared @ shared.T, directed=False)
    if num_parts > 1:
        return f"the judges fall in {num_parts} parts that share no item: compare within a part"
    return None


def dawid_skene(
    votes_RU: Ints, num_labels: int, *, max_rounds: int = MAX_ROUNDS, tolerance: float = TOLERANCE
) -> LabelModel:
    """The maximum of the likelihood with a table of errors a rater, by EM from the majority.

    Args:
        votes_RU: Labels from 0; `MISSING` where a rater did not vote.
        num_labels: Number of labels.
        max_rounds: Rounds of EM at most.
        tolerance: Gain in log-likelihood a vote below which it ends.

    Raises:
        ValueError: A vote is neither a label nor `MISSING`, or there is none.
    """
    return _whole(votes_RU, num_labels, False, max_rounds, tolerance)


def one_coin(
    votes_RU: Ints, num_labels: int, *, max_rounds: int = MAX_ROUNDS, tolerance: float = TOLERANCE
) -> LabelModel:
    """As `dawid_skene`, with a single accuracy a rater and errors spread evenly over the rest.

    Raises:
        ValueError: As of `dawid_skene`.
    """
    return _whole(votes_RU, num_labels, True, max_rounds, tolerance)


def rater_qualities(
    votes_RU: Ints,
    num_labels: int,
    *,
    tied: bool = True,
    clusters: Sequence[Hashable] | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[RaterQuality, ...]:
    """Each rater's accuracy with a percentile interval, whole items resampled and fitted anew.

    Args:
        votes_RU: Labels from 0; `MISSING` where a rater did not vote.
        num_labels: Number of labels.
        tied: By `one_coin`, else by `dawid_skene`.
        clusters: Cluster of each item, such as its question, by which items are resampled
            together; None where each is for itself.
        level: Coverage.
        num_resamples: Fits.
        seed: Of the resampling.

    Raises:
        ValueError: `unfit` gives a reason, or as of `dawid_skene`.
    """
    import numpy as np

    reason = unfit(votes_RU)
    if reason is not None:
        raise ValueError(reason)
    patterns = _Patterns.of(votes_RU, num_labels)
    items = votes_RU.shape[1]
    whole, start_KL = patterns.fit(np.ones(items), tied)
    rng = np.random.default_rng(seed)
    given = range(items) if clusters is None else clusters
    places: dict[Hashable, int] = {}
    cluster_U = np.array([places.setdefault(each, len(places)) for each in given])
    if len(cluster_U) != items:
        raise ValueError(f"{len(cluster_U)} clusters of {items} items")
    number = len(places)
    drawn = (
        rng.multinomial(number, np.full(number, 1 / number))[cluster_U]
        for _ in range(num_resamples)
    )
    found = [
        patterns.fit(weight_U.astype(np.float64), tied, tolerance=ROUGH, start_KL=start_KL)[
            0
        ].accuracy_R
        for weight_U in drawn
    ]
    tail = (1.0 - level) / 2.0
    low_R, high_R = np.quantile(found, [tail, 1.0 - tail], axis=0)
    qualities = []
    for value, low, high, votes in zip(whole.accuracy_R, low_R, high_R, votes_RU, strict=True):
        ends = float(low), float(high)
        if ends[1] - ends[0] < ROUGH:  # equal in every resample, which says nothing of others
            ends = _wilson(float(value), len(set(cluster_U[votes != MISSING].tolist())), level)
        qualities.append(RaterQuality(float(value), *ends, int((votes != MISSING).sum())))
    return tuple(qualities)


def _wilson(share: float, number: int, level: float) -> tuple[float, float]:
    """The Wilson interval of a share of `number` items."""
    from scipy import stats

    found = stats.binomtest(round(share * number), number).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def _whole(
    votes_RU: Ints, num_labels: int, tied: bool, max_rounds: int, tolerance: float
) -> LabelModel:
    """The fit of all items, each counted once."""
    import numpy as np

    every = np.ones(np.shape(votes_RU)[1])
    return _Patterns.of(votes_RU, num_labels).fit(every, tied, max_rounds, tolerance)[0]


def _given(votes_RU: Ints, num_labels: int) -> tuple[Ints, Ints, Ints]:
    """Rater, item and label of each vote."""
    import numpy as np

    votes_RU = np.asarray(votes_RU)
    known = (votes_RU >= 0) & (votes_RU < num_labels)
    if not (known | (votes_RU == MISSING)).all():
        wrong = votes_RU[~known & (votes_RU != MISSING)][0]
        raise ValueError(f"a vote is {wrong}: labels are 0 to {num_labels - 1}, {MISSING} for none")
    raters, items = np.nonzero(known)
    return raters, items, votes_RU[raters, items].astype(np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class _Patterns:
    """Items put together by the votes that they got: those of one pattern have one posterior."""

    onehot_KC: Floats | csr_matrix
    """Votes of each of K patterns, as ones in C = raters times labels; sparse if it is large."""
    voted_K: Ints
    """Number of votes of each pattern."""
    start_KL: Floats
    """Shares of votes, from which EM begins."""
    pattern_U: Ints
    num_raters: int
    num_labels: int

    @classmethod
    def of(cls, votes_RU: Ints, num_labels: int) -> _Patterns:
        """The patterns of votes. Raises as `dawid_skene`."""
        import numpy as np
        from scipy.sparse import csr_matrix

        if not len(_given(votes_RU, num_labels)[1]):
            raise ValueError("nobody voted on anything")
        distinct_KR, pattern_U = np.unique(np.transpose(votes_RU), axis=0, return_inverse=True)
        distinct_RK = distinct_KR.T
        raters, patterns, labels = _given(distinct_RK, num_labels)
        shape = (len(distinct_KR), len(distinct_RK) * num_labels)
        cells = raters * num_labels + labels
        onehot = csr_matrix((np.ones(len(cells)), (patterns, cells)), shape=shape)
        small = shape[0] * shape[1] <= MAX_DENSE
        shares_KL = majority(distinct_RK, num_labels)
        start = np.where(np.isnan(shares_KL), 1.0 / num_labels, shares_KL)
        return cls(
            onehot_KC=onehot.toarray() if small else onehot,
            voted_K=np.bincount(patterns, minlength=shape[0]),
            start_KL=start,
            pattern_U=pattern_U.reshape(-1),
            num_raters=len(distinct_RK),
            num_labels=num_labels,
        )

    def fit(
        self,
        weight_U: Floats,
        tied: bool,
        max_rounds: int = MAX_ROUNDS,
        tolerance: float = TOLERANCE,
        start_KL: Floats | None = None,
    ) -> tuple[LabelModel, Floats]:
        """EM over items that count `weight_U` times; the posterior by pattern beside it."""
        import numpy as np

        voted_K = self.voted_K
        number_K = np.bincount(self.pattern_U, weight_U, minlength=len(voted_K)) * (voted_K > 0)
        posterior_KL = self.start_KL if start_KL is None else start_KL
        votes = max(float(number_K @ voted_K), 1.0)
        before, converged, num_rounds = -np.inf, False, 0
        while not converged and num_rounds < max_rounds:
            num_rounds += 1
            weighted_KL = posterior_KL * number_K[:, None]
            prevalence_L = np.clip(weighted_KL.sum(0) / number_K.sum(), LEAST, None)
            # Expected number of each vote (second axis) under each true label (last axis).
            counts = (self.onehot_KC.T @ weighted_KL).reshape(self.num_raters, self.num_labels, -1)
            confusion_RLL = _errors(counts.swapaxes(1, 2), tied)
            logs_CL = np.log(confusion_RLL).swapaxes(1, 2).reshape(-1, self.num_labels)
            joint_KL = self.onehot_KC @ logs_CL + np.log(prevalence_L)
            peak_K = joint_KL.max(1, keepdims=True)
            likely_K = peak_K[:, 0] + np.log(np.exp(joint_KL - peak_K).sum(1))
            posterior_KL = np.exp(joint_KL - likely_K[:, None])
            likelihood = float(likely_K @ number_K)
            converged = likelihood - before < tolerance * votes
            before = likelihood
        posterior_UL = posterior_KL[self.pattern_U]
        model = LabelModel(posterior_UL, confusion_RLL, prevalence_L, before, num_rounds, converged)
        return model, posterior_KL


def _errors(counts_RLL: Floats, tied: bool) -> Floats:
    """Tables of errors from expected counts of votes (last axis) by true label."""
    import numpy as np

    number = counts_RLL.shape[1]
    if not tied:
        filled = np.clip(counts_RLL, LEAST, None)
        table: Floats = filled / filled.sum(2, keepdims=True)
        return table
    right_R = np.einsum("rll->r", counts_RLL)
    all_R = counts_RLL.sum((1, 2))
    chance = 1.0 / number
    accuracy_R = np.where(all_R > 0, right_R / np.where(all_R > 0, all_R, 1.0), chance)
    accuracy_R = np.clip(accuracy_R, LEAST, 1.0 - LEAST)[:, None, None]
    wrong_R = (1.0 - accuracy_R) / max(number - 1, 1)
    tied_RLL: Floats = np.where(np.eye(number, dtype=bool), accuracy_R, wrong_R)
    return tied_RLL
