"""Inputs, models, clocks and the table, shared by both sides of the trainer benchmarks.

`training_peers_timed.py` runs TRL on these inputs and `training.py` our trainers; each case runs
in a process of its own, so that one case's memory is not another's. All under `ENVIRONMENT`: one
thread, one malloc arena, no network.

Time is process CPU time (`time.process_time`) from the end of one optimizer step to the end of
the next, so fetching the batch, metrics, clipping and logging are in it. Other work on the same
cores can only raise it, so the least of several steps counts and the median stands beside it.

Memory is the kernel's own high-water mark of resident memory (`VmHWM`), set back just before the
measured steps, less what was resident when the side's libraries had been imported and nothing
built: weights, reference, gradients, optimizer state and activations all count, libraries do not.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Freed memory of many arenas would count as used, differently for each side.
    "MALLOC_ARENA_MAX": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "TQDM_DISABLE": "1",
    "CUDA_VISIBLE_DEVICES": "",
    # TRL marks `rollout_func`, through which it is given fixed completions, as experimental.
    "TRL_EXPERIMENTAL_SILENCE": "1",
}
"""The environment of both sides."""

VOCAB = 2048
"""Size of the vocabulary, of the case that `use` has set."""
LOWERED = False
"""True where the case that `use` has set multiplies in bfloat16."""
PAD, EOS, UNKNOWN, FIRST_WORD = 0, 1, 2, 3
CONTEXT = 2048
COMPLETION = 64
RESULT = "RESULT "
"""The beginning of the line of output that holds a case's measurement."""


@dataclass(frozen=True)
class Row:
    """A prompt and one completion to it, as ids; the completion ends in EOS."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    reward: float = 0.0

    @property
    def ids(self) -> tuple[int, ...]:
        return self.prompt + self.completion


@dataclass(frozen=True)
class Pair:
    """Two completions to one prompt, the better first."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    @property
    def rows(self) -> tuple[Row, Row]:
        return Row(self.prompt, self.chosen), Row(self.prompt, self.rejected)


@dataclass(frozen=True)
class Fixed:
    """Ids and rewards that every side of a case trains on; the same for the same seed."""

    seed: int = 1
    """1 is the first at which no two completions begin with the same word by chance."""

    @cached_property
    def _rng(self) -> Random:
        return Random(self.seed)

    def words(self, number: int) -> tuple[int, ...]:
        """Some ids that are neither padding, EOS nor unknown."""
        return tuple(self._rng.randrange(FIRST_WORD, VOCAB) for _ in range(number))

    def completion(self, tokens: int = COMPLETION) -> tuple[int, ...]:
        """So many tokens, the last of them EOS."""
        return (*self.words(tokens - 1), EOS)

    def group(self, prompt_tokens: int, size: int = 8) -> list[Row]:
        """One prompt and several completions, with rewards."""
        prompt = self.words(prompt_tokens)
        return [Row(prompt, self.completion(), self._rng.random()) for _ in range(size)]

    def pairs(self, prompt_tokens: int = 1024, number: int = 8) -> list[Pair]:
        """Prompts of their own, each with two completions."""
        return [
            Pair(self.words(prompt_tokens), self.completion(), self.completion())
            for _ in range(number)
        ]

    def debate(
        self, source_tokens: int = 1024, sides: int = 2, rounds: int = 3, siblings: int = 4
    ) -> list[list[Row]]:
        """The groups of siblings of one debate whose sides speak at once, in order.

        The prompt of a turn is the source, of each earlier round the sibling of each
        side that went into the transcript (the one of the highest reward), and a
        last token that says which side is to speak.
        """
        transcript = self.words(source_tokens)
        groups = []
        for _ in range(rounds):
            spoken: tuple[int, ...] = ()
            for side in range(sides):
                prompt = (*transcript, FIRST_WORD + side)
                group = [
                    Row(prompt, self.completion(), self._rng.random()) for _ in range(siblings)
                ]
                groups.append(group)
                spoken += max(group, key=lambda row: row.reward).completion
            transcript += spoken
        return groups

    def uneven(self, number: int = 6, prompts: int = 2) -> list[Row]:
        """A small batch of unequal lengths, for checks of equality: padding has to be right."""
        made = [self.words(self._rng.randrange(5, 24)) for _ in range(prompts)]
        return [
            Row(
                made[index * prompts // number],
                self.completion(self._rng.randrange(3, 12)),
                self._rng.random(),
            )
            for index in range(number)
        ]

    def uneven_pairs(self, number: int = 4) -> list[Pair]:
        """A few pairs of unequal lengths, for checks of equality."""
        draw = self._rng.randrange
        return [
            Pair(
                self.words(draw(5, 24)),
                self.completion(draw(3, 12)),
                self.completion(draw(3, 12)),
            )
            for _ in range(number)
        ]


def group_advantages(groups: Iterable[Sequence[Row]]) -> list[float]:
    """(reward - mean) / (standard deviation + 1e-4) within each group, one a row, as TRL's are."""
    advantages: list[float] = []
    for group in groups:
        mean = sum(row.reward for row in group) / len(group)
        squares = sum((row.reward - mean) ** 2 for row in group)
        deviation = (squares / (len(group) - 1)) ** 0.5
        advantages += [(row.reward - mean) / (deviation + 1e-4) for row in group]
    return advantages


def flat_tokens(rows: Iterable[Row]) -> int:
    """Tokens of the rows one after another, each with its prompt; no padding counted."""
    return sum(len(row.ids) for row in rows)


def trie_tokens(rows: Iterable[Row]) -> int:
    """Tokens left where rows share what they share from the start: the nodes of their trie."""
    nodes: dict[tuple[int, int], int] = {}
    for row in rows:
        node = 0
        for token in row.ids:
            node = nodes.setdefault((node, token), len(nodes) + 1)
    return len(nodes)


def token_bound(rows: Sequence[Row]) -> float:
    """Return the tokens of flat rows over those of their trie."""
    return flat_tokens(rows) / trie_tokens(rows)


@dataclass(frozen=True)
class Case:
    """One line of the table: what is trained on, and the bars to reach against TRL."""

    name: str
    title: str
    rows: Callable[[], list[Row]]
    time_bar: float | None
    """How many times faster; None where it is the token bound over `BOUND_SLACK`."""
    memory_bar: float | None
    """Share of TRL's peak; None where none is asked."""
    vocab: int = 2048
    lowered: bool = False
    """Layers and head multiply in bfloat16; weights, sums and optimizer stay in float32."""

    def bound(self) -> float:
        """The token bound, reference and policy alike."""
        return token_bound(self.rows())

    def bar(self) -> float:
        """Return how many times faster than TRL this case has to be."""
        return self.bound() / BOUND_SLACK if self.time_bar is None else self.time_bar


BOUND_SLACK = 1.4
"""How close to its token bound a whole debate has to come."""


def _pair_rows() -> list[Row]:
    return [row for pair in Fixed().pairs() for row in pair.rows]


def short_pairs() -> list[Pair]:
    """Four pairs whose prompts are no longer than many real ones."""
    return Fixed().pairs(256, 4)


def _short_pair_rows() -> list[Row]:
    return [row for pair in short_pairs() for row in pair.rows]


def lone_rows() -> list[Row]:
    """Eight rows of 1,024 + 64 tokens that share nothing."""
    fixed = Fixed()
    return [Row(fixed.words(1024), fixed.completion()) for _ in range(8)]


def _debate_rows() -> list[Row]:
    return [row for group in Fixed().debate() for row in group]


CASES = {
    case.name: case
    for case in (
        Case("grpo-1024", "GRPO 1,024 + 8 × 64", lambda: Fixed().group(1024), 4.5, 0.6),
        Case("grpo-1024-noref", "  without reference", lambda: Fixed().group(1024), 4.5, 0.6),
        Case("grpo-384", "GRPO 384 + 8 × 64", lambda: Fixed().group(384), 3.5, 0.75),
        Case("grpo-384-noref", "  without reference", lambda: Fixed().group(384), 3.5, 0.75),
        Case("dpo", "DPO 8 × (1,024 + 2 × 64)", _pair_rows, 2.2, 0.6),
        Case("dpo-precomputed", "  reference precomputed", _pair_rows, 2.2, 0.6),
        Case("reward", "reward model, same pairs", _pair_rows, 2.0, 0.6),
        Case("debate", "debate 2 × 3 × 4 × 64", _debate_rows, None, 0.4),
        Case("rollouts", "rollouts 1,024 + 8 × 64", lambda: Fixed().group(1024), 3.0, None),
        Case("sft", "SFT 8 × (1,024 + 64)", lone_rows, 1.4, None),
        Case("sft-best", "  TRL at its best settings", lone_rows, 1.4, None),
        Case("dpo-short", "DPO 4 × (256 + 2 × 64), precomputed", _short_pair_rows, None, None),
        Case("dpo-32k", "DPO 4 × (256 + 2 × 64), V 32k", _short_pair_rows, None, None, 1 << 15),
        Case("dpo-128k", "  V 128k", _short_pair_rows, 3.0, 0.3, 1 << 17),
        Case(
            "dpo-128k-precomputed",
            "  V 128k, precomputed",
            _short_pair_rows,
            3.0,
            0.3,
            1 << 17,
        ),
        Case("dpo-128k-bf16", "  V 128k, bf16", _short_pair_rows, 3.0, 0.3, 1 << 17, True),
        Case(
            "grpo-128k",
            "GRPO 1,024 + 8 × 64, V 128k",
            lambda: Fixed().group(1024),
            3.0,
            0.3,
            1 << 17,
        ),
        Case("sft-128k", "SFT 8 × (1,024 + 64), V 128k", lone_rows, 1.4, None, 1 << 17),
        Case("sft-128k-best", "  TRL at its best settings", lone_rows, 1.4, None, 1 << 17),
    )
}
"""Every line of the table, by name."""


def use(name: str) -> Case:
    """Let this process run a case: its vocabulary and precision are those of all that is built."""
    global VOCAB, LOWERED
    case = CASES[name]
    VOCAB, LOWERED = case.vocab, case.lowered
    return case


@dataclass(frozen=True)
class Measurement:
    """The cost of a step of one case on one side."""

    cpu_s_per_step: float
    """Process CPU seconds, the least of the measured steps."""
    peak_bytes: int
    """High-water mark of resident memory in the measured steps, above that after the imports."""
    tokens_per_step: int
    """Tokens that go through the policy's forward pass, padding included."""
    details: dict[str, Any] = field(default_factory=dict)
    """Among others the median, all steps, and the memory held before the first step."""

    def to_line(self) -> str:
        """One line, to be read by `measured_subprocess`."""
        return RESULT + json.dumps(asdict(self))


def llama_config(**changes: Any) -> Any:
    """4 layers, 256 wide, 4 heads, the vocabulary of the case, float32."""
    from transformers import LlamaConfig

    settings: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": False,
        "pad_token_id": PAD,
        "bos_token_id": None,
        "eos_token_id": EOS,
        "attn_implementation": "sdpa",
        "dtype": "float32",
    }
    return LlamaConfig(**(settings | changes))


def build_llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """A random-weight model of `llama_config`; the same weights for the same seed."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(llama_config(**changes))


def build_reward_model(seed: int = 0, **changes: Any) -> LlamaForSequenceClassification:
    """The same with a head of one score in place of the vocabulary's."""
    import torch
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(seed)
    return LlamaForSequenceClassification(llama_config(num_labels=1, **changes))


def build_tokenizer() -> Any:
    """One word an id, "w3" to the last, split at spaces; made in memory, adds nothing by itself."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = {"<pad>": PAD, "</s>": EOS, "<unk>": UNKNOWN}
    words = {f"w{index}": index for index in range(FIRST_WORD, VOCAB)}
    backend = Tokenizer(models.WordLevel(special | words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="left",
    )


def text(ids: Iterable[int]) -> str:
    """Return a text that `build_tokenizer` reads as just these ids, alone or after another such."""
    special = {PAD: "<pad>", EOS: "</s>", UNKNOWN: "<unk>"}
    return "".join(" " + special.get(index, f"w{index}") for index in ids)


def _status(key: str) -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        for line in lines:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    raise LookupError(key)


def resident() -> int:
    """Bytes of this process in memory now, after a collection of garbage."""
    gc.collect()
    return _status("VmRSS")


def forget_peak() -> None:
    """Let the kernel count the high-water mark of resident memory anew from here."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def peak() -> int:
    """The high-water mark of resident memory since `forget_peak`."""
    return _status("VmHWM")


class StepClock:
    """CPU time from the end of one step to that of the next, and the peak of memory over them.

    Build it when the libraries are imported and nothing else is; call `built` when
    the trainer is, and `step_ended` after each step.
    """

    def __init__(self, warmup: int = 1) -> None:
        self.warmup = warmup
        self.imported = resident()
        self.ready = self.imported
        self.times: list[float] = []
        self._last = 0.0
        self._ended = 0
        self._peak = 0

    def built(self) -> None:
        """Note what the model and the trainer hold before the first step."""
        self.ready = resident()
        self._last = time.process_time()

    def step_ended(self) -> None:
        """Count a step; those of the warm-up count for nothing."""
        now = time.process_time()
        self._ended += 1
        if self._ended > self.warmup:
            self.times.append(now - self._last)
            self._peak = max(self._peak, peak())
        else:
            gc.collect()
            forget_peak()
        self._last = time.process_time()

    def measurement(self, tokens_per_step: int, **details: Any) -> Measurement:
        """The figures of all steps so far.

        Raises:
            SystemExit: Less is held than before the model was built: another case ran here before.
        """
        if self._peak <= self.imported:
            raise SystemExit("memory is measured in a process that has run no other case before")
        return Measurement(
            cpu_s_per_step=min(self.times),
            peak_bytes=self._peak - self.imported,
            tokens_per_step=tokens_per_step,
            details={
                "median_cpu_s": median(self.times),
                "cpu_s": self.times,
                "imported_bytes": self.imported,
                "ready_bytes": self.ready - self.imported,
                **details,
            },
        )


def measure_steps(
    step: Callable[[], object], steps: int, warmup: int = 1, clock: StepClock | None = None
) -> StepClock:
    """The clock after so many steps, for a side whose step is one call."""
    clock = clock or StepClock(warmup)
    clock.built()
    for _ in range(clock.warmup + steps):
        step()
        clock.step_ended()
    return clock


def measured_subprocess(command: Sequence[str], timeout_s: float = 7200) -> Measurement:
    """Run a case in a fresh process under `ENVIRONMENT`; return what it measured of itself."""
    done = subprocess.run(
        command,
        env=os.environ | ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if done.returncode or not lines:
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}"
        )
    return Measurement(**json.loads(lines[-1].removeprefix(RESULT)))
