"""Small worlds whose best answers are known, and models that are made from scratch in them.

`Chain` is a source of text with a known entropy; `Weighing` compares responses by a rule; `Copy`
asks for the prompt's words again, and its demonstrations are right only part of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]


def word_tokenizer(folder: Path, words: Sequence[str]) -> Path:
    """A tokenizer with one id a word, saved in `folder`."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    names = ["<pad>", "<eos>", "<unk>", *words]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(names)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made: Any = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    made.save_pretrained(folder)
    LlamaConfig(vocab_size=len(names)).save_pretrained(folder)  # folders of models have one
    return folder


@dataclass(frozen=True)
class Chain:
    """Words that depend on the two before them, and end with a known probability."""

    num_words: int = 8
    stop: float = 0.05
    concentration: float = 0.3
    seed: int = 0

    @property
    def words(self) -> list[str]:
        """All of them."""
        return [f"w{i}" for i in range(self.num_words)]

    @cached_property
    def next_word(self) -> np.ndarray[Any, Any]:
        """Probability of each word after each two, [W, W, W]."""
        rng = np.random.default_rng(self.seed)
        alpha = np.full(self.num_words, self.concentration)
        return rng.dirichlet(alpha, size=(self.num_words, self.num_words))

    def rows(self, count: int, seed: int, longest: int = 100) -> list[Row]:
        """Texts of the source; each says how surprising its response is to the source itself."""
        rng = np.random.default_rng(seed)
        return [self._row(rng, longest) for _ in range(count)]

    def entropy(self, rows: Sequence[Row]) -> float:
        """Nats a token, end included, that the source itself has of these rows."""
        tokens = sum(row["num_tokens"] for row in rows)
        return float(sum(row["surprisal"] for row in rows) / tokens)

    def _row(self, rng: np.random.Generator, longest: int) -> Row:
        """A text; its first word is given, its second is any."""
        while True:
            said = [int(i) for i in rng.integers(self.num_words, size=2)]
            surprisal = math.log(self.num_words) - math.log(self.stop)
            while len(said) == 2 or rng.random() >= self.stop:
                probs = self.next_word[said[-2], said[-1]]
                surprisal -= math.log(1.0 - self.stop) if len(said) > 2 else 0.0
                said.append(int(rng.choice(self.num_words, p=probs)))
                surprisal -= math.log(probs[said[-1]])
            if len(said) <= longest:
                break
        text = " ".join(self.words[i] for i in said)
        return {"text": text, "surprisal": surprisal, "num_tokens": len(said)}


@dataclass(frozen=True)
class Weighing:
    """Words have weights; the prompt says whether the heavier or the lighter response is better."""

    num_words: int = 16
    length: int = 6
    prompt_length: int = 4
    apart: float = 3.0
    """The two responses' weights differ by so much at least."""

    @property
    def words(self) -> list[str]:
        """All of them, the two that ask first."""
        return ["heavier", "lighter", *(f"w{i}" for i in range(self.num_words))]

    def rows(self, count: int, seed: int) -> list[Row]:
        """Pairs."""
        rng = np.random.default_rng(seed)
        return [self._row(rng) for _ in range(count)]

    def _row(self, rng: np.random.Generator) -> Row:
        weights = np.linspace(-1.0, 1.0, self.num_words)
        sums = np.zeros(2)
        while abs(sums[0] - sums[1]) < self.apart:
            said = rng.integers(self.num_words, size=(2, self.length))
            sums = weights[said].sum(axis=1)
        heavy, light = (self._text(said[i]) for i in np.argsort(-sums))
        asked = self.words[int(rng.integers(2))]
        about = self._text(rng.integers(self.num_words, size=self.prompt_length))
        better, worse = (heavy, light) if asked == "heavier" else (light, heavy)
        return {"prompt": f"{about} {asked}", "chosen": better, "rejected": worse}

    def _text(self, numbers: np.ndarray[Any, Any]) -> str:
        return " ".join(f"w{i}" for i in numbers)


@dataclass(frozen=True)
class Copy:
    """The right answer is the prompt; demonstrations have each word right with `right`."""

    num_words: int = 12
    length: int = 3
    right: float = 0.6
    num_held_out: int = 128

    @property
    def words(self) -> list[str]:
        """All of them."""
        return [f"w{i}" for i in range(self.num_words)]

    @cached_property
    def prompts(self) -> list[str]:
        """Every prompt there is, in an order of its own; the first `num_held_out` are held out."""
        rng = np.random.default_rng(0)
        numbers = rng.permutation(self.num_words**self.length)
        powers = self.num_words ** np.arange(self.length)
        digits = numbers[:, None] // powers % self.num_words
        return [" ".join(self.words[i] for i in row) for row in digits]

    def held_out(self) -> list[Row]:
        """Prompts that nothing is learnt of."""
        return [_asking(prompt) for prompt in self.prompts[: self.num_held_out]]

    def asked(self, count: int, seed: int) -> list[Row]:
        """Prompts to learn from."""
        rng = np.random.default_rng(seed)
        seen = self.prompts[self.num_held_out :]
        return [_asking(seen[i]) for i in rng.permutation(len(seen))[:count]]

    def demonstrations(self, count: int, seed: int) -> list[Row]:
        """Answers of someone who is right only part of the time."""
        rng = np.random.default_rng(seed)
        seen = self.prompts[self.num_held_out :]
        asked = [seen[i] for i in rng.integers(len(seen), size=count)]
        return [{"prompt": prompt, "completion": self._answer(prompt, rng)} for prompt in asked]

    def reward(self, prompt: str, answer: str) -> float:
        """The share of words that are right; words too many or too few are wrong."""
        wanted, said = prompt.split(), answer.split()
        right = sum(a == b for a, b in zip(wanted, said, strict=False))
        return right / max(len(wanted), len(said))

    def rewards(self, texts: list[str], fields: list[dict[str, object]]) -> list[float]:
        """As trainers ask for it."""
        return [self.reward(str(f["asked"]), text) for text, f in zip(texts, fields, strict=True)]

    def _answer(self, prompt: str, rng: np.random.Generator) -> str:
        return " ".join(
            word if rng.random() < self.right else self.words[int(rng.integers(self.num_words))]
            for word in prompt.split()
        )


def _asking(prompt: str) -> Row:
    return {"prompt": prompt, "asked": prompt}
