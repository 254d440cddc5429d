"""The pictures of the viewer in docs/pictures: a list, transcripts, runs, a closed circle.

python docs/make_viewer_pictures.py [--out docs/pictures] [--circle FOLDER] [--run FOLDER]

A small model that ships with the package debates on generated questions, `oversight view` serves
the store as it would a person's, and a headless Chromium takes the pictures. Needs Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from PIL import Image

from tests.tui.browser import chromium

OVERSIGHT = (sys.executable, "-m", "oversight.cli.main")
NUM_COLOURS = 128


@dataclass(frozen=True)
class Shot:
    """A picture: of which page, how wide, and what is done there before."""

    name: str
    path: str
    width: int
    height: int
    theme: str = "light"
    script: str = ""


@contextmanager
def serving(*places: str, cache: Path) -> Iterator[str]:
    """The address of `oversight view` over these places."""
    process = subprocess.Popen(
        [*OVERSIGHT, "view", *places, "--no-browser", "--port=0"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": str(cache)},
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[2].rstrip("/")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


async def take(address: str, shots: list[Shot], out: Path) -> None:
    """Take the pictures into `out`."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        async with chromium(Path(folder)) as browser:
            for shot in shots:
                size = (shot.width, shot.height, shot.theme)
                await browser.visit(address + shot.path, *size, scale=1.5)
                if shot.script:
                    await browser.value(shot.script)
                await asyncio.sleep(2.0)
                answer = await browser.ask("Page.captureScreenshot", format="png")
                picture = Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB")
                # Few colours: a page has no more, and the file is a third as large.
                few = picture.quantize(NUM_COLOURS, dither=Image.Dither.NONE)
                few.save(out / shot.name, optimize=True)
                print(out / shot.name, f"{(out / shot.name).stat().st_size / 1000:.0f} kB")
            assert browser.complaints == [], browser.complaints


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--store", type=Path, help="Of `oversight demo`, used as it is.")
    parser.add_argument("--circle", type=Path, help="Of `oversight run`; without it no picture.")
    parser.add_argument(
        "--run", type=Path, help="Of `oversight train grpo`; without it no picture."
    )
    out, store = (given := parser.parse_args()).out, given.store
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        if store is None:
            store = folder / "demo.db"
            debate = [*OVERSIGHT, "demo", "--no-circle", "--questions", "12", "--folder", temporary]
            subprocess.run(debate, check=True, stdout=subprocess.DEVNULL)
        long = folder / "long.db"
        baselines = ["--dataset", "world", "--limit", "3", "-p", "debate", "--store", str(long)]
        subprocess.run([*OVERSIGHT, "debate", *baselines], check=True, stdout=subprocess.DEVNULL)
        runs = folder / "runs.db"
        for name, more in (("retrieval", ()), ("placebo", ("--debater", "placebo"))):
            words = ["--dataset", "world", "--limit", "8", "-p", "debate_single_turn", *more]
            words += ["--run", name, "--tag", f"speakers={name}", "--store", str(runs)]
            subprocess.run([*OVERSIGHT, "debate", *words], check=True, stdout=subprocess.DEVNULL)
        debated, best = _ids(long, "debate"), _ids(store, "debate_single_turn_best_of_n")
        unfold = "document.querySelector('.calls details').open = true"
        shots = [
            Shot("view_list.png", f"/?store={store.name}&result=wrong", 1100, 760),
            Shot("view_transcript.png", f"/t/{debated[0]}?store=long.db", 1100, 900, "dark"),
            Shot("view_call.png", f"/t/{best[0]}?store={store.name}", 1100, 900, "light", unfold),
            Shot("view_phone.png", f"/t/{debated[0]}?store=long.db", 390, 780),
            Shot("view_runs.png", "/stored-runs?store=runs.db&a=retrieval&b=placebo", 1100, 900),
        ]
        places = [str(store), str(long), str(runs)]
        if given.circle is not None:
            places.append(str(given.circle))
            shots.append(Shot("view_circle.png", f"/experiments/{given.circle.name}", 1100, 900))
        if given.run is not None:
            places.append(str(given.run))
            shots.append(Shot("view_run.png", f"/runs/{given.run.name}", 1100, 1300))
        with serving(*places, cache=folder / "cache") as address:
            asyncio.run(take(address, shots, out))


def _ids(store: Path, protocol: str) -> list[str]:
    from oversight.store import Store

    with Store.open(store, create=False, only_read=True) as opened:
        return opened.debate_ids(protocol=protocol)


if __name__ == "__main__":
    main()
