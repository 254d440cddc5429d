"""A probe judged on questions that it has not seen, beside the controls that a reviewer asks for.

`study` takes a `ContrastSet` and a probe's name, and gives a `ProbeReport`: the site chosen by
cross-validation grouped by question, then AUROC, recall at 1 % false positives and calibration on
held-out questions, held-out templates and another data set, with intervals clustered by question.
Controls are part of the study and not of its caller's discretion:

shuffled labels      the same fit on labels that mean nothing; its spread says what chance gives.
bag of words         the words alone. A probe that is no better reads the surface, and that is said.
length               numbers of tokens and characters alone.
random weights       states of a model of the same shape that has learnt nothing.
neutral re-encoding  the same words read by the base model without the role that was played.
selectivity          the task's accuracy less that of random labels by word (Hewitt and Liang 2019,
                     arXiv:1909.03368).
taken out            the score less what entropy and length foretell of it.

The interval of an AUROC is that of the mean of its pseudo-values, which is DeLong's variance
clustered as Obuchowski (1997) does it.

Shapes: N examples, E hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oversight.errors import ConfigError, DataError
from oversight.evals.calibration import expected_calibration_error, reliability
from oversight.evals.intervals import Estimate, mean_interval
from oversight.interp.contrasts import NUM_FOLDS, ContrastSet, Labels01
from oversight.interp.probes import FittedProbe, Floats64, ProbeData, fit

FALSE_POSITIVES = 0.01
HELD_OUT, NUM_SHUFFLES = 0.4, 20
CLAIMED_AT = 0.01
"""Level of the test against shuffled labels."""


def auroc_estimate(scores: Floats64, labels: Labels01, clusters: Sequence[str]) -> Estimate:
    """Area under the ROC curve with its clustered interval.

    Args:
        scores: [N], higher where the label is likelier 1.
        labels: [N], of both classes.
        clusters: The question of each.
    """
    from scipy.stats import rankdata

    num_one, num_other = int(labels.sum()), int((~labels).sum())
    ranks = rankdata(scores)
    within_one, within_other = rankdata(scores[labels]), rankdata(scores[~labels])
    place = np.empty(len(scores))
    place[labels] = (ranks[labels] - within_one) / num_other
    place[~labels] = 1.0 - (ranks[~labels] - within_other) / num_one
    area = float(place[labels].mean())
    share = np.where(labels, len(scores) / num_one, len(scores) / num_other)
    found = mean_interval((area + share * (place - area)).tolist(), clusters, bounds=None)
    if found.low is None or found.high is None or found.width == 0.0:
        wilson = mean_interval([area] * len(scores), clusters)
        return replace(wilson, num=len(scores))
    return replace(
        found, value=area, low=max(0.0, found.low), high=min(1.0, found.high), num=len(scores)
    )


def recall_estimate(
    scores: Floats64, labels: Labels01, clusters: Sequence[str], rate: float = FALSE_POSITIVES
) -> Estimate:
    """Share of the positives above the score that `rate` of the negatives exceed.

    The interval is of the positives, the threshold taken as given.
    """
    threshold = np.quantile(scores[~labels], 1.0 - rate, method="higher")
    hits = (scores[labels] > threshold).astype(float)
    return mean_interval(hits.tolist(), [c for c, y in zip(clusters, labels, strict=True) if y])


@dataclass(frozen=True, slots=True)
class ProbeFigures:
    """Figures of one probe on one part of the examples."""

    auroc: Estimate
    recall: Estimate
    """At 1 % false positives."""
    calibration_error: float
    num: int


def figures(scores: Floats64, labels: Labels01, clusters: Sequence[str]) -> ProbeFigures | None:
    """Figures of log-odds scores; None where the part has one class."""
    if labels.all() or not labels.any():
        return None
    probs = 1.0 / (1.0 + np.exp(-np.clip(scores, -50, 50)))
    bins = reliability(probs.tolist(), labels.astype(float).tolist(), [(c, "") for c in clusters])
    return ProbeFigures(
        auroc_estimate(scores, labels, clusters),
        recall_estimate(scores, labels, clusters),
        expected_calibration_error(bins),
        len(scores),
    )


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """A probe on what it has not seen, and its controls on the same examples."""

    probe: str
    site: str
    cross_validated: dict[str, float]
    """Mean AUROC over folds by site, of the fitted part alone."""
    held_out: ProbeFigures
    templates: dict[str, Estimate]
    """AUROC on each template when it was left out of the fit."""
    other: dict[str, ProbeFigures | None]
    """On other data sets, by name."""
    controls: dict[str, Estimate | None]
    """AUROC of each control on the held-out questions; None where its states were not given."""
    shuffled_high: float
    """97.5 % quantile of the AUROC under shuffled labels."""
    shuffled_p: float
    """Chance of such an AUROC under shuffled labels, by the t law of those that were fitted."""
    selectivity: float
    findings: tuple[str, ...]
    fitted: FittedProbe = field(repr=False)
    frozen: dict[str, ProbeFigures | None] = field(default_factory=dict)

    @property
    def claims(self) -> bool:
        """The probe is above chance, shuffled labels and every control of the surface.

        Chance of a claim where there is nothing is below `CLAIMED_AT`.
        """
        auroc = self.held_out.auroc
        above = auroc.low is not None and auroc.low > 0.5 and self.shuffled_p < CLAIMED_AT
        return above and not any(
            each is not None and each.value >= auroc.value
            for name, each in self.controls.items()
            if name in SURFACE
        )

    def as_json(self) -> dict[str, Any]:
        """All figures, JSON-plain."""
        found = {name: getattr(self, name) for name in self.__slots__ if name != "fitted"}
        plain: dict[str, Any] = _plain(found)
        return plain


SURFACE = ("bag of words", "length", "random weights")
"""Controls that see no learnt state: a probe has to be above them to claim one."""


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Estimate | ProbeFigures):
        return _plain(asdict(value))
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def split_questions(
    questions: Sequence[str], seed: int = 0, held_out: float = HELD_OUT
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Examples to fit to and those held out; no question has some in both."""
    names = sorted(set(questions))
    order = np.random.default_rng(seed).permutation(len(names))
    held = {names[i] for i in order[: round(held_out * len(names))]}
    out = np.array([question in held for question in questions])
    return np.flatnonzero(~out), np.flatnonzero(out)


def choose_site(
    contrasts: ContrastSet,
    rows: NDArray[np.int64],
    probe: str,
    num_folds: int = NUM_FOLDS,
    **options: Any,
) -> dict[str, float]:
    """Mean AUROC over folds of whole questions, by site, best first."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold

    groups = [contrasts.questions[i] for i in rows]
    folds = list(GroupKFold(num_folds).split(rows, groups=groups))
    found = {}
    for site in contrasts.states:
        data = contrasts.data(site).chosen(rows)
        areas = []
        for train, test in folds:
            if len(set(data.labels_N[test].tolist())) == 2:
                scores = fit(probe, data.chosen(train), **options).score(data.chosen(test))
                areas.append(roc_auc_score(data.labels_N[test], scores))
        found[site] = float(np.mean(areas)) if areas else 0.5
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def study(
    contrasts: ContrastSet,
    probe: str = "logistic",
    *,
    others: Mapping[str, ContrastSet] | None = None,
    num_folds: int = NUM_FOLDS,
    num_shuffles: int = NUM_SHUFFLES,
    seed: int = 0,
    **options: Any,
) -> ProbeReport:
    """A probe fitted to a part of the questions and reported on the rest, with all controls.

    Args:
        contrasts: Examples with states at the sites among which cross-validation chooses.
        probe: A registered name, or "file.py:function".
        others: Other data sets with states at the same sites.
        num_folds: Of the cross-validation.
        num_shuffles: Fits to shuffled labels, at least 3.
        seed: Of split and shuffles.
        **options: Of the probe.

    Raises:
        DataError: The set has one class, too few questions, or duplicates.
        ConfigError: There is no such probe, or it cannot be fitted to such data.
    """
    contrasts.check(num_folds)
    if num_shuffles < 3:
        raise ConfigError(f"num_shuffles = {num_shuffles}: give at least 3; 20 are the default")
    train, test = split_questions(contrasts.questions, seed)
    validated = choose_site(contrasts, train, probe, num_folds, **options)
    site = next(iter(validated))
    data = contrasts.data(site)
    about = {
        "site": site,
        "model": contrasts.model,
        "tokenizer": contrasts.tokenizer,
        "fitted_to": contrasts.name,
        "num": len(train),
    }
    fitted = replace(fit(probe, data.chosen(train), **options), about=about)
    labels, clusters = contrasts.labels_N[test], [contrasts.questions[i] for i in test]
    scores = fitted.score(data.chosen(test))
    held_out = figures(scores, labels, clusters)
    if held_out is None:
        raise DataError("the held-out questions have one class; give more questions")
    controls, shuffled = _controls(
        contrasts, site, probe, train, test, fitted, num_shuffles, seed, options
    )
    report = ProbeReport(
        probe=probe,
        site=site,
        cross_validated=validated,
        held_out=held_out,
        templates=_templates(contrasts, site, probe, train, test, options),
        other={name: _on(other, site, fitted) for name, other in (others or {}).items()},
        controls=controls,
        shuffled_high=float(np.quantile(shuffled, 0.975)),
        shuffled_p=_chance_of(held_out.auroc.value, shuffled),
        selectivity=_selectivity(contrasts, site, probe, train, test, scores, seed, options),
        findings=(),
        fitted=fitted,
    )
    return replace(report, findings=tuple(_findings(report)))


def _on(contrasts: ContrastSet, site: str, fitted: FittedProbe) -> ProbeFigures | None:
    scores = fitted.score(contrasts.data(site))
    return figures(scores, contrasts.labels_N, list(contrasts.questions))


def _controls(
    contrasts: ContrastSet,
    site: str,
    probe: str,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    fitted: FittedProbe,
    num_shuffles: int,
    seed: int,
    options: Mapping[str, Any],
) -> tuple[dict[str, Estimate | None], list[float]]:
    """AUROC of each control on the held-out part, and those of all fits to shuffled labels."""
    from sklearn.metrics import roc_auc_score

    labels, clusters = contrasts.labels_N[test], [contrasts.questions[i] for i in test]
    data, rng = contrasts.data(site), np.random.default_rng(seed)

    def area(scores: Floats64) -> Estimate:
        return auroc_estimate(scores, labels, clusters)

    shuffled: list[float] = []
    last = np.zeros(len(test))
    for _ in range(num_shuffles):
        mixed = shuffled_labels(contrasts.labels_N, contrasts.questions, rng)
        some = replace(data, labels_N=mixed).chosen(train)
        last = fit(probe, some, **options).score(data.chosen(test))
        shuffled.append(float(roc_auc_score(mixed[test], last)))
    found: dict[str, Estimate | None] = {"shuffled labels": area(last)}
    found["bag of words"] = area(_words_alone(contrasts, train, test))
    sizes = np.stack([contrasts.lengths_N, [len(text) for text in contrasts.texts]], 1)
    found["length"] = area(_line(sizes, contrasts.labels_N, train, test))
    for name, states in (
        ("random weights", contrasts.random_states),
        ("neutral re-encoding", contrasts.neutral_states),
    ):
        if states is None:
            found[name] = None
            continue
        own = replace(contrasts.data(site, states), tokens=_as_tokens(data, states[site]))
        scores = fit(probe, own.chosen(train), **options).score(own.chosen(test))
        found[name] = area(scores)
    given = np.stack([contrasts.entropies_N, contrasts.lengths_N], 1)
    whole = fitted.score(data)
    design = np.column_stack([np.ones(len(given)), given])
    slope = np.linalg.lstsq(design[train], whole[train], rcond=None)[0]
    found["entropy and length taken out"] = area((whole - design @ slope)[test])
    return found, shuffled


def _chance_of(area: float, shuffled: Sequence[float]) -> float:
    from scipy.stats import t

    spread = float(np.std(shuffled, ddof=1)) * (1.0 + 1.0 / len(shuffled)) ** 0.5
    return float(t.sf((area - float(np.mean(shuffled))) / max(spread, 1e-9), len(shuffled) - 1))


def _as_tokens(data: ProbeData, states_NE: Floats64) -> list[Floats64] | None:
    return None if data.tokens is None else [each[None] for each in states_NE]


def shuffled_labels(
    labels: Labels01, questions: Sequence[str], rng: np.random.Generator
) -> Labels01:
    """Labels that mean nothing, and are spread over questions as they were.

    Where questions have both labels they are mixed within each; else among questions.
    """
    places: dict[str, list[int]] = {}
    for i, question in enumerate(questions):
        places.setdefault(question, []).append(i)
    mixed = labels.copy()
    if any(len(set(labels[at].tolist())) == 2 for at in places.values()):
        for at in places.values():
            mixed[at] = labels[rng.permutation(at)]
        return mixed
    values = rng.permutation([bool(labels[at[0]]) for at in places.values()])
    for at, value in zip(places.values(), values, strict=True):
        mixed[at] = value
    return mixed


def _words_alone(
    contrasts: ContrastSet, train: NDArray[np.int64], test: NDArray[np.int64]
) -> Floats64:
    """Scores of a logistic regression on counts of words and pairs of words."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counter = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", binary=True)
    try:
        known = counter.fit_transform([contrasts.texts[i] for i in train])
    except ValueError:  # no words at all
        return np.zeros(len(test))
    model = LogisticRegression(C=1.0, max_iter=2000).fit(known, contrasts.labels_N[train])
    scores: Floats64 = model.decision_function(
        counter.transform([contrasts.texts[i] for i in test])
    )
    return scores


def _line(
    given: Floats64, labels: Labels01, train: NDArray[np.int64], test: NDArray[np.int64]
) -> Floats64:
    from sklearn.linear_model import LogisticRegression

    scaled = (given - given[train].mean(0)) / (given[train].std(0) + 1e-8)
    model = LogisticRegression(C=1.0).fit(scaled[train], labels[train])
    scores: Floats64 = model.decision_function(scaled[test])
    return scores


def _templates(
    contrasts: ContrastSet,
    site: str,
    probe: str,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    options: Mapping[str, Any],
) -> dict[str, Estimate]:
    """AUROC on each template's held-out questions of a probe fitted to the other templates."""
    names = np.array(contrasts.templates)
    data, found = contrasts.data(site), {}
    for name in sorted(set(contrasts.templates)):
        fitting, held = train[names[train] != name], test[names[test] == name]
        both = (set(contrasts.labels_N[part].tolist()) for part in (fitting, held))
        if any(len(each) < 2 for each in both):
            continue
        scores = fit(probe, data.chosen(fitting), **options).score(data.chosen(held))
        clusters = [contrasts.questions[i] for i in held]
        found[name] = auroc_estimate(scores, contrasts.labels_N[held], clusters)
    return found


def _selectivity(
    contrasts: ContrastSet,
    site: str,
    probe: str,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    scores: Floats64,
    seed: int,
    options: Mapping[str, Any],
) -> float:
    """Accuracy on the task less that on random labels given to each last word."""
    last = [(text.split() or [""])[-1] for text in contrasts.texts]
    coins = np.random.default_rng(seed)
    labels_of = {word: bool(coins.integers(2)) for word in sorted(set(last))}
    control = np.array([labels_of[word] for word in last])
    accuracy = float(((scores > 0) == contrasts.labels_N[test]).mean())
    if len(set(control[train].tolist())) < 2:
        return accuracy - 1.0  # one word: the control task is learnt by heart
    data = replace(contrasts.data(site), labels_N=control)
    own = fit(probe, data.chosen(train), **options).score(data.chosen(test))
    return accuracy - float(((own > 0) == control[test]).mean())


def _findings(report: ProbeReport) -> list[str]:
    """Sentences that a reader has to see beside the figure."""
    auroc = report.held_out.auroc
    said = []
    if auroc.low is None or auroc.low <= 0.5:
        said.append(f"The probe is not above chance: AUROC {_shown(auroc)}.")
    elif report.shuffled_p >= CLAIMED_AT:
        said.append(
            f"The probe does not stand out from shuffled labels (p = {report.shuffled_p:.3f}), of "
            f"which one in forty reaches {report.shuffled_high:.2f}."
        )
    for name in SURFACE:
        own = report.controls.get(name)
        if own is not None and own.value >= auroc.value - 0.01 and own.value > 0.55:
            said.append(f"{name.capitalize()} alone does as well: AUROC {_shown(own)}.")
    words = report.controls.get("bag of words")
    if words is not None and words.low is not None and words.low > 0.5:
        said.append(f"The text gives labels away: bag of words AUROC {_shown(words)}.")
    said += [
        f"Not run: {name}, of which no states were given."
        for name, own in report.controls.items()
        if own is None
    ]
    if report.selectivity < 0.05:
        said.append(
            f"Selectivity is {report.selectivity:.2f}: the probe learns random labels as well."
        )
    return said


def _shown(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low or 0.0:.2f}, {estimate.high or 1.0:.2f}]"


def after_training(
    report: ProbeReport, after: ContrastSet, **options: Any
) -> dict[str, ProbeFigures | None]:
    """Figures of the frozen probe on the trained model's states, and of one fitted again to them.

    Args:
        report: Of the model before.
        after: The same examples with states of the model after, split as before.
        **options: Of the probe.
    """
    train, test = split_questions(after.questions)
    data = after.data(report.site)
    labels, clusters = after.labels_N[test], [after.questions[i] for i in test]
    again = fit(report.probe, data.chosen(train), **options)
    return {
        "frozen": figures(report.fitted.score(data.chosen(test)), labels, clusters),
        "fitted again": figures(again.score(data.chosen(test)), labels, clusters),
    }
