"""Prints faults that axe-core finds on the viewer's pages, light, dark, wide and on a phone.

python benchmarks/accessibility.py AXE STORE_OR_FOLDER...

AXE is axe.min.js of the npm package axe-core (`npm pack axe-core`), which is no part of this
repository. Each page is opened as `oversight view` serves it, everything on it is unfolded, and
violations are printed by their severity. Exits with 1 if one is serious or critical.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.tui.browser import chromium

OVERSIGHT = (sys.executable, "-m", "oversight.cli.main")
LINKS = """
[...new Set([...document.querySelectorAll("a[href]")].map((a) => a.href.split("#")[0]))]
  .filter((url) => url.startsWith(location.origin))
"""
RUN = """
axe.run(document, { resultTypes: ["violations"] }).then((found) => {
  window.found = found.violations.map((v) => ({
    id: v.id, impact: v.impact, num: v.nodes.length, where: v.nodes[0].target.join(" "),
    why: v.nodes[0].failureSummary }));
})
"""


async def look(axe: str, address: str, limit: int) -> list[tuple[str, str, dict[str, str]]]:
    """Violations by page and look."""
    found = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with chromium(Path(folder)) as browser:
            await browser.visit(f"{address}/")
            pages = [f"{address}/", f"{address}/nowhere", f"{address}/compare"]
            kinds = {"/t/": 3, "/call/": 1, "/compare?": 2, "/runs": 3, "/stored-runs": 3}
            kinds["/experiments"] = 3
            todo, seen = list(pages), set(pages)
            while todo and len(pages) < limit:
                await browser.visit(todo.pop(0))
                for url in await browser.value(LINKS):
                    kind = next((k for k in sorted(kinds, key=len, reverse=True) if k in url), "")
                    if kind and url not in seen and kinds[kind] > 0:
                        kinds[kind] -= 1
                        seen.add(url)
                        pages.append(url)
                        todo.append(url)
            for page in pages:
                for theme, width in (("light", 1200), ("dark", 1200), ("light", 390)):
                    await browser.visit(page, width, 900, theme)
                    unfold = (
                        "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
                    )
                    await browser.value(unfold)
                    await asyncio.sleep(0.5)
                    await browser.ask("Runtime.evaluate", expression=axe)
                    await browser.ask("Runtime.evaluate", expression=RUN, awaitPromise=True)
                    for each in json.loads(await browser.value("JSON.stringify(window.found)")):
                        found.append((page.removeprefix(address), f"{theme} {width}", each))
            print(f"{len(pages)} pages, each in three looks: {', '.join(sorted(kinds))}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("axe", type=Path)
    parser.add_argument("places", nargs="+")
    parser.add_argument("--limit", type=int, default=20, help="Pages at most.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as cache:
        process = subprocess.Popen(
            [*OVERSIGHT, "view", *given.places, "--no-browser", "--port=0"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": cache},
        )
        assert process.stdout is not None
        try:
            address = process.stdout.readline().split()[2].rstrip("/")
            axe = given.axe.read_text(encoding="utf-8")
            found = asyncio.run(look(axe, address, given.limit))
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
    for page, shape, each in found:
        print(
            f"{each['impact']:9} {each['id']:28} {shape:11} {page} ({each['num']}): {each['where']}"
        )
        print(f"          {each['why']}")
    severe = [each for _, _, each in found if each["impact"] in ("serious", "critical")]
    print(f"{len(severe)} serious or critical, {len(found)} in all")
    return 1 if severe else 0


if __name__ == "__main__":
    raise SystemExit(main())
