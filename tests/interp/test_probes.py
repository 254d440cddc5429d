"""Probes find a planted direction, erasers leave nothing of it, and bad data is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from oversight.errors import ConfigError, DataError
from oversight.interp.probes import FittedProbe, ProbeData, fit, probe_named, probe_names


def planted(
    num: int = 400, width: int = 24, strength: float = 2.0, seed: int = 0
) -> tuple[ProbeData, np.ndarray]:
    """Pairs of noise with a direction added or taken away."""
    rng = np.random.default_rng(seed)
    direction = rng.standard_normal(width)
    direction /= np.linalg.norm(direction)
    labels = np.arange(num) % 2 == 0
    topics = np.repeat(rng.standard_normal((num // 2, width)), 2, axis=0)
    noise = 0.6 * rng.standard_normal((num, width))
    states = topics + noise + np.outer(np.where(labels, strength, -strength), direction)
    mark = 5.0 * np.eye(width)[0]  # by which a query knows the token that tells
    tokens = [np.stack([noise[i], states[i] + mark, noise[i - 1]]) for i in range(num)]
    return ProbeData(states, labels, np.arange(num) // 2, tokens), direction


def area(scores: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


@pytest.mark.parametrize("name", probe_names())
def test_every_probe_finds_a_strong_planted_direction_on_new_examples(name: str) -> None:
    data, direction = planted()
    train, test = data.chosen(np.arange(200)), data.chosen(np.arange(200, 400))
    found = fit(name, train)
    assert area(found.score(test), test.labels_N) > (0.9 if name == "ccs" else 0.97)
    if name in ("mean_difference", "leace"):
        # leace reads along the whitened direction; what it takes out is the difference itself.
        line = found.direction_E if found.eraser_KE is None else found.eraser_KE[0]
        assert abs(line @ direction) / np.linalg.norm(line) > 0.95


@pytest.mark.parametrize(("name", "exact"), [("leace", True), ("inlp", False)])
def test_after_erasure_no_linear_reader_finds_the_label(name: str, exact: bool) -> None:
    data, _ = planted()
    found = fit(name, data)
    erased = found.erase(data.states_NE)
    labels = data.labels_N
    if exact:
        gap = erased[labels].mean(0) - erased[~labels].mean(0)
        assert np.abs(gap).max() < 1e-9
    model = LogisticRegression(C=1e-3).fit(erased[:200], labels[:200])
    assert 0.3 < area(model.decision_function(erased[200:]), labels[200:]) < 0.7
    # Little else is touched: states that are no different stay where they were.
    kept = np.corrcoef(erased[:, 0], data.states_NE[:, 0])[0, 1]
    assert kept > 0.7


def test_scores_are_log_odds_of_the_label() -> None:
    data, _ = planted(num=2000, strength=0.4)
    found = fit("mean_difference", data.chosen(np.arange(1000)))
    test = data.chosen(np.arange(1000, 2000))
    probs = 1 / (1 + np.exp(-found.score(test)))
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = (probs >= low) & (probs < low + 0.25)
        assert abs(probs[inside].mean() - test.labels_N[inside].mean()) < 0.1


def test_a_probe_comes_back_from_its_file_and_is_refused_for_another_model(tmp_path: Path) -> None:
    data, _ = planted(num=60)
    about = {"model": "seedling", "tokenizer": "tokenizer:1"}
    found = replace(fit("attention", data), about=about)
    found.save(tmp_path / "p.safetensors")
    again = FittedProbe.read(tmp_path / "p.safetensors", model="seedling", tokenizer="tokenizer:1")
    assert again.score(data).tolist() == found.score(data).tolist()
    assert again.about == found.about
    with pytest.raises(ConfigError, match="it is of model 'seedling', not of 'porter'"):
        FittedProbe.read(tmp_path / "p.safetensors", model="porter")
    with pytest.raises(ConfigError, match="it is of tokenizer 'tokenizer:1', not of 'tokenizer:2'"):
        FittedProbe.read(tmp_path / "p.safetensors", tokenizer="tokenizer:2")
    (tmp_path / "q").write_text("no probe")
    with pytest.raises(DataError, match="holds no probe"):
        FittedProbe.read(tmp_path / "q")


def test_what_no_probe_can_be_fitted_to_is_refused() -> None:
    data, _ = planted(num=20)
    one = ProbeData(data.states_NE, np.ones(20, dtype=bool))
    with pytest.raises(DataError, match="one class: 20 of 20 labels are true"):
        fit("logistic", one)
    broken = ProbeData(np.full((20, 4), np.nan), data.labels_N)
    with pytest.raises(DataError, match="values that are no numbers"):
        fit("logistic", broken)
    with pytest.raises(ConfigError, match=r"there is no probe 'logistc'\. Did you mean 'logistic'"):
        fit("logistc", data)
    plain = ProbeData(data.states_NE, data.labels_N)
    with pytest.raises(ConfigError, match="needs contrast pairs"):
        fit("ccs", plain)
    with pytest.raises(ConfigError, match="pools tokens"):
        fit("attention", plain)
    with pytest.raises(ConfigError, match="erases nothing"):
        fit("logistic", data).erase(data.states_NE)


def test_a_probe_of_ones_own_is_taken_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "from oversight.interp.probes import FittedProbe, probe\n"
        "@probe\n"
        "def first_axis(data):\n"
        "    size = data.states_NE.shape[1]\n"
        "    return FittedProbe('first_axis', np.eye(size)[0], np.zeros(size))\n"
    )
    data, _ = planted(num=20)
    found = probe_named(f"{tmp_path / 'mine.py'}:first_axis")(data)
    assert found.score(data).tolist() == data.states_NE[:, 0].tolist()
