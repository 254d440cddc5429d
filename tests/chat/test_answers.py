"""The words of an answer: the same in an engine and before a reward function."""

from __future__ import annotations

from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from oversight.chat.answers import AnswerDecoder
from oversight.engines.transformers.sequence import Detokenizer
from oversight.train.rollouts.rewards import TextRewards
from oversight.train.rollouts.types import SampledResponse
from oversight.train.types import PromptExample

WORDS = ["[UNK]", "<think>", "</think>", "[EOS]", "it", "was", "here", ".", "noon"]


def tidying_tokenizer() -> Any:
    """A tokenizer that takes the space before a full stop away where it is let."""
    raw = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.decoder = decoders.WordPiece(cleanup=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        unk_token="[UNK]",
        eos_token="[EOS]",
        extra_special_tokens=["<think>", "</think>"],
        clean_up_tokenization_spaces=True,
    )


def test_a_reward_function_reads_what_an_engine_would_have_written() -> None:
    tokenizer = tidying_tokenizer()
    ids = tokenizer.convert_tokens_to_ids(
        ["<think>", "noon", ".", "</think>", "it", "was", "here", ".", "[EOS]"]
    )
    heard: list[tuple[str, object]] = []

    def function(texts: list[str], fields: list[dict[str, object]]) -> list[float]:
        heard.extend(zip(texts, [each["thoughts"] for each in fields], strict=True))
        return [0.0 for _ in texts]

    answer = SampledResponse(np.array(ids), np.zeros(len(ids), dtype=np.float32), finished=True)
    TextRewards(function, tokenizer, "f").score([PromptExample("k", np.array([4]), {})], [[answer]])
    written = Detokenizer(AnswerDecoder(tokenizer).text)
    for token_id in ids:
        written.add(token_id)
    assert written.finish() == "<think>noon .</think>it was here ."
    assert heard == [("it was here .", "noon .")]
