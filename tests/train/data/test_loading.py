"""From rows to examples: what is made of good ones, and what becomes of bad ones."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oversight.errors import ConfigError, DataError
from oversight.train.data.fingerprint import fingerprint
from oversight.train.data.loading import (
    load_comparisons,
    load_demonstrations,
    load_labelled,
    load_prompts,
    require_batch,
)
from oversight.train.data.refusal import table
from oversight.train.data.settings import DataSettings

PAIR = {"prompt": "Where is the key?", "chosen": " Kitchen.", "rejected": " Attic."}


def compare(tokenizer, rows, max_len=None, vocab_size=None, **settings):
    size = len(tokenizer) if vocab_size is None else vocab_size
    return load_comparisons(DataSettings(**settings), tokenizer, size, max_len, rows=rows)


def words(tokenizer, ids):
    return tokenizer.decode(ids)


# --- formats ---------------------------------------------------------------------


def test_plain_pairs_are_taken_as_they_stand(chat):
    (pair,) = compare(chat, [PAIR]).examples
    assert words(chat, pair.prompt_ids) == "Where is the key?"
    assert [words(chat, ids) for ids in pair.responses] == [" Kitchen.<|end|>", " Attic.<|end|>"]
    assert pair.ranks == (0, 1)
    assert pair.id == "rows[0]"


def test_plain_pairs_become_messages_where_the_template_is_asked_for(chat):
    (pair,) = compare(chat, [PAIR], template="always").examples
    assert words(chat, pair.prompt_ids) == (
        "<|bos|><|user|>\nWhere is the key?<|end|>\n<|assistant|>\n"
    )


def test_conversational_pairs_are_rendered_by_the_template(chat, bare, said):
    row = {
        "id": "r1",
        "prompt": said(("s", "Be brief."), ("u", "Where?")),
        "chosen": said(("a", "There.")),
        "rejected": said(("a", "Here.")),
    }
    (pair,) = compare(chat, [row]).examples
    assert pair.id == "r1"
    prompt = chat.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
    assert pair.prompt_ids.tolist() == prompt
    for ids, answer in zip(pair.responses, ("chosen", "rejected"), strict=True):
        whole = chat.apply_chat_template(row["prompt"] + row[answer])["input_ids"]
        assert [*prompt, *ids] == whole[:-1]  # all but the new line behind the end of turn
    (pair,) = compare(bare, [row]).examples
    assert words(bare, pair.prompt_ids) == "System: Be brief.\n\nUser: Where?\n\nAssistant:"
    assert words(bare, pair.responses[0]) == " There.<|end|>"


def test_implicit_prompts_are_what_both_have_in_common(chat, said):
    texts = {"chosen": "The key is in a kitchen.", "rejected": "The key is in an attic."}
    (pair,) = compare(chat, [texts]).examples
    assert words(chat, pair.prompt_ids) == "The key is in"
    assert words(chat, pair.responses[1]) == " an attic.<|end|>"
    lists = {
        "chosen": said(("u", "Where?"), ("a", "There.")),
        "rejected": said(("u", "Where?"), ("a", "Here.")),
    }
    explicit = {
        "prompt": said(("u", "Where?")),
        "chosen": said(("a", "There.")),
        "rejected": "Here.",
    }
    doubled = {"prompt": "Where?", **lists}
    found = [compare(chat, [row]).fingerprint for row in (lists, explicit, doubled)]
    assert len(set(found)) == 1


def test_hh_dialogues_are_messages_with_a_template_and_texts_without(chat, bare):
    row = {
        "chosen": "\n\nHuman: Where?\n\nAssistant: There.",
        "rejected": "\n\nHuman: Where?\n\nAssistant: Here.",
    }
    loaded = compare(chat, [row])
    assert loaded.provenance[0]["format"] == "hh"
    (pair,) = loaded.examples
    assert words(chat, pair.prompt_ids).endswith("<|user|>\nWhere?<|end|>\n<|assistant|>\n")
    assert words(chat, pair.responses[0]) == "There.<|end|>"
    (pair,) = compare(bare, [row]).examples
    assert words(bare, pair.prompt_ids) == "\n\nHuman: Where?\n\nAssistant:"
    assert words(bare, pair.responses[0]) == " There.<|end|>"
    split = {"prompt": "\n\nHuman: Where?\n\nAssistant:", "chosen": " There.", "rejected": "Here."}
    for tokenizer in (chat, bare):
        assert compare(tokenizer, [split]).fingerprint == compare(tokenizer, [row]).fingerprint


def test_rankings_are_sorted_and_made_dense(chat):
    row = {"prompt": "Q", "completions": [" c", " a", " b"], "ranks": [7, 0, 3]}
    (ranking,) = compare(chat, [row]).examples
    assert [words(chat, ids) for ids in ranking.responses] == [
        " a<|end|>",
        " b<|end|>",
        " c<|end|>",
    ]
    assert ranking.ranks == (0, 1, 2)
    by_score = {"prompt": "Q", "completions": [" c", " a", " b"], "scores": [0.1, 0.9, 0.5]}
    assert compare(chat, [by_score]).fingerprint == compare(chat, [row]).fingerprint


def test_ties_soft_labels_margins_and_weights_are_kept(chat):
    rows = [
        {"prompt": "Q", "completions": [" a", " b"], "ranks": [0, 0], "weight": 0.5},
        {
            "prompt": "P",
            "completions": [" a", " b"],
            "ranks": [0, 1],
            "soft_label": 0.8,
            "margin": 1.5,
        },
        {
            "prompt": "R",
            "completions": [" a", " b"],
            "ranks": [1, 0],
            "soft_label": 0.25,
            "margin": -2,
        },
    ]
    loaded = compare(chat, rows)
    tie, soft, turned = loaded.examples
    assert (tie.is_tie, tie.ranks, tie.weight) == (True, (0, 0), 0.5)
    assert (soft.soft_label, soft.margin, soft.weight) == (0.8, 1.5, 1.0)
    # The second answer is the better one, so the label and the margin change sides with it.
    assert (turned.soft_label, turned.margin) == (0.75, 2.0)
    assert words(chat, turned.responses[0]) == " b<|end|>"
    assert (loaded.statistics.num_ties, loaded.statistics.num_soft) == (1, 2)


def test_the_margin_may_be_the_difference_of_scores(chat):
    row = {**PAIR, "chosen_score": 0.9, "rejected_score": 0.4, "margin": 7.0}
    (pair,) = compare(chat, [row], margin="scores").examples
    assert pair.margin == pytest.approx(0.5)
    assert compare(chat, [row]).examples[0].margin == 7.0


def test_equal_responses_of_a_ranking_are_merged_and_counted(chat):
    row = {"prompt": "Q", "completions": [" a", " b", " a"], "ranks": [0, 1, 0]}
    loaded = compare(chat, [row])
    (ranking,) = loaded.examples
    assert len(ranking.responses) == 2
    assert loaded.refused.cut["equal responses were merged"] == 1
    contrary = {"prompt": "Q", "completions": [" a", " b", " a"], "ranks": [0, 1, 2]}
    assert compare(chat, [contrary]).refused.dropped["equal responses have different ranks"] == 1


def test_columns_may_have_other_names(chat):
    row = {"question": "Where?", "good": " There.", "bad": " Here.", "prompt": None}
    names = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    (pair,) = compare(chat, [row], columns=names).examples
    assert words(chat, pair.prompt_ids) == "Where?"


def test_unpaired_rows_have_a_label(chat):
    rows = [
        {"prompt": "Q", "completion": " a", "label": True},
        {"prompt": "Q", "completion": " b", "label": 0},
        {"prompt": "Q", "completion": " c", "label": "good"},
        {"prompt": "Q", "completion": " d", "label": 2},
    ]
    loaded = load_labelled(DataSettings(), chat, len(chat), rows=rows)
    assert [e.desirable for e in loaded.examples] == [True, False]
    assert loaded.refused.dropped == {"the label is neither true nor false": 2}
    paired = load_labelled(DataSettings(), chat, len(chat), rows=[PAIR])
    assert [(e.desirable, words(chat, e.row.response_ids)) for e in paired.examples] == [
        (True, " Kitchen.<|end|>"),
        (False, " Attic.<|end|>"),
    ]
    tie = {"prompt": "Q", "completions": [" a", " b"], "ranks": [0, 0]}
    tied = load_labelled(DataSettings(), chat, len(chat), rows=[tie])
    assert tied.refused.dropped == {"a tie has no better side": 1}


def test_demonstrations_come_of_messages_texts_completions_and_pairs(chat, said):
    def shown(row, **settings):
        loaded = load_demonstrations(DataSettings(**settings), chat, len(chat), rows=[row])
        return loaded.examples[0].row

    dialogue = {"messages": said(("u", "A?"), ("a", "b"), ("u", "C?"), ("a", "d"))}
    row = shown(dialogue)
    learnt = row.response_ids[row.mask]
    assert words(chat, learnt) == "b<|end|>d<|end|>"
    assert words(chat, row.prompt_ids).endswith("A?<|end|>\n<|assistant|>\n")
    everything = shown(dialogue, train_on="all")
    assert everything.mask is None
    assert len(everything.prompt_ids) == 1
    assert np.array_equal(everything.ids(), row.ids())
    single = shown({"messages": dialogue["messages"][:2]})
    assert single.mask is None
    completion = shown({"prompt": "A?", "completion": " b"})
    assert words(chat, completion.response_ids) == " b<|end|>"
    text = shown({"text": "The key was in the kitchen."})
    assert len(text.prompt_ids) == 1
    assert words(chat, text.ids()) == "The key was in the kitchen.<|end|>"
    assert words(chat, shown(PAIR).response_ids) == " Kitchen.<|end|>"
    turned = {"prompt": "Q", "completions": [" a", " b"], "ranks": [1, 0]}
    assert words(chat, shown(turned).response_ids) == " b<|end|>"


def test_a_text_begins_with_the_bos_where_the_tokenizer_s_texts_do(tokenizers):
    tokenizer = tokenizers("bos")
    loaded = load_demonstrations(
        DataSettings(), tokenizer, len(tokenizer), rows=[{"text": "The key."}]
    )
    row = loaded.examples[0].row
    assert row.prompt_ids.tolist() == [tokenizer.bos_token_id]
    assert row.response_ids.tolist() == [
        *tokenizer("The key.")["input_ids"][1:],
        tokenizer.eos_token_id,
    ]


def test_prompts_keep_the_other_columns(chat, said):
    rows = [
        {"id": "p", "prompt": said(("u", "1 + 1?")), "answer": "2", "level": 3},
        {"prompt": said(("u", "1 + 1?"), ("a", "2"))},
        {"prompt": ""},
    ]
    loaded = load_prompts(DataSettings(), chat, len(chat), rows=rows)
    (prompt,) = loaded.examples
    assert (prompt.id, prompt.fields) == ("p", {"answer": "2", "level": 3})
    assert words(chat, prompt.prompt_ids).endswith("1 + 1?<|end|>\n<|assistant|>\n")
    assert loaded.refused.dropped == {
        "the prompt ends with a message of the assistant": 1,
        "the chat template refuses the messages": 1,
    }


# --- ids that came with rows -----------------------------------------------------


def sampled(tokenizer, prompt="Where?", chosen=" There.", rejected=" Here."):
    ids = {
        name: tokenizer(text)["input_ids"]
        for name, text in (("prompt", prompt), ("chosen", chosen), ("rejected", rejected))
    }
    return {
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "prompt_ids": ids["prompt"],
        "chosen_ids": ids["chosen"],
        "rejected_ids": ids["rejected"],
    }


def test_given_ids_are_used_as_they_are_though_encoding_would_differ(chat):
    row = sampled(chat)
    # Letter by letter, as a sampler may write a word; and no EOS, as it was cut.
    row["chosen_ids"] = [i for letter in " There." for i in chat(letter)["input_ids"]]
    (pair,) = compare(chat, [row]).examples
    assert pair.responses[0].tolist() == row["chosen_ids"]
    assert pair.responses[0].tolist() != chat(" There.")["input_ids"]
    assert pair.responses[1].tolist() == row["rejected_ids"]


def test_given_ids_that_go_on_behind_a_stop_string_are_used(chat):
    row = sampled(chat)
    row["chosen_ids"] = chat(" There. STOP")["input_ids"]
    (pair,) = compare(chat, [row]).examples
    assert pair.responses[0].tolist() == row["chosen_ids"]


@pytest.mark.parametrize(
    "change",
    [
        {"chosen_ids": [9999, 3]},
        {"chosen_ids": [-1]},
        {"prompt_ids": [11, 12, 13]},
        {"chosen_ids": [11, 12, 13]},
        {"chosen_ids": []},
    ],
)
def test_ids_that_are_not_of_the_text_are_set_aside_and_counted(chat, change):
    loaded = compare(chat, [{**sampled(chat), **change}])
    (pair,) = loaded.examples
    assert words(chat, pair.responses[0]) == " There.<|end|>"
    (changed,) = table(loaded.refused)
    assert changed == (
        "changed",
        1,
        "token ids are not this tokenizer's: the text was encoded anew",
        "rows[0]",
    )


def test_ids_of_a_tokenizer_that_forgets_white_space_are_used(tokenizers):
    tokenizer = tokenizers("words")
    row = sampled(tokenizer, "Where is\nthe key, zebra?", "In the  kitchen.", "zebra at noon.")
    row["prompt_ids"] = [5, *row["prompt_ids"]]  # and what a template wrote before it
    loaded = compare(tokenizer, [row])
    assert not loaded.refused.cut
    assert loaded.statistics.num_ids_given == 1
    assert loaded.examples[0].prompt_ids.tolist() == row["prompt_ids"]
    other = {**row, "prompt_ids": [i + 1 for i in row["prompt_ids"]]}
    assert compare(tokenizer, [other]).statistics.num_ids_given == 0


def test_ids_may_be_taken_or_left_by_setting(chat):
    row = sampled(chat)
    row["chosen_ids"] = [11, 12, 13]
    assert compare(chat, [row], ids="given").examples[0].responses[0].tolist() == [11, 12, 13]
    text = compare(chat, [row], ids="text")
    assert words(chat, text.examples[0].responses[0]) == " There.<|end|>"
    assert not text.refused.cut
    refused = compare(chat, [{**row, "chosen_ids": [11, len(chat)]}, PAIR], ids="given").refused
    assert refused.dropped == {
        "token ids are outside the vocabulary": 1,
        "no token ids are given": 1,
    }
    assert refused.ids["token ids are outside the vocabulary"] == [
        f"rows[0] (id {len(chat)} of a vocabulary of {len(chat)})"
    ]


def test_ids_that_no_token_can_have_are_refused(chat):
    rows = [
        {**sampled(chat), "chosen_ids": value}
        for value in (2**70, [2**70], "12", [1.5], [True], [None])
    ]
    assert compare(chat, rows).refused.dropped == {"token ids are unreadable": 6}


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
def test_a_bad_row_is_counted_with_its_id_and_the_rest_is_used(chat, name):
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
def test_rankings_that_do_not_fit_are_refused(chat, row, reason):
    loaded = compare(chat, [{"prompt": "Q", **row}], format="kwise")
    assert loaded.refused.dropped == {reason: 1}


def test_ids_that_a_smaller_model_does_not_know_are_refused(chat):
    loaded = compare(chat, [PAIR], vocab_size=10)
    assert loaded.refused.dropped == {"token ids are outside the vocabulary": 1}


def test_prompts_longer_than_the_context_are_refused(chat):
    long = {**PAIR, "id": "long", "prompt": "key " * 300}
    loaded = compare(chat, [long, PAIR], max_len=64)
    assert [e.id for e in loaded.examples] == ["rows[1]"]
    assert loaded.refused.dropped == {"the prompt is longer than the context": 1}
    asked = load_prompts(DataSettings(), chat, len(chat), 64, rows=[{"prompt": "key " * 300}])
    assert asked.refused.dropped == {"the prompt is longer than the context": 1}


def test_broken_lines_are_counted_with_file_and_line(chat, tmp_path):
    path = tmp_path / "pairs.jsonl"
    lines = [json.dumps(PAIR), '{"prompt": "Q", ', "", "[1]", '{"prompt": NaN}', "\xff"]
    path.write_bytes("\n".join(lines).encode("latin-1"))
    loaded = compare(chat, None, path=str(path))
    assert len(loaded.examples) == 1
    assert loaded.refused.dropped == {"the line is broken": 3, "a column is missing": 1}
    noted = loaded.refused.ids["the line is broken"]
    assert [note.split(" ")[0] for note in noted] == [f"pairs.jsonl:{n}" for n in (2, 4, 6)]
    assert loaded.provenance[0]["rows"] == 5


def test_files_of_each_kind_give_the_same_examples(chat, tmp_path):
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


def test_files_that_cannot_be_read_at_all_are_errors(chat, tmp_path):
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


def test_an_unknown_format_names_the_columns_found_and_those_accepted(chat):
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
    assert words(chat, loaded.examples[0].row.ids()) == "The key.<|end|>"


def test_rows_may_stop_the_run_and_the_error_lists_them(chat):
    rows = [PAIR, {**PAIR, "id": "b1", "chosen": ""}, {**PAIR, "id": "b2", "weight": -1}]
    with pytest.raises(DataError, match=r"(?s)2 rows cannot be used.*b1.*b2 \(weight = -1"):
        compare(chat, rows, on_bad="error")
    assert len(compare(chat, [PAIR, PAIR], on_bad="error").examples) == 1  # no fault of the row


def test_duplicates_are_left_out_or_kept(chat):
    rows = [PAIR, {**PAIR, "id": "again"}, {**PAIR, "weight": 2.0}]
    loaded = compare(chat, rows)
    assert [e.id for e in loaded.examples] == ["rows[0]", "rows[2]"]
    assert loaded.refused.ids["a duplicate of an earlier example"] == ["again"]
    assert len(compare(chat, rows, duplicates="keep").examples) == 3


def test_fewer_rows_than_a_batch_stop_the_run_with_the_counts(chat):
    loaded = compare(chat, [PAIR, {**PAIR, "chosen": ""}])
    require_batch(loaded, 1)
    with pytest.raises(
        DataError,
        match=r"(?s)1 usable comparisons, and a batch takes 2:.*1 left out: a response is empty",
    ):
        require_batch(loaded, 2)
    with pytest.raises(DataError, match="no usable comparisons"):
        require_batch(compare(chat, []), 1)


def test_what_a_row_says_cannot_steer_the_terminal(chat):
    loaded = compare(chat, [{**PAIR, "id": "\x1b[31mred\n", "chosen": ""}])
    assert "\x1b" not in "".join(loaded.lines())
    assert len(loaded.lines()) == len("\n".join(loaded.lines()).splitlines())


# --- length ----------------------------------------------------------------------


def test_a_cut_prompt_stays_the_same_for_all_responses(tokenizers):
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


def test_a_cut_response_has_no_eos_and_is_counted(chat):
    row = {**PAIR, "rejected": " Attic, " * 30}
    loaded = compare(chat, [row], max_length=40, truncation="response_right")
    (pair,) = loaded.examples
    assert len(pair.prompt_ids) + len(pair.responses[1]) == 40
    assert pair.responses[1][-1] != chat.eos_token_id
    assert pair.responses[0][-1] == chat.eos_token_id
    assert loaded.refused.cut == {"a response's end was cut": 1}


def test_responses_that_are_equal_once_they_are_cut_are_refused(chat):
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
def test_rows_that_are_too_long_are_left_out_by_default(chat, settings, reason):
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


# --- held-out part ---------------------------------------------------------------


def many(num, per_prompt=3):
    return [
        {"prompt": f"Where is key {i // per_prompt}?", "chosen": f" a{i}", "rejected": f" b{i}"}
        for i in range(num)
    ]


def prompts_of(examples):
    return {e.prompt_ids.tobytes() for e in examples}


def test_the_held_out_part_shares_no_prompt_and_depends_on_the_seed_only(chat):
    loaded = compare(chat, many(60), eval_fraction=0.2)
    assert len(loaded.eval_examples) == 12
    assert len(loaded.examples) == 48
    assert not prompts_of(loaded.examples) & prompts_of(loaded.eval_examples)
    again = compare(chat, many(60)[::-1], eval_rows=12)
    assert prompts_of(again.eval_examples) == prompts_of(loaded.eval_examples)
    other = compare(chat, many(60), eval_fraction=0.2, split_seed=1)
    assert prompts_of(other.eval_examples) != prompts_of(loaded.eval_examples)


def test_a_held_out_file_takes_its_prompts_out_of_training(chat, tmp_path):
    path = tmp_path / "eval.jsonl"
    path.write_text("\n".join(map(json.dumps, many(6))))
    loaded = compare(chat, many(12), eval_path=str(path))
    assert len(loaded.eval_examples) == 6
    assert len(loaded.examples) == 6
    assert loaded.refused.dropped == {"its prompt or question is in the held-out part": 6}
    assert [source["rows"] for source in loaded.provenance] == [12, 6]


# --- figures ---------------------------------------------------------------------


def test_statistics_count_shared_prompts_once(chat):
    loaded = compare(chat, many(4, per_prompt=2))
    found = loaded.statistics
    lengths = [len(r.prompt_ids) + len(r.response_ids) for e in loaded.examples for r in e.rows()]
    prompts = {e.prompt_ids.tobytes(): len(e.prompt_ids) for e in loaded.examples}
    responses = [len(ids) for e in loaded.examples for ids in e.responses]
    assert (found.num_examples, found.num_responses, found.num_prompts) == (4, 8, 2)
    assert found.num_tokens == sum(lengths)
    assert found.num_distinct_tokens == sum(prompts.values()) + sum(responses)
    assert found.num_trained_tokens == sum(responses)
    assert (found.row_tokens.smallest, found.row_tokens.largest) == (min(lengths), max(lengths))
    assert found.row_tokens.median == np.median(lengths)
    assert json.loads(json.dumps(loaded.to_json()))["statistics"]["num_tokens"] == sum(lengths)


def test_fingerprints_tell_content_and_order_and_not_ids_of_rows(chat):
    rows = many(6)
    plain = compare(chat, rows)
    assert plain.fingerprint == fingerprint(plain.examples)
    assert compare(chat, [{**r, "id": "x"} for r in rows]).fingerprint == plain.fingerprint
    assert compare(chat, rows[::-1]).fingerprint != plain.fingerprint
    for change in ({"weight": 2.0}, {"margin": 0.1}, {"soft_label": 0.9}, {"chosen": " other"}):
        assert compare(chat, [{**rows[0], **change}, *rows[1:]]).fingerprint != plain.fingerprint


def test_no_more_rows_are_read_than_asked_for(chat):
    assert compare(chat, many(9), max_rows=4).statistics.num_rows == 4


def test_a_template_that_is_not_there_cannot_be_asked_for(bare):
    with pytest.raises(ConfigError, match="no chat template"):
        compare(bare, [PAIR], template="always")


def test_real_pairs_are_all_used_or_accounted_for(chat, bare, shared_data):
    path = str(shared_data / "hh-rlhf" / "harmless-test-1200.jsonl")
    for tokenizer, num_rows, num_empty in ((chat, 1200, 4), (bare, 200, 1)):
        loaded = compare(tokenizer, None, max_len=4096, path=path, max_rows=num_rows)
        assert loaded.provenance[0]["format"] == "hh"
        assert loaded.provenance[0]["rows"] == num_rows
        assert loaded.refused.dropped == {"a response is empty": num_empty}
        assert len(loaded.examples) == num_rows - num_empty
        for example in loaded.examples:
            assert all((ids == tokenizer.eos_token_id).sum() == 1 for ids in example.responses)


def test_a_thousand_pairs_take_seconds(chat):
    import time

    rows = [{**r, "prompt": r["prompt"] + " The key was in the kitchen." * 10} for r in many(1000)]
    started = time.process_time()
    assert len(compare(chat, rows).examples) == 1000
    assert time.process_time() - started < 6.0  # measured: 0.8 s
