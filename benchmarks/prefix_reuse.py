"""Share of a debate's prompt tokens that its server has computed before.

One three-round debate (protocol `debate`: six speeches, each after private notes, a belief of the
judge after each round and the judgment) over a source of 2,000 tokens, by a random-weight model
that writes words to its limit. Counted from the token ids of the prompts: a token is reused if it
lies in the longest common prefix with anything the replica has read or written before. Confirmed
by the engine's own count, and with --engine vllm by the counters of the real server.

    python benchmarks/prefix_reuse.py                  # in this process
    OVERSIGHT_VLLM_PYTHON=… python benchmarks/prefix_reuse.py --engine vllm

Bar: at least 85 % of prompt tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oversight import protocols
from oversight.config import AgentSettings, EngineSettings
from oversight.datasets import world
from oversight.graphs.planning import Cast, cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.store import Store
from oversight.types import (
    Completion,
    Engine,
    Option,
    Question,
    Request,
    Role,
    Source,
)

BAR = 0.85
SOURCE_TOKENS = 2000
SPEECH_TOKENS = 150
NOTES_TOKENS = 100
BLOCK = 32
"""Tokens to a block of the server's cache: it reuses whole blocks."""
CONTEXT = 8192


def text_of_worlds(number: int) -> str:
    """Generated stories, one after another."""
    made = (world.question_at(0, "held_out", 4, index) for index in range(number))
    return "\n".join(question.source.text for question in made if question.source)


def make_model(folder: Path) -> Any:
    """Save a random-weight Llama with its tokenizer, and return the latter.

    The tokenizer is trained on generated stories and on this project's own English, so
    that prompts take about as many tokens as with a published one.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|pad|>", "<|end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=8192, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    root = Path(__file__).parent.parent
    english = [path.read_text() for path in (*root.glob("*.md"), *root.glob("agents/*.py"))]
    backend.train_from_iterator([text_of_worlds(400), *english], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", pad_token="<|pad|>"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}:\n{{ m['content'] }}\n{% endfor %}assistant:\n"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    write_words_only(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_words_only(model: Any, tokenizer: Any) -> None:
    """Let the model write whole words alone, whose text is read again as the same tokens.

    So it is with nearly all that a trained model writes; a random one would write
    bytes that make no text. One dimension of the residual stream is held
    constant, and the head reads from it which tokens are words.
    """
    import torch

    words = [
        index
        for token, index in tokenizer.get_vocab().items()
        if token.startswith("Ġ") and token[1:].isalpha() and len(token) > 3
    ]
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 1.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
        model.lm_head.weight[:, 0] = -100.0
        model.lm_head.weight[words, 0] = 0.0


def question_over(tokenizer: Any) -> Question:
    """A question over a source of exactly as many tokens as the bar speaks of."""
    ids = tokenizer(text_of_worlds(60))["input_ids"][:SOURCE_TOKENS]
    first = world.question_at(0, "held_out", 4, 0)
    return Question(
        id="long",
        dataset="benchmark",
        text=first.text,
        options=tuple(Option(text=option.text) for option in first.options),
        correct=first.correct,
        source=Source(text=tokenizer.decode(ids)),
    )


@dataclass
class Seen:
    """A call as the replica met it: what it had to read, and what of that was known."""

    num_tokens: int
    num_known: int
    kind: str


class Watched:
    """An engine whose calls are counted by their token ids, in the order in which they end."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name, self.model = engine.name, engine.model
        self.capabilities = engine.capabilities
        self.calls: list[Seen] = []
        self.num_cached = 0
        self._known: list[tuple[int, ...]] = []

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """As the engine does."""
        completions = await self.engine.generate(requests)
        for request, completion in zip(requests, completions, strict=True):
            kind = "belief" if request.sampling.choices else "speaker"
            self._count(kind, completion)
        return completions

    def _count(self, kind: str, completion: Completion) -> None:
        ids = completion.prompt_ids
        known = max((common_prefix(ids, other) for other in self._known), default=0)
        self.calls.append(Seen(len(ids), known, kind))
        self.num_cached += completion.usage.cached_tokens or 0
        self._known.append((*ids, *completion.token_ids))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
        min(len(first), len(second)),
    )


def show(title: str, calls: Sequence[Seen], bar: bool = False) -> None:
    """Print the share of known tokens of some calls."""
    read, known = sum(c.num_tokens for c in calls), sum(c.num_known for c in calls)
    note = f"   (bar: {BAR:.0%})" if bar else ""
    print(f"  {title:34} {len(calls):3} calls {read:7,} tokens  {known / read:6.1%} reused{note}")


async def run(engine_name: str, settings: dict[str, Any], question: Question, path: Path) -> None:
    """One debate, and what it read."""
    speech = {"max_tokens": SPEECH_TOKENS, "max_reasoning_tokens": NOTES_TOKENS}
    roles = {
        Role.DEBATER: AgentSettings(agent="debater", engine="model", settings=dict(speech)),
        Role.JUDGE: AgentSettings(agent="judge", engine="model"),
    }
    opened = cast(roles, {"model": EngineSettings(engine=engine_name, settings=settings)})
    watched = Watched(opened.engines["model"])
    for agent in opened.agents.values():
        agent.engine = watched  # type: ignore[attr-defined]
    async with Cast(opened.agents, opened.specs, {"model": watched}) as actors:
        with Store.open(str(path)) as store:
            planned = plan([question], [protocols.load("debate")], actors.specs)
            progress = await run_debates(planned, Runtime(store, actors), concurrency=1)
            if progress.failures:
                raise SystemExit(progress.failures[0].error)
        print(f"A three-round debate over a source of {SOURCE_TOKENS:,} tokens, by {engine_name}:")
        speakers = [call for call in watched.calls if call.kind == "speaker"]
        show("all calls", watched.calls, bar=True)
        show("speeches with their private notes", speakers)
        show("the judge's beliefs", [c for c in watched.calls if c.kind == "belief"])
        fresh = [
            Seen(c.num_tokens, 0 if i == 0 else c.num_tokens, c.kind)
            for i, c in enumerate(speakers[::2])
        ]
        show("bound of six calls without notes", fresh)
        read = sum(call.num_tokens for call in watched.calls)
        print(f"  the engine itself counts {watched.num_cached / read:.1%} of them as cached")
        if engine_name == "vllm":
            [metrics] = await watched.engine.metrics()  # type: ignore[attr-defined]
            print(
                f"  the server's counters: {metrics.prefix_cache_hits:,.0f} of "
                f"{metrics.prefix_cache_queries:,.0f} tokens hit, "
                f"{metrics.prefix_cache_hits / metrics.prefix_cache_queries:.1%} "
                f"(whole blocks of {BLOCK})"
            )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = make_model(Path(folder, "model"))
        settings: dict[str, Any] = {"model": str(Path(folder, "model"))}
        if options.engine == "vllm":
            settings |= {
                "dtype": "float32",
                "block_size": BLOCK,
                "max_model_len": CONTEXT,
                "kv_cache_gib": 1,
                "extra_args": ["--enforce-eager"],
            }
        asyncio.run(run(options.engine, settings, question_over(tokenizer), Path(folder, "d.db")))


if __name__ == "__main__":
    main()
