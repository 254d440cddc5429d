"""`oversight train` as a user meets it: what it says, what it refuses, and that it can go on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from oversight.cli.main import run
from tests.cli.tiny_runs import SAMPLES, by, refused, rows, write


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sftt", "tiny.toml"], r"No such command 'sftt'\. Did you mean 'sft'\?"),
        (["sft"], r"Missing argument 'recipe'\. See 'oversight train sft --help'"),
        (["sft", "tiny.toml", "--st", "a=1"], r"no such option: --st\. Did you mean '--set'\?"),
        (["sft", "absent.toml"], r"recipe 'absent\.toml': No such file"),
        (["sft", "rows.jsonl", "--out", "x"], r"recipe 'rows\.jsonl' is not TOML"),
        (["sft", "tiny.toml"], r"no folder for the run; set out = 'runs/NAME', or give --out"),
        (["sft", "tiny.toml", "-o", "x", "--set", "steps"], r"expected a\.b=value"),
        (["sft", "tiny.toml", "-o", "x", "--set", "bach_size=1"], r"Did you mean 'batch_size'\?"),
        (
            ["dpo", "tiny.toml", "-o", "x", "--set", "beta=0.1"],
            r"tiny\.toml: unknown setting 'beta'\. Here it is called 'options\.beta'\.",
        ),
        (
            ["sft", "tiny.toml", "-o", "x", "--set", "optimizer.lrr=1"],
            r"tiny\.toml: unknown setting 'optimizer\.lrr'\. Did you mean 'lr'\?",
        ),
        (
            ["dpo", "tiny.toml", "-o", "x", "--set", "loss=sigmod"],
            r"loss = 'sigmod': there is no loss of that name\. Did you mean 'sigmoid'\?",
        ),
        (
            ["dpo", "tiny.toml", "-o", "x", "--set", "options.bta=1"],
            r"unknown setting 'options\.bta'.*Did you mean 'beta'\?",
        ),
        (
            ["reward", "tiny.toml", "-o", "x", "--set", "loss=bradley"],
            r"Did you mean 'bradley_terry'\?",
        ),
        (
            ["grpo", "tiny.toml", "-o", "x", *SAMPLES, "--set", "loss=grop"],
            r"loss = 'grop'.*Did you mean 'grpo'\?",
        ),
        (["grpo", "tiny.toml", "-o", "x"], r"setting 'reward' is missing"),
        (
            ["grpo", "tiny.toml", "-o", "x", "--set", "reward.source=length"],
            r"sampling\.max_new_tokens = 256 leaves no room for a prompt: the model has 128",
        ),
        (
            ["grpo", "tiny.toml", "-o", "x", *SAMPLES[2:], "--set", "reward.source=matches"],
            r"row 'r0': reward\.field = 'answer' is missing or empty there",
        ),
        (
            ["sft", "tiny.toml", "-o", "x", "--set", "data.path=no.jsonl"],
            r"data\.path = 'no.jsonl'",
        ),
        (["sft", "tiny.toml", "-o", "rows.jsonl"], r"out = 'rows\.jsonl' is a file"),
        (["sft", "tiny.toml", "-o", "cache"], r"out = 'cache' is not empty and no run"),
        (["sft", "tiny.toml", "-o", "trained"], r"out = 'trained' holds a finished run"),
        (
            ["sft", "tiny.toml", "-o", "trained", "--resume", "--set", "seed=1"],
            r"trained is of another run: config\.seed was 0 and is now 1",
        ),
        (
            ["sft", "tiny.toml", "-o", "x", "--resume"],
            r"out = 'x' holds no run to go on with; to begin one: [^;]+; or name",
        ),
        (["sft", "tiny.toml", "-o", "cache", "--resume"], r"out = 'cache' holds no run to go on"),
        (
            ["reward", "on.toml", "-o", "trained/x", "--resume", "--set", "members=2"],
            r"out = 'trained/x' holds no run to go on with",
        ),
        (["sft", "on.toml", "-o", "x", "--set", "model.path=./no"], r"there is no such folder"),
        (
            ["sft", "on.toml", "-o", "x", "--set", "model.path=trained"],
            r"holds no saved model\. Did you mean its folder 'trained/model'\?",
        ),
        (["sft", "on.toml", "-o", "x", "--set", "model.lora.modules=no"], r"model\.lora\.modules"),
        (
            ["grpo", "on.toml", "-o", "x", *SAMPLES[2:], *by("model", 'models=["trained"]')],
            r"reward\.models = 'trained': no folder of a saved model; did you mean",
        ),
        (
            ["grpo", "on.toml", "-o", "x", *SAMPLES[2:], *by("function", "function=absent.py:f")],
            r"reward\.function = 'absent\.py:f': there is no such file",
        ),
    ],
)
def test_what_is_wrong_on_the_command_line_is_met_with_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    (here / "cache").mkdir(exist_ok=True)
    (here / "cache" / "file").touch()
    refused(args, message, capsys)
    assert not (here / "x").exists()


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["dpo", "--set", "options.beta=-1"], r"options\.beta = -1: give a number above 0"),
        (
            ["dpo", "--set", "loss=robust", "--set", "options.label_smoothing=0.5"],
            r"options\.label_smoothing = 0\.5: give a number in \[0, 0\.5\)",
        ),
        (
            ["dpo", "--set", "loss=kto", "--set", "options.desirable_weight=-1"],
            r"options\.desirable_weight = -1: give a number of at least 0",
        ),
        (
            ["reward", "--set", "options.centring=-0.1"],
            r"options\.centring = -0\.1: give a number of at least 0",
        ),
        (
            ["grpo", *SAMPLES, "--set", "options.clip_low=2"],
            r"options\.clip_low = 2: give a number in \[0, 1\]",
        ),
        (
            ["ppo", *SAMPLES, "--set", "dual_clip=1.1"],
            r"dual_clip = 1\.1: give a number above 1 \+ clip_high = 1\.2 or None",
        ),
    ],
)
def test_an_option_out_of_its_range_is_told_before_anything_is_read(
    here: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str, flags: list[str]
) -> None:
    Path("rows.jsonl").unlink()
    refused([args[0], "tiny.toml", "-o", "x", *args[1:], *flags], rf"oversight: {message}", capsys)
    assert not (here / "x").exists()


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("empty", r"this folder holds no saved model"),
        ("untold", r"its tokenizer cannot be read"),
        ("./absent", r"there is no such folder"),
        ("trained", r"this folder holds no saved model\. Did you mean its folder 'trained/model'"),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_named_by_its_own_setting(
    here: Path, capsys: pytest.CaptureFixture[str], folder: str, reason: str, flags: list[str]
) -> None:
    for name in ("empty", "untold"):
        (here / name).mkdir()
    shutil.copy("trained/model/config.json", "untold")
    tokenizer = ["--set", f"model.tokenizer={folder}", *flags]
    message = rf"oversight: model\.tokenizer = '{folder}': {reason}"
    refused(["sft", "tiny.toml", "-o", "x", *tokenizer], message, capsys)
    assert not (here / "x").exists()


BAD: list[dict[str, Any]] = [
    *rows(1, id="empty", chosen=" "),
    *rows(1, id="equal", chosen="x", rejected="x"),
    *rows(1, id="long", prompt="word " * 200),
    *rows(1, id="alien", prompt_ids=[40, 41], chosen_ids=[42, 99999], rejected_ids=[42, 43]),
    *rows(1, id="nan", chosen="now", soft_label=float("nan")),
]


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_a_learning_rate_that_cannot_work_is_told_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    line = "optimizer.lr = 1e-05 hardly moves random weights: 1e-3 is usual for such a start"
    given = ["train", "sft", "tiny.toml", "--out", "x", "--set", "optimizer.lr=1e-5"]
    assert run([*given, *flags]) == 0
    said = capsys.readouterr()
    assert (said.out + said.err).count(line) == 1


def test_bad_rows_are_counted_by_reason_with_their_ids_before_training(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("rows.jsonl", rows() + BAD)
    assert run(["train", "dpo", "tiny.toml", "--out", "x"]) == 0
    said = capsys.readouterr().err
    for line in (
        "1 left out: a response is empty (empty)",
        "1 left out: responses are equal (equal)",
        "1 left out: the prompt is longer than the context (long (",
        "1 left out: a number is not finite (nan (soft_label = nan))",
        "encoded anew (alien)",
    ):
        assert line in said
    assert said.index("left out") < said.index("scoring 16 responses")


def test_bad_rows_stop_a_run_that_asks_for_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("rows.jsonl", rows() + BAD)
    args = ["dpo", "tiny.toml", "-o", "x"]
    refused([*args, "--set", "data.on_bad=error"], r"4 rows cannot be used:.*\(empty\)", capsys)
    outside = r"token ids are outside the vocabulary \(alien \(id 99999 of"
    refused([*args, "--set", "data.ids=given"], outside, capsys)
    write("rows.jsonl", rows(3))
    refused(args, r"there are 3 usable comparisons, and a batch takes 4", capsys)
    assert not (here / "x").exists()


def test_a_reward_that_is_no_number_ends_the_run_with_the_rows_id(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("nan.py").write_text("def f(texts, fields):\n    return [float('nan')] * len(texts)\n")
    args = ["grpo", "on.toml", "-o", "x", *SAMPLES[2:], *by("function", "function=nan.py:f")]
    refused(args, r"row 'r\d#0': reward 'nan\.py:f' is nan", capsys)


def cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])


def of_another_config(folder: Path) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"hidden_size": 32, "head_dim": 8}))


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut_short, r"model\.safetensors is cut short or damaged"),
        (of_another_config, r"has the shape \(.*\), and config\.json makes it \(.*32\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str], spoil: Any, message: str, flags: list[str]
) -> None:
    spoil(Path("trained/model"))
    refused(["sft", "on.toml", "-o", "x", *flags], message, capsys)
    assert not (here / "x").exists()


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_a_model_of_another_vocabulary_is_no_reference_and_no_reward(
    here: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    write("others.jsonl", rows(8, prompt="zebra zebra quiz quiz"))
    other = ["tiny.toml", "--out", "other", "--set", "data.path=others.jsonl"]
    assert run(["train", "reward", *other, "--set", "batch_size=1"]) == 0
    args = ["on.toml", "-o", "x", *flags]
    refused(["dpo", *args, "--set", "reference=other/model"], r"stand for other tokens", capsys)
    source = by("model", 'models=["other/model"]')
    refused(["grpo", *args, *SAMPLES[2:], *source], r"another vocabulary", capsys)


def test_the_end_says_where_the_model_is_how_it_went_and_what_to_type_next(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "sft", "tiny.toml", "--out", "x", "--set", "data.eval_rows=2"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("x/model: the finished model\n")
    assert re.search(r"held out nll +\d\.\d+ +\d\.\d+", told.out)
    assert "oversight plot x" in told.out
    assert "oversight debate --model x/model" in told.out
    assert "Loading weights" not in told.err
    assert run(["plot", "x"]) == 0
    assert (here / "x" / "curves.png").exists()


def test_an_ensemble_of_reward_models_is_told_member_by_member(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["train", "reward", "on.toml", "--out", "x", "--set", "members=2"]
    assert run(args) == 0
    told = capsys.readouterr()
    assert "x/member-1/model: the finished model" in told.out
    assert "x/member-2/model: the finished model" in told.out
    assert 'reward.models=["x/member-1/model", "x/member-2/model"]' in told.out
    assert "LOAD REPORT" not in told.err
    assert run([*args, "--resume"]) == 0
    assert capsys.readouterr().err == ""


def test_an_adapter_in_place_of_a_model_is_refused_by_what_it_is(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lora = ["--set", "model.lora.merge=false", "--set", "model.lora.rank=2"]
    assert run(["train", "sft", "on.toml", "--out", "a", *lora]) == 0
    said = capsys.readouterr().out
    assert "oversight debate" not in said
    assert "peft merges this adapter into its model" in said
    told = r"= 'a/model': this folder holds an adapter of trained/model, and no whole model; tr"
    for flags in ([], ["--dry-run"]):
        model = ["--set", "model.path=a/model", *flags]
        refused(["sft", "on.toml", "-o", "x", *model], rf"model\.path {told}", capsys)
        models = [*SAMPLES[2:], *by("model", 'models=["a/model"]'), *flags]
        refused(["grpo", "on.toml", "-o", "x", *models], rf"reward\.models {told}", capsys)
    assert run(["debate", "--model", "a/model", "--limit", "1", "--store", "x.db"]) == 2
    assert re.search(rf"engine\.transformers\.model {told}", capsys.readouterr().err)


def test_a_second_signal_in_a_step_says_what_is_kept_in_one_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "stops.py").write_text(
        "import signal\n"
        "calls = 0\n"
        "def f(texts, fields):\n"
        "    global calls\n"
        "    calls += 1\n"
        "    if calls == 3:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    return [float(len(text)) for text in texts]\n"
    )
    args = ["grpo", "tiny.toml", "-o", "x", *SAMPLES, "--set", "save_every=1", "--set", "steps=4"]
    assert run(["train", *args, *by("function", "function=stops.py:f")]) == 130
    *_, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"oversight: stopped at once; steps up to 2 are kept; go on with: .*", last)
    assert last.endswith(" --resume")
    assert run(["train", *args, *by("function", "function=stops.py:f"), "--resume"]) == 0


def test_a_finished_run_that_is_to_go_on_tells_its_end_again(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "sft", "tiny.toml", "--out", "trained", "--resume"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("trained/model: the finished model\n")
    assert told.err == ""


def test_every_trainer_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for trainer in ("sft", "reward", "dpo", "ppo", "grpo"):
        assert run(["train", trainer, "--help"]) == 0
        shown = capsys.readouterr().out
        for option in ("--out", "--set", "--resume", "--dry-run"):
            assert option in shown
    assert run(["train"]) == 2
    assert "grpo" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_rows_that_a_loss_does_not_take_are_named_before_a_model_is_read(
    here: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    write("rows.jsonl", rows(soft_label=0.8))
    args = ["dpo", "on.toml", "-o", "x", "--set", "loss=aot", *flags]
    refused(args, r"row 'r0' has the soft label 0\.8\. Take soft_labels = false", capsys)
    assert not (here / "x").exists()


@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_a_model_that_is_nowhere_is_refused_at_once(tmp_path, monkeypatch, capfd, flags):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    Path("rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    Path("on.toml").write_text(
        'out = "x"\nsteps = 1\n[model]\npath = "nothere/there"\n[data]\npath = "rows.jsonl"\n'
    )
    assert run(["train", "sft", "on.toml", *flags]) == 2
    assert "model.path = 'nothere/there': there is no such folder" in capfd.readouterr().err
    assert not Path("x").exists()
