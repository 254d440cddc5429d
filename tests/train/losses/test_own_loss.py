"""A loss that a user adds in a file of their own, named in a recipe as `file.py:function`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from oversight.cli.main import run
from oversight.errors import ConfigError
from oversight.train import losses
from oversight.train.runs.metrics import read_metrics

MINE = '''
from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses import (
    policy_loss, preference_loss, reward_loss, unpaired_loss
)
from oversight.train.losses.options import Positive
from oversight.train.losses.pairs import PairLogps, expected
from oversight.train.losses.policy_batch import NO_EXTRAS, Extras, PolicyBatch, reduced
from oversight.train.losses.reward import bradley_terry
from oversight.train.losses.responses import UnpairedLogps, kto


def summed(batch, normalizer, extras, factor=1.0):
    batch = batch.cleaned()
    term_BT = -factor * batch.advantages_BT * batch.logps_BT
    return reduced(term_BT, batch, normalizer=normalizer, extras=extras, per_sequence=False)


@policy_loss(normalizer="sequences")
def by_sequences(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    factor: Positive = 1.0,
    extras: Extras = NO_EXTRAS,
):
    """REINFORCE with a factor."""
    return summed(batch, normalizer, extras, factor)


@policy_loss(normalizer="tokens")
def by_tokens(batch: PolicyBatch, *, normalizer: float | Tensor, extras: Extras = NO_EXTRAS):
    """The same by the tokens of the step."""
    return summed(batch, normalizer, extras)


@policy_loss(normalizer="constant", scale="none")
def by_a_constant(batch: PolicyBatch, *, normalizer: float | Tensor, extras: Extras = NO_EXTRAS):
    """The same by a constant."""
    return summed(batch, normalizer, extras)


@policy_loss(normalizer="tokens")
def broken(batch: PolicyBatch, *, normalizer: float | Tensor, extras: Extras = NO_EXTRAS):
    """It raises."""
    raise KeyError("no such thing")


@policy_loss(normalizer="tokens")
def forgetful(batch: PolicyBatch, *, normalizer: float | Tensor, extras: Extras = NO_EXTRAS):
    """It gives a loss without metrics."""
    return summed(batch, normalizer, extras)[0]


@preference_loss()
def logistic(pairs: PairLogps, *, normalizer: float | Tensor, beta: Positive = 0.1):
    """DPO."""
    def per_pair(p):
        return -logsigmoid(beta * p.delta_B)
    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


@unpaired_loss(needs_kl=True)
def prospect(rows: UnpairedLogps, *, normalizer: float | Tensor, kl: float | Tensor = 0.0):
    """KTO."""
    return kto(rows, normalizer=normalizer, kl=kl)


@reward_loss()
def strength(
    chosen_B: Tensor, rejected_B: Tensor, *, normalizer: float | Tensor, soft_label_B=None,
    margin_B=None, weight_B=None, tie_B=None,
):
    """Bradley-Terry."""
    return bradley_terry(
        chosen_B, rejected_B, normalizer=normalizer, soft_label_B=soft_label_B,
        margin_B=margin_B, weight_B=weight_B, tie_B=tie_B,
    )


def letters(texts, fields):
    return [sum(map(ord, text)) % 7 / 7 for text in texts]


def plain(batch, *, normalizer, extras):
    return None
'''
RECIPE = """
batch_size = 4
steps = 2
[model]
device = "cpu"
[model.scratch]
hidden_size = 16
num_layers = 1
vocab_size = 300
max_length = 128
[data]
path = "rows.jsonl"
"""
SAMPLES = [
    "samples=3",
    "reward.source=function",
    "reward.function=mine.py:letters",
    "sampling.max_new_tokens=9",
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a recipe, rows, and the user's file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OVERSIGHT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "mine.py").write_text(MINE)
    pairs = [
        {"id": f"r{i}", "prompt": f"Who is number {i}?", "chosen": f"Ada {i}.", "rejected": "Bo."}
        for i in range(8)
    ]
    labelled = [
        {"id": r["id"], "prompt": r["prompt"], "completion": r["chosen"], "label": i % 2 == 0}
        for i, r in enumerate(pairs)
    ]
    for name, rows in (("rows", pairs), ("labelled", labelled)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    return tmp_path


def trained(trainer: str, loss: str, *sets: str) -> dict[str, Any]:
    """The weights of a run from the command line."""
    out = loss.replace(":", "_")
    flags = [part for each in (f"loss={loss}", *sets) for part in ("--set", each)]
    assert run(["train", trainer, "tiny.toml", "--out", out, *flags]) == 0
    return load_file(f"{out}/model/model.safetensors")


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[name].equal(other[name]) for name in one)


def test_a_policy_loss_from_outside_is_divided_by_the_sequences_it_says(here: Path) -> None:
    # `reinforce` is the same sum by the number of sequences.
    own = trained("grpo", "mine.py:by_sequences", *SAMPLES)
    assert same(own, trained("grpo", "reinforce", *SAMPLES))
    trained("grpo", "mine.py:by_tokens", *SAMPLES)
    by_sequences, by_tokens = (
        next(
            line for line in read_metrics(here / f"mine.py_by_{count}") if line["split"] == "train"
        )
        for count in ("sequences", "tokens")
    )
    assert by_tokens["grad_norm"] > 0
    ratio = by_sequences["grad_norm"] / by_tokens["grad_norm"]
    assert ratio == pytest.approx(by_tokens["response_length"], rel=1e-4)


def test_a_policy_loss_from_outside_says_what_advantages_are_divided_by(here: Path) -> None:
    # On fresh samples the clipped surrogate of dr_grpo has the gradient of REINFORCE.
    own = losses.load("policy", "mine.py:by_a_constant")
    known = losses.load("policy", "dr_grpo")
    assert (own.normalizer, own.scale) == (known.normalizer, known.scale) == ("constant", "none")


@pytest.mark.parametrize(
    ("trainer", "own", "known", "sets"),
    [
        ("dpo", "logistic", "sigmoid", []),
        ("dpo", "prospect", "kto", ["data.path=labelled.jsonl"]),
        ("reward", "strength", "bradley_terry", []),
    ],
)
def test_a_loss_of_each_family_can_be_the_users_own(
    here: Path, trainer: str, own: str, known: str, sets: list[str]
) -> None:
    assert same(trained(trainer, f"mine.py:{own}", *sets), trained(trainer, known, *sets))


def test_the_file_is_told_once_before_its_code_runs(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "loud.py").write_text('import sys\nprint("it runs", file=sys.stderr)\n' + MINE)
    trained("grpo", "loud.py:by_tokens", *SAMPLES)
    said = capfd.readouterr().err.replace("\n", "")
    assert f"loss: importing {here / 'loud.py'}, whose code runs" in said
    assert said.index("importing") < said.index("it runs")
    assert said.count("loud.py, whose") == said.count("it runs") == 1


def test_options_of_an_own_loss_are_checked_before_a_run(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "grpo", "tiny.toml", "--out", "o", "--set", "loss=mine.py:by_sequences"]
    command += [part for each in SAMPLES for part in ("--set", each)]
    assert run([*command, "--set", "options.factor=0"]) == 2
    assert "options.factor = 0: give a number above 0" in capfd.readouterr().err
    assert run([*command, "--dry-run", "--set", "options.factr=1"]) == 2
    assert "Did you mean 'factor'" in capfd.readouterr().err
    assert not (here / "o").exists()


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ("mine.py:plain", "the function is not registered as a loss; put a decorator above it"),
        (
            "mine.py:logistic",
            "it is registered by @preference_loss, and this trainer",
        ),
        ("mine.py:none", "'mine.py' has no function 'none'"),
        ("away.py:loss", "there is no such file"),
        ("mine.py:", "write it as 'package.module:function' or 'file.py:function'"),
    ],
)
def test_what_is_no_loss_of_the_trainer_is_refused_by_name(
    here: Path, loss: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=f"^loss = '{loss}': {told}"):
        losses.load("policy", loss)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("@policy_loss(normalizer='words')\ndef f(b, *, normalizer, extras): ...", "give tokens"),
        ("@policy_loss()\ndef f(b, *, normalizer, extras): ...", "argument: 'normalizer'"),
        ("@policy_loss(normalizer='tokens')\ndef f(b, *, normalizer): ...", "argument 'extras'"),
        (
            "@policy_loss(normalizer='tokens')\ndef f(b, *, normalizer, extras): ...",
            "'extras' has no default; give it one, such as extras: Extras",
        ),
    ],
)
def test_a_decorator_that_does_not_say_what_the_loop_needs_is_refused(
    here: Path, code: str, told: str
) -> None:
    (here / "bad.py").write_text(f"from oversight.train.losses import policy_loss\n\n{code}\n")
    with pytest.raises(ConfigError, match=rf"^loss = 'bad\.py:f': .*{told}.*bad\.py, line"):
        losses.load("policy", "bad.py:f")


def test_an_annotation_that_is_none_is_refused_before_a_run(here: Path) -> None:
    code = "@preference_loss()\ndef f(pairs, *, normalizer, beta: 'Unknown' = 1.0): ..."
    (here / "odd.py").write_text(f"from oversight.train.losses import preference_loss\n\n{code}\n")
    with pytest.raises(
        ConfigError, match=r"its arguments cannot be checked \(NameError: .*Unknown"
    ):
        losses.load("preference", "odd.py:f")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("broken", r"it raised KeyError: 'no such thing' \(.*mine\.py, line \d+\)"),
        ("forgetful", r"it gave Tensor; a loss gives a tensor of one number and a dict"),
    ],
)
def test_an_own_loss_that_fails_in_a_run_is_named(
    here: Path, capfd: pytest.CaptureFixture[str], name: str, told: str
) -> None:
    flags = [part for each in (f"loss=mine.py:{name}", *SAMPLES) for part in ("--set", each)]
    assert run(["train", "grpo", "tiny.toml", "--out", "o", *flags]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert f"loss = 'mine.py:{name}': " in said
    assert re.search(told, said)
