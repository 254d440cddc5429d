"""Makes the pictures of the judging screen from the program itself.

python docs/make_screens.py        # writes docs/pictures/judge_*.svg

A debate of the `world` data set between retrieval agents is judged by keys, as a person would; the
assistant's words are written here, as no model comes with the package that speaks at such length.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from oversight import protocols
from oversight.config import EMBEDDED_AGENTS
from oversight.datasets.base import load_questions
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.judging.settings import JudgingSettings
from oversight.store import Store
from oversight.tui.person_app import JudgeApp
from oversight.types import Question

FOLDER = Path(__file__).parent / "pictures"
SIZE = (124, 32)
ROUNDS = 2
NUM_LOOKED_AT = 40
PICTURES = {
    # Name -> keys pressed since the picture before.
    "judge_debate": ["enter", "7", "5", "enter", *["right_square_bracket"] * 4, "space"],
    "judge_assistant": ["q", "c", "a", "1"],
    "judge_verdict": ["q", "v", *"Day 4413 is the last entry on cycling."],
}
ASSISTANT = (
    "Both sides quote the log. They differ in which line is the last one: that decides the "
    "question, and each has shown the line that suits it."
)


async def record(store: Store, questions: Sequence[Question]) -> None:
    """Run debates on these questions."""
    changes = {"rounds": ROUNDS, "quote_context": 120}
    protocol = protocols.load("debate").model_copy(update=changes)
    async with cast(EMBEDDED_AGENTS, {}) as actors:
        planned = list(plan(questions, [protocol], actors.specs))
        await run_debates(planned, Runtime(store, actors), concurrency=4)


async def most_quoted() -> Question:
    """Of a few questions the one on which most is quoted: there is most to see."""
    loaded = load_questions(("world", {"split": "held_out", "difficulty": 4}), limit=NUM_LOOKED_AT)
    with tempfile.TemporaryDirectory() as folder, Store.open(str(Path(folder, "l.db"))) as store:
        await record(store, loaded.questions)
        return max(
            store.transcripts(),
            key=lambda t: (sum(len(turn.quotes) for turn in t.turns), t.question.id),
        ).question


async def make(store: Store) -> None:
    """Judge it, and draw the screen on the way."""
    await record(store, [await most_quoted()])
    settings = JudgingSettings.parse(
        {
            "judge": "anna",
            "store": store.url,
            "assistance": {"full": {"agent": "assistant", "engine": "helper"}},
            "engines": {"helper": {"engine": "scripted", "settings": {"fallback": ASSISTANT}}},
        }
    )
    app = JudgeApp(store, settings)
    async with app.run_test(size=SIZE) as pilot:
        for name, keys in PICTURES.items():
            for key in keys:
                await pilot.press({" ": "space", ".": "full_stop"}.get(key, key))
                await pilot.pause(0.2)
            await pilot.pause(0.5)
            svg = app.export_screenshot(title="oversight judge")
            # No fonts from the network: the reader's own monospace font does.
            local = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
            (FOLDER / f"{name}.svg").write_text(local, "utf-8")


def main() -> None:
    """Draw in a temporary store."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Store.open(str(Path(folder, "p.db"))) as store:
        asyncio.run(make(store))


if __name__ == "__main__":
    main()
