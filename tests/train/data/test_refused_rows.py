"""From rows to examples: what becomes of those that are bad, unreadable or too long."""

from __future__ import annotations

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oversight.errors import ConfigError, DataError
from oversight.train.data.files import texts
from oversight.train.data.loading import load_demonstrations, load_prompts, require_batch
from oversight.train.settings import DataSettings

PAIR = {"prompt": "Where is the key?", "chosen": " Kitchen.", "rejected": " Attic."}


# --- what is refused -------------------------------------------------------------

BAD = {
    "an empty response": ({**PAIR, "chosen": ""}, "a response is empty"),
    "a blank response": ({**PAIR, "rejected": " \n"}, "a response is empty"),
    "equal responses": ({**PAIR, "rejected": " Kitchen."}, "responses are equal"),
    "equal whole texts": (
        {"chosen": "a b", "rejected": "a b", "prompt": "a"},
        "responses are equal",
    ),
    "an empty prompt": ({**PAIR, "prompt": ""}, "the chat template refuses the messages"),
    "a missing column": ({"prompt": "Q", "chosen": "a"}, "a column is missing"),
    "a null column": ({**PAIR, "rejected": None}, "a column is missing"),
    "a number for a text": ({**PAIR, "chosen": 3}, "messages are unreadable"),
    "a NaN margin": ({**PAIR, "margin": math.nan}, "a number is not finite"),
    "an infinite weight": ({**PAIR, "weight": math.inf}, "a number is not finite"),
    "a negative weight": ({**PAIR, "weight": -1}, "the weight is negative"),
    "a NaN score": ({**PAIR, "chosen_score": math.nan}, "a number is not finite"),
    "a text for a margin": ({**PAIR, "margin": "big"}, "a number is unreadable"),
    "a truth value for a weight": ({**PAIR, "weight": True}, "a number is unreadable"),
    "a soft label above 1": ({**PAIR, "soft_label": 1.2}, "the soft label is no probability"),
    "a NaN soft label": ({**PAIR, "soft_label": math.nan}, "a number is not finite"),
    "half a surrogate": ({**PAIR, "chosen": "\ud800"}, "a text is unreadable"),
    "an assistant's prompt": (
        {
            **PAIR,
            "prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        },
        "the prompt ends with a message of the assistant",
    ),
    "a tool's message": (
        {**PAIR, "prompt": [{"role": "tool", "content": "a"}]},
        "messages are unreadable",
    ),
    "an empty prompt list": ({**PAIR, "prompt": []}, "messages are unreadable"),
    "two answers in one": (
        {
            **PAIR,
            "chosen": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}],
        },
        "messages are unreadable",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_counted_with_its_id_and_the_rest_is_used(compare, chat, name):
    row, reason = BAD[name]
    loaded = compare(chat, [PAIR, {"id": "bad one", **row}, {**PAIR, "prompt": "Other?"}])
    assert len(loaded.examples) == 2
    assert loaded.refused.dropped == {reason: 1}
    assert loaded.refused.ids[reason][0].startswith("bad one")
    assert any(reason in line and "bad one" in line for line in loaded.lines())


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"completions": ["a", "b"], "ranks": [0]}, "ranks do not fit the responses"),
        ({"completions": ["a", "b"], "ranks": 3}, "ranks do not fit the responses"),
        ({"completions": ["a", "b"], "ranks": [0, math.nan]}, "a number is not finite"),
        ({"completions": ["a", "b"], "ranks": [0, None]}, "a number is unreadable"),
        ({"completions": ["a"], "ranks": [0]}, "fewer than two responses"),
        ({"completions": "ab", "ranks": [0, 1]}, "ranks do not fit the responses"),
        ({"completions": ["a", "b"], "scores": [0.5, None]}, "a column is missing"),
        ({"completions": ["a", "b"], "scores": [0.5, math.nan]}, "a number is not finite"),
        (
            {"completions": ["a", "b", "c"], "ranks": [0, 1, 2], "soft_label": 0.5},
            "ranks do not fit the responses",
        ),
        ({"completions": ["a", "a"], "ranks": [0, 0]}, "responses are equal"),
        (
            {"completions": ["a", "b"], "ranks": [0, 1], "completion_ids": [[1]]},
            "token ids are unreadable",
        ),
    ],
)
def test_rankings_that_do_not_fit_are_refused(compare, chat, row, reason):
    loaded = compare(chat, [{"prompt": "Q", **row}], format="kwise")
    assert loaded.refused.dropped == {reason: 1}


def test_ids_that_a_smaller_model_does_not_know_are_refused(compare, chat):
    loaded = compare(chat, [PAIR], vocab_size=10)
    assert loaded.refused.dropped == {"token ids are outside the vocabulary": 1}


def test_prompts_longer_than_the_context_are_refused(compare, chat):
    long = {**PAIR, "id": "long", "prompt": "key " * 300}
    loaded = compare(chat, [long, PAIR], max_len=64)
    assert [e.id for e in loaded.examples] == ["rows[1]"]
    assert loaded.refused.dropped == {"the prompt is longer than the context": 1}
    asked = load_prompts(DataSettings(), chat, len(chat), 64, rows=[{"prompt": "key " * 300}])
    assert asked.refused.dropped == {"the prompt is longer than the context": 1}


def test_broken_lines_are_counted_with_file_and_line(compare, chat, tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [json.dumps(PAIR), '{"prompt": "Q", ', "", "[1]", '{"prompt": NaN}', "\xff"]
    path.write_bytes("\n".join(lines).encode("latin-1"))
    loaded = compare(chat, None, path=str(path))
    assert len(loaded.examples) == 1
    assert loaded.refused.dropped == {"the line is broken": 3, "a column is missing": 1}
    noted = loaded.refused.ids["the line is broken"]
    assert [note.split(" ")[0] for note in noted] == [f"pairs.jsonl:{n}" for n in (2, 4, 6)]
    assert loaded.provenance[0]["rows"] == 5


def test_files_of_each_kind_give_the_same_examples(compare, chat, tmp_path):
    rows = [{**PAIR, "id": str(i), "prompt": f"Where is key {i}?"} for i in range(5)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "b.json").write_text("\ufeff" + "\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=2)
    files = ["a.jsonl", "a.json", "b.json", "a.parquet"]
    found = {compare(chat, None, path=str(tmp_path / name)).fingerprint for name in files}
    assert found == {compare(chat, rows).fingerprint}
    both = compare(chat, None, path=(str(tmp_path / "a.*"),), duplicates="keep")
    assert both.statistics.num_rows == 15
    assert [source["rows"] for source in both.provenance] == [5, 5, 5]


def test_files_that_cannot_be_read_at_all_are_errors(compare, chat, tmp_path):
    (tmp_path / "x.csv").write_text("a,b")
    (tmp_path / "x.json").write_text("[{")
    (tmp_path / "x.parquet").write_text("PAR1 no")
    for name, message in (
        ("none.jsonl", "no such file"),
        ("x.csv", r"accepted are files \.jsonl, \.json, \.parquet"),
        ("x.json", "broken JSON"),
        ("x.parquet", "broken Parquet"),
        ("", "one of data.path"),
    ):
        path = str(tmp_path / name) if name else ()
        with pytest.raises((DataError, ConfigError), match=message):
            compare(chat, None, path=path)


@pytest.mark.parametrize("damage", ["a flipped bit", "text that is no UTF-8"])
def test_a_parquet_file_that_is_damaged_in_its_rows_is_named(compare, chat, tmp_path, damage):
    path = tmp_path / "x.parquet"
    table = pa.Table.from_pylist([PAIR])
    if damage == "a flipped bit":
        pq.write_table(
            table, path, compression="none", use_dictionary=False, write_page_checksum=True
        )
        place = path.read_bytes().index(b"\x09\0\0\0 Kitchen.")
        data = bytearray(path.read_bytes())
        data[place + 6] ^= 1
        path.write_bytes(data)
    else:
        raw = pa.array([b"\xff\xfe"], pa.binary())
        text = pa.Array.from_buffers(pa.string(), 1, raw.buffers())
        pq.write_table(table.set_column(0, "prompt", text), path)
    with pytest.raises(
        DataError, match=r"x\.parquet: broken Parquet after row 0: .*write it again"
    ):
        compare(chat, None, path=str(path))


def test_a_new_tokenizer_s_data_without_words_is_named_with_its_first_row(tmp_path):
    for content, message in (
        ("", r"x\.jsonl holds no rows"),
        ('{"prompt": "a\n', r"the first is x\.jsonl:1: Invalid control character"),
        ('{"question": "a"}\n', r"the first is x\.jsonl:1: columns \['question'\]"),
    ):
        (tmp_path / "x.jsonl").write_text(content)
        with pytest.raises(DataError, match=message):
            list(texts(DataSettings(path=str(tmp_path / "x.jsonl")), None))


def test_an_unknown_format_names_the_columns_found_and_those_accepted(compare, chat):
    with pytest.raises(
        DataError,
        match=r"columns answer, question are of no .* gives comparisons.*pair \(prompt, cho",
    ):
        compare(chat, [{"question": "a", "answer": "b"}])
    with pytest.raises(
        DataError, match=r"data\.format = 'text' gives no comparisons; accepted: kwise"
    ):
        compare(chat, [PAIR], format="text")


def test_a_forced_format_is_used(chat):
    row = {"prompt": "Q", "completion": " a", "text": "The key."}
    loaded = load_demonstrations(DataSettings(format="text"), chat, len(chat), rows=[row])
    assert chat.decode(loaded.examples[0].row.ids()) == "The key.<|end|>"


def test_rows_may_stop_the_run_and_the_error_lists_them(compare, chat):
    rows = [PAIR, {**PAIR, "id": "b1", "chosen": ""}, {**PAIR, "id": "b2", "weight": -1}]
    with pytest.raises(DataError, match=r"(?s)2 rows cannot be used.*b1.*b2 \(weight = -1"):
        compare(chat, rows, on_bad="error")
    assert len(compare(chat, [PAIR, PAIR], on_bad="error").examples) == 1  # no fault of the row


def test_duplicates_are_left_out_or_kept(compare, chat):
    rows = [PAIR, {**PAIR, "id": "again"}, {**PAIR, "weight": 2.0}]
    loaded = compare(chat, rows)
    assert [e.id for e in loaded.examples] == ["rows[0]", "rows[2]"]
    assert loaded.refused.ids["a duplicate of an earlier example"] == ["again"]
    assert len(compare(chat, rows, duplicates="keep").examples) == 3


def test_fewer_rows_than_a_batch_stop_the_run_with_the_counts(compare, chat):
    loaded = compare(chat, [PAIR, {**PAIR, "chosen": ""}])
    require_batch(loaded, 1)
    with pytest.raises(
        DataError,
        match=r"(?s)1 usable comparisons, and a batch takes 2:.*1 left out: a response is empty",
    ):
        require_batch(loaded, 2)
    with pytest.raises(DataError, match="no usable comparisons"):
        require_batch(compare(chat, []), 1)


def test_what_of_a_store_became_no_row_is_among_the_counts(compare, chat):
    loaded = compare(chat, [PAIR])
    loaded.provenance.append({"store": "runs.db", "left_out": {"no_prompt": 8}})
    with pytest.raises(
        DataError, match=r"(?s)takes 2:\n  8 not comparable in the store: .*no prompt"
    ):
        require_batch(loaded, 2)


def test_what_a_row_says_cannot_steer_the_terminal(compare, chat):
    loaded = compare(chat, [{**PAIR, "id": "\x1b[31mred\n", "chosen": ""}])
    assert "\x1b" not in "".join(loaded.lines())
    assert len(loaded.lines()) == len("\n".join(loaded.lines()).splitlines())


# --- length ----------------------------------------------------------------------


def test_a_cut_prompt_stays_the_same_for_all_responses(compare, tokenizers):
    tokenizer = tokenizers("bos")
    row = {**PAIR, "prompt": "The judge reads the transcript. " * 8, "rejected": " Attic, " * 9}
    whole = compare(tokenizer, [row]).examples[0]
    loaded = compare(tokenizer, [row], max_length=60, truncation="prompt_left")
    (pair,) = loaded.examples
    assert [ids.tolist() for ids in pair.responses] == [ids.tolist() for ids in whole.responses]
    longest = max(map(len, pair.responses))
    assert len(pair.prompt_ids) + longest == 60
    assert pair.prompt_ids[0] == tokenizer.bos_token_id
    kept = len(pair.prompt_ids) - 1
    assert pair.prompt_ids[1:].tolist() == whole.prompt_ids[-kept:].tolist()
    assert loaded.refused.cut == {"the prompt's beginning was cut": 1}


def test_a_cut_response_has_no_eos_and_is_counted(compare, chat):
    row = {**PAIR, "rejected": " Attic, " * 30}
    loaded = compare(chat, [row], max_length=40, truncation="response_right")
    (pair,) = loaded.examples
    assert len(pair.prompt_ids) + len(pair.responses[1]) == 40
    assert pair.responses[1][-1] != chat.eos_token_id
    assert pair.responses[0][-1] == chat.eos_token_id
    assert loaded.refused.cut == {"a response's end was cut": 1}


def test_responses_that_are_equal_once_they_are_cut_are_refused(compare, chat):
    row = {**PAIR, "chosen": " Attic, " * 30 + "a", "rejected": " Attic, " * 30 + "b"}
    loaded = compare(chat, [row], max_length=40, truncation="response_right")
    assert loaded.refused.dropped == {"responses are equal": 1}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"max_length": 40}, "prompt and response are longer than max_length"),
        ({"max_prompt_length": 5}, "the prompt is longer than max_prompt_length"),
        (
            {"max_prompt_length": 5, "truncation": "response_right"},
            "the prompt is longer than max_prompt_length",
        ),
        (
            {"max_length": 40, "truncation": "prompt_left"},
            "the response alone is longer than max_length",
        ),
    ],
)
def test_rows_that_are_too_long_are_left_out_by_default(compare, chat, settings, reason):
    loaded = compare(chat, [{**PAIR, "chosen": " Kitchen" * 40}], **settings)
    assert loaded.refused.dropped == {reason: 1}


def test_a_dialogue_s_mask_is_cut_with_it(chat, said):
    row = {"messages": said(("u", "A?"), ("a", "b" * 9), ("u", "C?"), ("a", "d" * 50))}
    whole = load_demonstrations(DataSettings(), chat, len(chat), rows=[row]).examples[0].row
    settings = DataSettings(max_length=30, truncation="response_right")
    cut = load_demonstrations(settings, chat, len(chat), rows=[row]).examples[0].row
    assert cut.num_tokens == 30
    assert cut.mask.tolist() == whole.mask[: len(cut.mask)].tolist()
    assert 0 < cut.num_trained < whole.num_trained


@pytest.mark.parametrize("ours", ["prompt", "weight"])
def test_a_column_that_is_named_and_that_no_row_has_is_refused(compare, chat, ours):
    row = {"prompt": "a", "chosen": "a b", "rejected": "a c", "weight": 2.0}
    with pytest.raises(DataError, match=rf"data\.columns\.{ours} = 'nope': no row has.* chosen, p"):
        compare(chat, [row], columns={ours: "nope"})


def test_a_named_column_may_stand_in_some_rows_only(compare, chat):
    rows = [{"prompt": str(i), "chosen": "b", "rejected": "c"} for i in range(150)]
    rows[-1]["importance"] = 3.0
    found = compare(chat, rows, columns={"weight": "importance"}).examples
    assert [each.weight for each in found[-2:]] == [1.0, 3.0]


def test_a_folder_in_place_of_files_is_called_a_folder(tmp_path):
    settings = DataSettings(path=str(tmp_path))
    with pytest.raises(DataError, match=r"is a folder: name its files, as with '.*\*\.jsonl'"):
        list(texts(settings, None))


def test_cells_that_are_no_text_are_shown(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"prompt": 1, "chosen": 2, "rejected": 3}\n')
    with pytest.raises(DataError, match=r"x\.jsonl:1: chosen = 2, prompt = 1, rejected = 3 is no "):
        list(texts(DataSettings(path=str(tmp_path / "x.jsonl")), None))
