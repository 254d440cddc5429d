"""Makes the pictures of the README from the program itself.

python docs/make_pictures.py        # writes docs/pictures/
"""

from __future__ import annotations

import asyncio
import io
import re
import tempfile
from pathlib import Path

from rich.console import Console

from oversight import protocols
from oversight.config import EMBEDDED_AGENTS
from oversight.datasets.base import load_questions
from oversight.evals.pictures import render_png
from oversight.evals.report import build_report
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.store import Store
from oversight.tui.live import DebateView

FOLDER = Path(__file__).parent / "pictures"
NAMES = ("naive", "consultancy", "debate", "expert")


async def make(store: Store) -> None:
    """Write both pictures."""
    loaded = load_questions(("world", {"split": "held_out", "difficulty": 3}), limit=120)
    async with cast(EMBEDDED_AGENTS, {}) as actors:
        short = protocols.load("debate").model_copy(update={"rounds": 1})
        [(debate, question)] = plan(loaded.questions[:1], [short], actors.specs)
        console = Console(record=True, width=90, file=io.StringIO(), force_terminal=False)
        with DebateView(console, debate, question) as listener:
            await run_debates([(debate, question)], Runtime(store, actors, listener), concurrency=1)
        svg = console.export_svg(title="oversight debate")
        # No fonts from the network: the reader's own monospace font does.
        (FOLDER / "debate.svg").write_text(re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))
        chosen = [protocols.load(name) for name in NAMES]
        planned = list(plan(loaded.questions, chosen, actors.specs, sides="both"))
        await run_debates(planned, Runtime(store, actors), concurrency=32)
        ids = [each.id for each, _ in planned]
        render_png(build_report(store.transcripts(debate_ids=ids)), FOLDER / "report.png", dpi=110)


def main() -> None:
    """Run a few debates in a temporary store and draw them."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Store.open(str(Path(folder, "p.db"))) as store:
        asyncio.run(make(store))


if __name__ == "__main__":
    main()
