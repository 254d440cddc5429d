"""Tokenizers of the kinds there are, made in the test: byte-level, SentencePiece-like, words."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oversight.types import AgentSpec, Completion, EngineSpec, Request, Role, Usage

CORPUS = (
    "You are a careful debater. The source says that the key was in the kitchen at noon.",
    "Which answer is right, A or B? Answer with one letter. Yes or no? The attic, then.",
    "The judge reads the transcript, the quotes and both sides before it decides.",
    "Human: where is the key?\n\nAssistant: In the kitchen.\n\n",
)
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# As Llama 2: trimmed contents, a space before the end, no system message, turns alternate.
INST = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' or "
    "(message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if message['role'] == 'user' %}[INST] {{ message['content'] | trim }} [/INST]"
    "{% else %} {{ message['content'] | trim }} {{ eos_token }}{% endif %}{% endfor %}"
)
# As Qwen3: the last answer gets a thought, those before it lose theirs.
THINK = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{% set content = message['content'] %}{% set thought = '' %}"
    "{% if '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1].strip() %}"
    "{% set content = content.split('</think>')[-1].lstrip() %}{% endif %}"
    "{% if loop.last and message['role'] == 'assistant' %}"
    "<think>\n{{ thought }}\n</think>\n\n{% endif %}"
    "{{ content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# No control token behind an answer.
OPEN = (
    "{% for message in messages %}### {{ message['role'] }}:\n{{ message['content'] }}\n\n"
    "{% endfor %}{% if add_generation_prompt %}### assistant:\n{% endif %}"
)
TEMPLATES = {"chat": CHAT, "inst": INST, "think": THINK, "open": OPEN}


def byte_level(template: str | None = None, *, bos: bool = False) -> Any:
    """A byte-level BPE: every text is encoded without loss, roles are single tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|bos|>", "<|pad|>", "<|end|>", *ROLES, "<think>", "</think>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    if bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<|bos|> $A", special_tokens=[("<|bos|>", 0)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens=[*ROLES, "<think>", "</think>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


def metaspace(template: str | None = None) -> Any:
    """As SentencePiece tokenizers: a space is written before the first word, BOS before a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"), decoders.Fuse()]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = template
    return tokenizer


def words() -> Any:
    """A word-level tokenizer, as the tiny world has: unknown words are one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = sorted({word for line in CORPUS for word in line.split()})
    vocabulary = {word: i for i, word in enumerate(["<unk>", "<eos>", *known])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="<unk>")


MAKERS: dict[str, Callable[[], Any]] = {
    "chat": lambda: byte_level(CHAT),
    "think": lambda: byte_level(THINK),
    "open": lambda: byte_level(OPEN),
    "inst": lambda: metaspace(INST),
    "bare": byte_level,
    "bos": lambda: byte_level(bos=True),
    "metaspace": metaspace,
    "words": words,
}


@pytest.fixture(scope="session")
def tokenizers() -> Callable[[str], Any]:
    """Gives the tokenizer of a name, made once."""
    made: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in made:
            made[name] = MAKERS[name]()
        return made[name]

    return get


@pytest.fixture(scope="session")
def chat(tokenizers: Callable[[str], Any]) -> Any:
    """A byte-level tokenizer with a chat template."""
    return tokenizers("chat")


@pytest.fixture(scope="session")
def bare(tokenizers: Callable[[str], Any]) -> Any:
    """The same without a template."""
    return tokenizers("bare")


@pytest.fixture(scope="session")
def said() -> Callable[..., list[dict[str, str]]]:
    """Makes messages of (role, content) pairs: u user, a assistant, s system."""
    names = {"u": "user", "a": "assistant", "s": "system"}

    def messages(*pairs: tuple[str, str]) -> list[dict[str, str]]:
        return [{"role": names[role], "content": content} for role, content in pairs]

    return messages


@pytest.fixture(scope="session")
def debated(tmp_path_factory: pytest.TempPathFactory, chat: Any) -> Callable[[bool], Path]:
    """Gives a store of judged best-of-four debates.

    Their samples hold ids of the tokenizer `chat`, or (False) those of the scripted engine itself,
    which are another vocabulary.
    """
    made: dict[bool, Path] = {}

    def get(own_ids: bool) -> Path:
        if own_ids not in made:
            path = tmp_path_factory.mktemp("stores") / "runs.db"
            asyncio.run(_hold_debates(path, chat if own_ids else None))
            made[own_ids] = path
        return made[own_ids]

    return get


async def _hold_debates(path: Path, tokenizer: Any) -> None:
    from oversight import protocols
    from oversight.agents import build_agent, identify
    from oversight.chat.turns import Turns
    from oversight.datasets.base import load_questions
    from oversight.engines.scripted import ScriptedEngine
    from oversight.graphs.planning import Cast, plan
    from oversight.graphs.running import run_debates
    from oversight.graphs.runtime import Runtime
    from oversight.store import Store

    questions = load_questions(("world", {"split": "held_out"}), limit=4).questions
    logged = [line for q in questions if q.source for line in q.source.text.splitlines()]
    numbers = itertools.count()

    class Sampler(ScriptedEngine):
        """A scripted engine whose ids are a real tokenizer's, EOS included."""

        async def generate(self, requests: Sequence[Request]) -> list[Completion]:
            answers = await super().generate(requests)
            if tokenizer is None:
                return answers
            turns = Turns(tokenizer)
            return [_with_ids(r, a, turns) for r, a in zip(requests, answers, strict=True)]

    def speech(request: Request) -> str:
        """A line of the source, another each time: so judges score candidates apart."""
        words = "\n".join(message.content for message in request.prompt.messages)
        lines = [line for line in logged if line in words]
        line = lines[next(numbers) % len(lines)]
        return f"Read this <|end|> and see: <quote>{line}</quote> I say so {next(numbers)} times."

    engine = Sampler(speech)
    spec = AgentSpec(agent="debater", engine=EngineSpec(engine="scripted"))
    judge = AgentSpec(agent="lexical")
    agents = {
        Role.DEBATER: build_agent(spec, engine),
        Role.JUDGE: build_agent(judge),
    }
    specs = {Role.DEBATER: identify(spec), Role.JUDGE: identify(judge)}
    chosen = [protocols.load("debate_best_of_n").model_copy(update={"rounds": 1})]
    with Store.open(path) as store:
        runtime = Runtime(store, Cast(agents, specs, {}))
        done = await run_debates(list(plan(questions, chosen, specs)), runtime, concurrency=1)
        assert (done.done, done.failures) == (4, [])


def _with_ids(request: Request, answer: Completion, turns: Any) -> Completion:
    messages = request.prompt.messages
    prompt = tuple(turns.prompt(messages).tolist())
    ids = tuple(turns.answer(messages, answer.text).tolist())
    usage = Usage(prompt_tokens=len(prompt), completion_tokens=len(ids))
    return replace(
        answer,
        prompt_ids=prompt,
        token_ids=ids,
        usage=usage,
        logprobs=None if answer.logprobs is None else tuple(-0.5 for _ in ids),
    )


@pytest.fixture
def compare() -> Callable[..., Any]:
    """`load_comparisons` of rows in memory, with settings as keywords."""
    from oversight.train.data.loading import load_comparisons
    from oversight.train.settings import DataSettings

    def load(
        tokenizer: Any,
        rows: Any,
        max_len: int | None = None,
        vocab_size: int | None = None,
        **how: Any,
    ) -> Any:
        size = len(tokenizer) if vocab_size is None else vocab_size
        return load_comparisons(DataSettings(**how), tokenizer, size, max_len, rows=rows)

    return load
