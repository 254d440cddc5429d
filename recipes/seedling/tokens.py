"""Seedling's tokenizer: byte-level BPE, with one token for each fixed stretch of a prompt.

A model this small cannot afford to read the same rules letter by letter in every prompt. The
stretches come from the agents' own templates; a prompt that has changed still reads, only longer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from oversight.agents import consultant, critic, debater, judge
from oversight.datasets.world.names import FAMILIES
from oversight.datasets.world.story import FIRST_PLAIN_DAY, LAST_PLAIN_DAY
from oversight.train.loading import ASSISTANT, CHAT_TEMPLATE, EOS, PAD, SYSTEM, USER

NUM_WORDS = 2048
"""Most tokens that are learnt from texts."""

_TAGS = (
    *('<source title="The log of ', ' House">\n', ".\n</source>\n<question>\n"),
    *("<question>\n", "\n</question>\n<options>\n", ": ", "\n</options>\n", ".\n"),
    *("<quote>", ". <quote>", "</quote>", '">\n', "\n</turn>\n", '" defends="', '" round="'),
    *(
        "<verified_quote>",
        ". <verified_quote>",
        "</verified_quote>",
        "</verified_quote>\n</turn>\n",
    ),
    *("<near_quote>", "</near_quote>", "<unverified_quote>", "</unverified_quote>"),
    *(f'<turn speaker="{name}" round="' for name in ("Debater A", "Debater B", "Consultant")),
    *(f'<turn speaker="{name}" round="1" defends="' for name in ("Debater A", "Debater B")),
    *('<turn speaker="Consultant" round="1" defends="'),
    '<turn speaker="Critic" round="1">\n',
    '<turn speaker="Judge" round="',
)
_HOLE = "@@"


def stretches() -> list[str]:
    """Every fixed stretch of the agents' prompts and of the plain stories, the longest first."""
    found = set(_TAGS)
    found |= {str(rules) for rules in (debater.PROMPTS.rules.render(), judge.rules(""))}
    found |= {str(kind.PROMPTS.rules.render()) for kind in (consultant, critic)}
    hole = {"label": _HOLE, "round": _HOLE, "max_words": 150}
    asked = [
        *(debater.PROMPTS.speech.render(name=f"Debater {seat}", **hole) for seat in "AB"),
        consultant.PROMPTS.speech.render(name="Consultant", **hole),
        consultant.REVISION.speech.render(**hole),
        critic.PROMPTS.speech.render(max_words=150),
        judge.CHOOSE.render(labels="A or B"),
        judge.ASK.render(max_words=150),
    ]
    for prompt in asked:
        found |= set(str(prompt).split(_HOLE))
    found |= {f". Round 1 of 1{end}" for end in (str(p).split(_HOLE)[-1] for p in asked[:4])}
    for family in FAMILIES:
        if not family.plain:
            continue
        plain = family.plain[0].upper() + family.plain[1:]
        for form in (plain, family.questions[0]):
            found |= set(re.split(r"\{\w+\}", form))
    # A day is one token, and stands right behind what held from then on: to look it up is to find
    # those words again and take what follows.
    found |= {f" on day {number}" for number in range(FIRST_PLAIN_DAY, LAST_PLAIN_DAY + 1)}
    return sorted((s for s in found if len(s) > 1), key=lambda s: (-len(s), s))


def make(texts: Iterable[str]) -> Any:
    """A transformers tokenizer for what `texts` say."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d\d|\d"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_WORDS,
        special_tokens=[PAD, EOS, SYSTEM, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fixed = stretches()
    cut = re.compile("|".join(re.escape(stretch) for stretch in fixed))
    core.train_from_iterator((piece for text in texts for piece in cut.split(text)), trainer)
    core.add_tokens([AddedToken(stretch, normalized=False) for stretch in fixed])
    make_fast: Any = PreTrainedTokenizerFast
    tokenizer = make_fast(tokenizer_object=core, pad_token=PAD, eos_token=EOS)
    tokenizer.add_special_tokens({"additional_special_tokens": [SYSTEM, USER, ASSISTANT]})
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
