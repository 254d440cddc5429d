"""Makes the page of models that work from what came of each in the sweep over all of them.

python docs/make_models_table.py          # writes docs/models.md
python docs/make_models_table.py --run    # runs the sweep first: ten minutes on two cores

The outcomes stand in tests/architectures/outcomes.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "models.md"
SWEEP = ROOT / "tests" / "architectures" / "sweep.py"
OUTCOMES = ROOT / "tests" / "architectures" / "outcomes.json"
WAYS = {
    "engine": "engine",
    "train": "train",
    "sample": "sample",
    "reward": "reward with",
    "train reward": "train to reward",
}
HEAD = """\
# Which models work

Made with transformers {version} by `python docs/make_models_table.py --run`; a test holds it
against the code. Every type of model that `AutoModelForCausalLM` or
`AutoModelForSequenceClassification` takes was made small, with random weights, and tried in each
way that the project takes up a model:

- **engine**: the `transformers` engine. Greedy tokens, log-probabilities and scored choices of
  requests that run together, before and behind every window.
- **train**: a policy of `train sft`, `dpo`, `ppo` and `grpo`. Log-probabilities of rows alone and
  together, in training mode too, and their gradient by every weight.
- **sample**: responses that `ppo` and `grpo` sample in process. The log-probabilities given.
- **reward with**: a reward model of `ppo` and `grpo`. The score of each row, alone and together.
- **train to reward**: the base of `train reward`. The finished model, read by transformers, gives
  the scores that were trained.

“Exact” means: equal to a plain forward pass of transformers' own class over each row alone, to
1e-4 in float32 (a gradient to 2e-3). What is not exact is refused by name, and {faults}.

{counts}

A tiny model with random weights shows that the same function is computed, and nothing else: not
that a published model of the type fits into memory, that its tokenizer and chat template are
understood, nor how it behaves in bfloat16 or with kernels that are not on this machine's CPU.

Reasons of refusals: *no class*: transformers has no sequence-classification class for the type.
*No head `score`*: its head reads something else than the last token. *Other layers*: they cannot
be computed over a [token trie](../ARCHITECTURE.md#how-a-model-is-trained), or in a batch.
*Differs*: they can, but give other numbers. *At random in training*: it draws numbers that no
setting turns off. *Company*: what a row gets would depend on the rows that it is computed
with. *Past its …*: rows longer than that setting would get other numbers. *Its scores depend on …*:
attention does something that the trie's does not.

A name with a comma is a type in another setting than its default, such as a window.
A dash: transformers has no class for it.

"""
MOST = 120
"""Characters of a reason."""
SAID = (
    # What a row of the table says already, the numbers of one tiny model, and errors of torch.
    (r"^[\w./]+(?: = '[^']*')?: ", ""),
    (r"^a model of type '[^']*' (?:cannot|is)[^:]*: ", ""),
    (r"scored over a token trie,? ", ""),
    (r"it (?:cannot be computed so|does not run over a token trie) ", "NOT_SO "),
    (r"its layers stop with an error where [^(]*", "NOT_SO "),
    (r"; docs/training\.md says.*", ""),
    # What was kept of a long reason may end anywhere.
    (r"\)?, though\b.*", ")"),
    (r"NOT_SO \((?:.*?(its scores [^)]*)|(it has [^)]*)|.*)\)?$", r"\1\2"),
    (r" of \d+ tokens", ""),
    (r"which is (?=past)", ""),
    (r" by (?:\d[\d.e+-]*|nan)\b", ""),
    (r" = \d+\b", ""),
    # In the words of the page's head.
    (r"^transformers has no sequence-classification class.*", "no class"),
    (r"^it has no head called 'score'.*", "no head `score`"),
    (r"^\d+ weights are missing.*", "no head `score`"),
    (r"^a row differs with the rows.*", "company"),
    (r"^(?:a row alone|it) (differs) from its own forward pass.*", r"\1"),
    (r"^a row, (past its .*), differs from.*", r"\1"),
    (r"^in training mode its scores differ.*", "at random in training"),
)


def page(outcomes: dict[str, Any], version: str) -> str:
    """The whole page."""
    lines = [f"| model type | {' | '.join(WAYS.values())} |", "|---" * (len(WAYS) + 1) + "|"]
    not_built = []
    for name, ways in outcomes.items():
        missing = {way: each for way, each in ways.items() if each["outcome"] == "none"}
        not_built += [(name, WAYS[way], each["about"]) for way, each in missing.items()]
        if len(missing) < len(ways):
            cells = [_cell(way, ways) for way in WAYS]
            lines.append(f"| `{name}` | {' | '.join(cells)} |")
    text = (
        HEAD.format(version=version, counts=_counts(outcomes), faults=_faults(outcomes))
        + "\n".join(lines)
        + "\n"
    )
    if not_built:
        text += (
            "\n## Not made here\n\nThese could not be made small, so nothing is said of them:\n\n"
        )
        text += "".join(f"- `{name}` ({way}): {short(why)}\n" for name, way, why in not_built)
    return text


def _counts(outcomes: dict[str, Any]) -> str:
    lines = ["| | " + " | ".join(WAYS.values()) + " |", "|---" * (len(WAYS) + 1) + "|"]
    for outcome in ("exact", "refused"):
        found = Counter(
            way for ways in outcomes.values() for way in ways if ways[way]["outcome"] == outcome
        )
        lines.append(f"| {outcome} | {' | '.join(str(found[way]) for way in WAYS)} |")
    return "\n".join(lines)


def _faults(outcomes: dict[str, Any]) -> str:
    found = [
        f"`{name}` ({WAYS[way]})"
        for name, ways in outcomes.items()
        for way, each in ways.items()
        if each["outcome"] in ("WRONG", "CRASH")
    ]
    return f"silently wrong: {', '.join(found)}" if found else "nothing is silently wrong"


def _cell(way: str, ways: dict[str, Any]) -> str:
    each = ways.get(way)
    if each is None:
        return "—"
    if each["outcome"] == "none":
        return "not tried"
    if each["outcome"] == "exact":
        return "exact"
    if way == "sample" and each == ways["train"]:
        return "refused: as train"
    return f"{each['outcome']}: {short(each['about'])}"


def short(about: str) -> str:
    """A reason without what its row says already."""
    for pattern, instead in SAID:
        about = re.sub(pattern, instead, about)
    about = " ".join(about.split()) or "other layers"
    about = about.replace("|", "/").replace("<", "‹").replace(">", "›")
    return about if len(about) <= MOST else about[: MOST - 1].rstrip() + "…"


def run() -> dict[str, Any]:
    """Run the sweep, in two processes."""
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder, f"{part}.json") for part in (1, 2)]
        parts = [
            subprocess.Popen(
                [sys.executable, str(SWEEP), "-o", str(out), "--part", f"{part}/2"],
                env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            )
            for part, out in enumerate(outs, 1)
        ]
        if sum(part.wait() for part in parts):
            raise SystemExit("the sweep failed")
        found = {name: ways for out in outs for name, ways in json.loads(out.read_text()).items()}
    for each in (each for ways in found.values() for each in ways.values()):
        if each["outcome"] == "exact":
            each["about"] = ""  # its error, another one each time
    return dict(sorted(found.items()))


def write(outcomes: dict[str, Any], version: str) -> None:
    """Write outcomes, a model a line."""
    lines = [f" {json.dumps(name)}: {json.dumps(ways)}" for name, ways in outcomes.items()]
    rows = ",\n".join(lines)
    OUTCOMES.write_text(
        f'{{"transformers": {json.dumps(version)}, "outcomes": {{\n{rows}\n}}}}\n', encoding="utf-8"
    )


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="store_true", help="run the sweep first")
    if parser.parse_args().run:
        import transformers

        write(run(), transformers.__version__)
    made = json.loads(OUTCOMES.read_text(encoding="utf-8"))
    PAGE.write_text(page(made["outcomes"], made["transformers"]), encoding="utf-8")


if __name__ == "__main__":
    main()
