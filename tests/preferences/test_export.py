"""Files that other tools read: what they hold, and what happens when writing goes wrong."""

import itertools
import json
import os

import pytest

from oversight.errors import ConfigError, EngineUnavailableError
from oversight.preferences.building import ROW_GROUP, export, preferences
from oversight.preferences.layouts import schema
from oversight.preferences.settings import PreferenceSettings
from oversight.types import Message, Prompt, Quote, QuoteStatus, Seat

A, B = Seat.A, Seat.B
LAYOUTS = ("preference", "kwise", "transcripts")


@pytest.fixture
def transcripts(debate, beliefs, sampled):
    """A debate of openings, one of sampled turns with siblings, and a tie."""
    plain = debate().say(A, "kitchen").say(B, "attic").judge(beliefs(0.8))
    rich = debate(seed=1)
    rich.say(A, "a0", sampled("a0"), candidate=0, score=0.9)
    rich.say(A, "a1", sampled("a1"), candidate=1, score=0.2, chosen=False)
    rich.say(B, "b", sampled("b")).judge(beliefs(0.3))
    tied = debate(seed=2).say(A, "kitchen").say(B, "attic").judge(beliefs(0.5))
    return [made.build() for made in (plain, rich, tied)]


@pytest.fixture
def rows(transcripts, prompt_of):
    return list(preferences(transcripts, PreferenceSettings(), prompt_of))


def load(path, format, tmp_path):
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(
        "json" if format == "jsonl" else "parquet",
        data_files=str(path),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )


@pytest.mark.filterwarnings("default")  # of the reading side, which is not ours
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_pairs_load_where_trainers_load_them(rows, tmp_path, prompt_of, format):
    out = tmp_path / f"pairs.{format}"
    done = export(rows, out, format)
    assert (done.num_rows, done.num_left_out, done.num_repaired) == (3, 1, 0)
    loaded = list(load(out, format, tmp_path))
    assert [r["chosen"][0]["content"] for r in loaded] == ["kitchen", "b", "a0"]
    assert [r["rejected"][0]["content"] for r in loaded] == ["attic", "a0", "a1"]
    assert [r["soft_label"] for r in loaded] == pytest.approx([0.8, 0.7, None])
    assert loaded[1]["chosen_ids"] == list(b"b")
    assert loaded[1]["rejected_logprobs"] == [-0.5, -0.5]
    assert loaded[0]["prompt_ids"] is None
    assert loaded[2]["prompt_ids"] == [1, 2, 0]
    assert all(m["role"] == "assistant" for r in loaded for m in r["chosen"] + r["rejected"])
    made = [row for row in rows if row.ranks == (0, 1)]
    assert [r["id"] for r in loaded] == [row.id for row in made]
    for got, row in zip(loaded, made, strict=True):
        messages = [Message(role=m["role"], parts=(m["content"],)) for m in got["prompt"]]
        assert Prompt(messages=tuple(messages)).id == row.prompt.id


def test_chosen_and_rejected_were_sampled_for_the_exported_prompt(rows, transcripts, tmp_path):
    import pyarrow.parquet as pq

    export(rows, tmp_path / "pairs.parquet", "parquet")
    asked = {t.id: [s.prompt_id for s in t.samples] for each in transcripts for t in each.turns}
    for row in pq.read_table(tmp_path / "pairs.parquet").to_pylist():
        messages = [Message(role=m["role"], parts=(m["content"],)) for m in row["prompt"]]
        exported = Prompt(messages=tuple(messages)).id
        for turn_id in (row["chosen_turn_id"], row["rejected_turn_id"]):
            assert asked[turn_id] in ([exported], [])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_kwise_holds_ties_too(rows, tmp_path, format):
    out = tmp_path / f"kwise.{format}"
    assert export(rows, out, format, "kwise").num_rows == len(rows) == 4
    loaded = list(load(out, format, tmp_path))
    assert [r["ranks"] for r in loaded] == [[0, 1], [0, 1], [0, 1], [0, 0]]
    assert [r["tie"] for r in loaded] == [False, False, False, True]
    assert [c[0]["content"] for c in loaded[0]["completions"]] == ["kitchen", "attic"]


@pytest.mark.filterwarnings("default")
def test_transcripts_as_jsonl_hold_one_whole_debate_a_line(transcripts, tmp_path):
    out = tmp_path / "debates.jsonl"
    assert export(transcripts, out, "jsonl", "transcripts").num_rows == 3
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    for line, transcript in zip(lines, transcripts, strict=True):
        assert line["debate"] == transcript.debate.model_dump(mode="json")
        assert [t["id"] for t in line["turns"]] == [t.id for t in transcript.turns]
        assert line["judgments"][0]["final"]["probs"] is not None


def test_transcripts_as_parquet_hold_one_turn_a_row(transcripts, tmp_path):
    import pyarrow.parquet as pq

    turn = transcripts[0].turns[0]
    quote = Quote(start=0, end=3, text="kit", status=QuoteStatus.NEAR)
    quoting = turn.model_copy(update={"quotes": (quote,)})
    changed = transcripts[0].__class__(
        transcripts[0].debate,
        transcripts[0].question,
        (quoting, *transcripts[0].turns[1:]),
        transcripts[0].judgments,
    )
    out = tmp_path / "turns.parquet"
    assert export([changed, transcripts[1]], out, "parquet", "transcripts").num_rows == 5
    table = pq.read_table(out)
    assert table.schema.equals(schema("transcripts"))
    first = table.to_pylist()[0]
    assert first["quotes"] == [{"text": "kit", "status": "near"}]
    assert (first["seat"], first["side"], first["verdicts"]) == ("a", 0, ["decided"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_rows_are_a_valid_file(tmp_path, layout):
    import pyarrow.parquet as pq

    out = tmp_path / "none.parquet"
    assert export([], out, "parquet", layout).num_rows == 0
    table = pq.read_table(out)
    assert (table.num_rows, table.schema) == (0, schema(layout))
    export([], tmp_path / "none.jsonl", "jsonl", layout)
    assert (tmp_path / "none.jsonl").read_text() == ""


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_what_no_file_can_hold_is_replaced_and_counted(
    debate, beliefs, sampled, prompt_of, tmp_path, format
):
    import pyarrow.parquet as pq

    bad = sampled("b\x00", logprobs=(float("-inf"), -1.0))
    made = debate().say(A, "a", sampled("a\ud800\udc00!")).say(B, "b", bad).judge(beliefs(0.9))
    found = list(preferences([made.build()], PreferenceSettings(), prompt_of))
    out = tmp_path / "bad"
    assert export(found, out, format).num_repaired == 4
    if format == "parquet":
        (row,) = pq.read_table(out).to_pylist()
    else:
        row = json.loads(out.read_text(encoding="utf-8"))
    assert row["chosen"][0]["content"] == "a��!"
    assert row["rejected"][0]["content"] == "b�"
    assert row["rejected_logprobs"] == [None, -1.0]


def test_many_rows_are_written_in_groups(rows, tmp_path):
    import pyarrow.parquet as pq

    out = tmp_path / "many.parquet"
    number = 2 * ROW_GROUP + 1
    assert export(itertools.repeat(rows[0], number), out, "parquet").num_rows == number
    assert pq.ParquetFile(out).num_row_groups == 3


def test_a_failure_leaves_the_old_file_and_nothing_else(rows, tmp_path):
    out = tmp_path / "pairs.jsonl"
    out.write_text("old")

    def breaking():
        yield rows[0]
        raise RuntimeError("the store went away")

    for format in ("jsonl", "parquet"):
        with pytest.raises(RuntimeError, match="went away"):
            export(breaking(), out, format)
        assert out.read_text() == "old"
        assert os.listdir(tmp_path) == ["pairs.jsonl"]


def test_a_place_that_cannot_be_written_is_named(rows, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        export(rows, tmp_path / "file" / "pairs.jsonl")


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_file_that_cannot_grow_leaves_the_old_one(rows, tmp_path, format):
    resource = pytest.importorskip("resource", reason="limits on a file's size are POSIX")
    out = tmp_path / "pairs"
    out.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(ConfigError, match="cannot be written"):
            export(itertools.repeat(rows[0], 5000), out, format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["pairs"]
    assert out.read_text() == "old"


def test_errors_of_the_source_of_rows_keep_their_name(tmp_path):
    def gone():
        raise EngineUnavailableError("nobody answers")
        yield

    with pytest.raises(EngineUnavailableError, match="nobody answers"):
        export(gone(), tmp_path / "out")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"format": "parqet"}, r"format = 'parqet' is unknown. Did you mean 'parquet'\?"),
        ({"layout": "pairs"}, "layout = 'pairs' is unknown"),
        ({"layout": "transcripts"}, "takes transcripts, but was given a Preference"),
    ],
)
def test_wrong_options_are_named(rows, tmp_path, given, message):
    with pytest.raises(ConfigError, match=message):
        export(rows, tmp_path / "out", **given)


def test_transcripts_are_refused_by_a_layout_of_pairs(transcripts, tmp_path):
    with pytest.raises(ConfigError, match="takes preferences, but was given a Transcript"):
        export(transcripts, tmp_path / "out")


def test_exported_log_probabilities_stand_beside_the_temperature_that_they_are_at(
    debate, beliefs, sampled, prompt_of, tmp_path
):
    made = debate(seed=1)
    warm = {"logprobs_temperature": 0.8}
    made.say(A, "a0", sampled("a0", **warm), candidate=0, score=0.9)
    made.say(A, "a1", sampled("a1"), candidate=1, score=0.2, chosen=False)
    made.say(B, "b").judge(beliefs(0.7))
    found = list(preferences([made.build()], PreferenceSettings(), prompt_of))
    (row,) = [row for row in found if row.kind == "siblings"]
    export([row], tmp_path / "pairs.jsonl", "jsonl")
    pair = json.loads((tmp_path / "pairs.jsonl").read_text())
    assert pair["chosen_logprobs_temperature"] == 0.8
    assert pair["rejected_logprobs_temperature"] is None
    export([row], tmp_path / "kwise.jsonl", "jsonl", "kwise")
    ranking = json.loads((tmp_path / "kwise.jsonl").read_text())
    assert ranking["completion_logprobs_temperature"] == [0.8, None]


def test_the_temperature_of_log_probabilities_is_no_part_of_a_rows_id(rows):
    row = next(row for row in rows if row.kind == "siblings")
    told = [each.model_copy(update={"logprobs_temperature": 0.8}) for each in row.responses]
    assert row.model_copy(update={"responses": tuple(told)}).id == row.id
