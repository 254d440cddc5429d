"""From rows to examples: what is made of good ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

from oversight.errors import ConfigError
from oversight.train.data.examples import fingerprint
from oversight.train.data.loading import (
    load_demonstrations,
    load_labelled,
    load_prompts,
)
from oversight.train.settings import DataSettings
from oversight.train.types import left_out_table

PAIR = {"prompt": "Where is the key?", "chosen": " Kitchen.", "rejected": " Attic."}


# --- formats ---------------------------------------------------------------------


def test_plain_pairs_are_taken_as_they_stand(compare, chat):
    (pair,) = compare(chat, [PAIR]).examples
    assert chat.decode(pair.prompt_ids) == "Where is the key?"
    assert [chat.decode(ids) for ids in pair.responses] == [" Kitchen.<|end|>", " Attic.<|end|>"]
    assert pair.ranks == (0, 1)
    assert pair.id == "rows[0]"


def test_plain_pairs_become_messages_where_the_template_is_asked_for(compare, chat):
    (pair,) = compare(chat, [PAIR], template="always").examples
    assert chat.decode(pair.prompt_ids) == (
        "<|bos|><|user|>\nWhere is the key?<|end|>\n<|assistant|>\n"
    )


def test_conversational_pairs_are_rendered_by_the_template(compare, chat, bare, said):
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
    assert bare.decode(pair.prompt_ids) == "System: Be brief.\n\nUser: Where?\n\nAssistant:"
    assert bare.decode(pair.responses[0]) == " There.<|end|>"


def test_implicit_prompts_are_what_both_have_in_common(compare, chat, said):
    texts = {"chosen": "The key is in a kitchen.", "rejected": "The key is in an attic."}
    (pair,) = compare(chat, [texts]).examples
    assert chat.decode(pair.prompt_ids) == "The key is in"
    assert chat.decode(pair.responses[1]) == " an attic.<|end|>"
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


def test_hh_dialogues_are_messages_with_a_template_and_texts_without(compare, chat, bare):
    row = {
        "chosen": "\n\nHuman: Where?\n\nAssistant: There.",
        "rejected": "\n\nHuman: Where?\n\nAssistant: Here.",
    }
    loaded = compare(chat, [row])
    assert loaded.provenance[0]["format"] == "hh"
    (pair,) = loaded.examples
    assert chat.decode(pair.prompt_ids).endswith("<|user|>\nWhere?<|end|>\n<|assistant|>\n")
    assert chat.decode(pair.responses[0]) == "There.<|end|>"
    (pair,) = compare(bare, [row]).examples
    assert bare.decode(pair.prompt_ids) == "\n\nHuman: Where?\n\nAssistant:"
    assert bare.decode(pair.responses[0]) == " There.<|end|>"
    split = {"prompt": "\n\nHuman: Where?\n\nAssistant:", "chosen": " There.", "rejected": "Here."}
    for tokenizer in (chat, bare):
        assert compare(tokenizer, [split]).fingerprint == compare(tokenizer, [row]).fingerprint


def test_rankings_are_sorted_and_made_dense(compare, chat):
    row = {"prompt": "Q", "completions": [" c", " a", " b"], "ranks": [7, 0, 3]}
    (ranking,) = compare(chat, [row]).examples
    assert [chat.decode(ids) for ids in ranking.responses] == [
        " a<|end|>",
        " b<|end|>",
        " c<|end|>",
    ]
    assert ranking.ranks == (0, 1, 2)
    by_score = {"prompt": "Q", "completions": [" c", " a", " b"], "scores": [0.1, 0.9, 0.5]}
    assert compare(chat, [by_score]).fingerprint == compare(chat, [row]).fingerprint


def test_ties_soft_labels_margins_and_weights_are_kept(compare, chat):
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
    assert chat.decode(turned.responses[0]) == " b<|end|>"
    assert (loaded.statistics.num_ties, loaded.statistics.num_soft) == (1, 2)


def test_the_margin_may_be_the_difference_of_scores(compare, chat):
    row = {**PAIR, "chosen_score": 0.9, "rejected_score": 0.4, "margin": 7.0}
    (pair,) = compare(chat, [row], margin="scores").examples
    assert pair.margin == pytest.approx(0.5)
    assert compare(chat, [row]).examples[0].margin == 7.0


def test_equal_responses_of_a_ranking_are_merged_and_counted(compare, chat):
    row = {"prompt": "Q", "completions": [" a", " b", " a"], "ranks": [0, 1, 0]}
    loaded = compare(chat, [row])
    (ranking,) = loaded.examples
    assert len(ranking.responses) == 2
    assert loaded.refused.cut["equal responses were merged"] == 1
    contrary = {"prompt": "Q", "completions": [" a", " b", " a"], "ranks": [0, 1, 2]}
    assert compare(chat, [contrary]).refused.dropped["equal responses have different ranks"] == 1


def test_columns_may_have_other_names(compare, chat):
    row = {"question": "Where?", "good": " There.", "bad": " Here.", "prompt": None}
    names = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    (pair,) = compare(chat, [row], columns=names).examples
    assert chat.decode(pair.prompt_ids) == "Where?"


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
    assert [(e.desirable, chat.decode(e.row.response_ids)) for e in paired.examples] == [
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
    assert chat.decode(learnt) == "b<|end|>d<|end|>"
    assert chat.decode(row.prompt_ids).endswith("A?<|end|>\n<|assistant|>\n")
    everything = shown(dialogue, train_on="all")
    assert everything.mask is None
    assert len(everything.prompt_ids) == 1
    assert np.array_equal(everything.ids(), row.ids())
    single = shown({"messages": dialogue["messages"][:2]})
    assert single.mask is None
    completion = shown({"prompt": "A?", "completion": " b"})
    assert chat.decode(completion.response_ids) == " b<|end|>"
    text = shown({"text": "The key was in the kitchen."})
    assert len(text.prompt_ids) == 1
    assert chat.decode(text.ids()) == "The key was in the kitchen.<|end|>"
    assert chat.decode(shown(PAIR).response_ids) == " Kitchen.<|end|>"
    turned = {"prompt": "Q", "completions": [" a", " b"], "ranks": [1, 0]}
    assert chat.decode(shown(turned).response_ids) == " b<|end|>"


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
    assert chat.decode(prompt.prompt_ids).endswith("1 + 1?<|end|>\n<|assistant|>\n")
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


def test_given_ids_are_used_as_they_are_though_encoding_would_differ(compare, chat):
    row = sampled(chat)
    # Letter by letter, as a sampler may write a word; and no EOS, as it was cut.
    row["chosen_ids"] = [i for letter in " There." for i in chat(letter)["input_ids"]]
    (pair,) = compare(chat, [row]).examples
    assert pair.responses[0].tolist() == row["chosen_ids"]
    assert pair.responses[0].tolist() != chat(" There.")["input_ids"]
    assert pair.responses[1].tolist() == row["rejected_ids"]


def test_given_ids_that_go_on_behind_a_stop_string_are_used(compare, chat):
    row = sampled(chat)
    row["chosen_ids"] = chat(" There. STOP")["input_ids"]
    (pair,) = compare(chat, [row]).examples
    assert pair.responses[0].tolist() == row["chosen_ids"]


@pytest.mark.parametrize("thought", ["<think>I hide it.</think>\n", "I hide it.</think>\n\n"])
def test_given_ids_of_a_thought_before_the_text_are_learnt_with_it(compare, chat, thought):
    row = sampled(chat)
    row["chosen_ids"] = chat(f"{thought}There.<|end|>")["input_ids"]
    row["chosen"] = "There."
    loaded = compare(chat, [row])
    assert loaded.examples[0].responses[0].tolist() == row["chosen_ids"]
    assert loaded.statistics.num_ids_given == 1
    other = compare(chat, [{**row, "chosen": "Elsewhere."}])
    assert other.statistics.num_ids_given == 0


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
def test_ids_that_are_not_of_the_text_are_set_aside_and_counted(compare, chat, change):
    loaded = compare(chat, [{**sampled(chat), **change}])
    (pair,) = loaded.examples
    assert chat.decode(pair.responses[0]) == " There.<|end|>"
    (changed,) = left_out_table(loaded.refused)
    assert changed == (
        "changed",
        1,
        "token ids are not this tokenizer's: the text was encoded anew",
        "rows[0]",
    )


def test_ids_of_a_tokenizer_that_forgets_white_space_are_used(compare, tokenizers):
    tokenizer = tokenizers("words")
    row = sampled(tokenizer, "Where is\nthe key, zebra?", "In the  kitchen.", "zebra at noon.")
    row["prompt_ids"] = [5, *row["prompt_ids"]]  # and what a template wrote before it
    loaded = compare(tokenizer, [row])
    assert not loaded.refused.cut
    assert loaded.statistics.num_ids_given == 1
    assert loaded.examples[0].prompt_ids.tolist() == row["prompt_ids"]
    other = {**row, "prompt_ids": [i + 1 for i in row["prompt_ids"]]}
    assert compare(tokenizer, [other]).statistics.num_ids_given == 0


def test_ids_may_be_taken_or_left_by_setting(compare, chat):
    row = sampled(chat)
    row["chosen_ids"] = [11, 12, 13]
    assert compare(chat, [row], ids="given").examples[0].responses[0].tolist() == [11, 12, 13]
    text = compare(chat, [row], ids="text")
    assert chat.decode(text.examples[0].responses[0]) == " There.<|end|>"
    assert not text.refused.cut
    refused = compare(chat, [{**row, "chosen_ids": [11, len(chat)]}, PAIR], ids="given").refused
    assert refused.dropped == {
        "token ids are outside the vocabulary": 1,
        "no token ids are given": 1,
    }
    assert refused.ids["token ids are outside the vocabulary"] == [
        f"rows[0] (id {len(chat)} of a vocabulary of {len(chat)})"
    ]


def test_ids_that_no_token_can_have_are_refused(compare, chat):
    rows = [
        {**sampled(chat), "chosen_ids": value}
        for value in (2**70, [2**70], "12", [1.5], [True], [None])
    ]
    assert compare(chat, rows).refused.dropped == {"token ids are unreadable": 6}


# --- held-out part ---------------------------------------------------------------


def many(num, per_prompt=3):
    return [
        {"prompt": f"Where is key {i // per_prompt}?", "chosen": f" a{i}", "rejected": f" b{i}"}
        for i in range(num)
    ]


def prompts_of(examples):
    return {e.prompt_ids.tobytes() for e in examples}


def test_the_held_out_part_shares_no_prompt_and_depends_on_the_seed_only(compare, chat):
    loaded = compare(chat, many(60), eval_fraction=0.2)
    assert len(loaded.eval_examples) == 12
    assert len(loaded.examples) == 48
    assert not prompts_of(loaded.examples) & prompts_of(loaded.eval_examples)
    again = compare(chat, many(60)[::-1], eval_rows=12)
    assert prompts_of(again.eval_examples) == prompts_of(loaded.eval_examples)
    other = compare(chat, many(60), eval_fraction=0.2, split_seed=1)
    assert prompts_of(other.eval_examples) != prompts_of(loaded.eval_examples)


def test_a_held_out_file_takes_its_prompts_out_of_training(compare, chat, tmp_path):
    path = tmp_path / "eval.jsonl"
    path.write_text("\n".join(map(json.dumps, many(6))))
    loaded = compare(chat, many(12), eval_path=str(path))
    assert len(loaded.eval_examples) == 6
    assert len(loaded.examples) == 6
    assert loaded.refused.dropped == {"its prompt or question is in the held-out part": 6}
    assert [source["rows"] for source in loaded.provenance] == [12, 6]


# --- figures ---------------------------------------------------------------------


def test_statistics_count_shared_prompts_once(compare, chat):
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


def test_fingerprints_tell_content_and_order_and_not_ids_of_rows(compare, chat):
    rows = many(6)
    plain = compare(chat, rows)
    assert plain.fingerprint == fingerprint(plain.examples)
    assert compare(chat, [{**r, "id": "x"} for r in rows]).fingerprint == plain.fingerprint
    assert compare(chat, rows[::-1]).fingerprint != plain.fingerprint
    for change in ({"weight": 2.0}, {"margin": 0.1}, {"soft_label": 0.9}, {"chosen": " other"}):
        assert compare(chat, [{**rows[0], **change}, *rows[1:]]).fingerprint != plain.fingerprint


def test_no_more_rows_are_read_than_asked_for(compare, chat):
    assert compare(chat, many(9), max_rows=4).statistics.num_rows == 4


def test_a_template_that_is_not_there_cannot_be_asked_for(compare, bare):
    with pytest.raises(ConfigError, match="no chat template"):
        compare(bare, [PAIR], template="always")


def test_real_pairs_are_all_used_or_accounted_for(compare, chat, bare, shared_data):
    path = str(shared_data / "hh-rlhf" / "harmless-test-1200.jsonl")
    for tokenizer, num_rows, num_empty in ((chat, 1200, 4), (bare, 200, 1)):
        loaded = compare(tokenizer, None, max_len=4096, path=path, max_rows=num_rows)
        assert loaded.provenance[0]["format"] == "hh"
        assert loaded.provenance[0]["rows"] == num_rows
        assert loaded.refused.dropped == {"a response is empty": num_empty}
        assert len(loaded.examples) == num_rows - num_empty
        for example in loaded.examples:
            assert all((ids == tokenizer.eos_token_id).sum() == 1 for ids in example.responses)


def test_a_thousand_pairs_take_seconds(compare, chat):
    import time

    rows = [{**r, "prompt": r["prompt"] + " The key was in the kitchen." * 10} for r in many(1000)]
    started = time.process_time()
    assert len(compare(chat, rows).examples) == 1000
    assert time.process_time() - started < 6.0  # measured: 0.8 s
