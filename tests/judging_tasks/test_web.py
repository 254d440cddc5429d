"""Rating in a browser: what its page would send and show, and by keyboard in a real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from oversight.cli.main import run
from oversight.types import RatingAct, Task

pytest.importorskip("textual_serve", reason="textual-serve is not installed")
pytest.importorskip("aiohttp")

from tests.tui.browser import Served, chromium, connected, in_chromium, serving, shown, until


@pytest.fixture
def serve(records, tmp_path) -> Iterator[Callable[..., Served]]:
    """Start the server on the store."""
    with ExitStack() as stack:

        def start(*words: str) -> Served:
            return stack.enter_context(serving(records.store, tmp_path, "rate", *words))

        yield start


async def test_a_pair_is_compared_in_a_browser(records, serve):
    records.best_of()
    served = serve("pairs", "--judge=a nna; --light", "--set=name='pilot'")
    async with connected(served) as socket:
        await shown(socket, b"takes the pair under the cursor")
        for keys, word in (("\r", b"Which of the two"), ("b", b"Both are bad"), ("\r", b"1 sent")):
            await socket.send_json(["stdin", keys])
            await shown(socket, word)
    (sent,) = records.ratings()
    assert (sent.answer.preferred, sent.judge, sent.study) == (
        "both_bad",
        "a nna; --light",
        "pilot",
    )


@in_chromium
@pytest.mark.parametrize(
    ("task", "keys", "said", "expected"),
    [
        (Task.PAIRS, ["ArrowRight"] * 2, lambda a: (a.preferred, a.strength), ("right", 2)),
        (
            Task.PRINCIPLES,
            [*"45012345"],
            lambda a: [*a.scores.values()],
            [4, 5, None, 1, 2, 3, 4, 5],
        ),
        (
            Task.REVISIONS,
            ["2", "ArrowRight"],
            lambda a: (a.criticism, a.revision),
            ("partly", "better"),
        ),
    ],
    ids=list(Task),
)
async def test_an_item_is_rated_by_keyboard_in_chromium(
    records, serve, tmp_path, task, keys, said, expected
):
    records.best_of()
    records.critique()
    served = serve(task.value, "--judge=anna")
    [item, *_] = records.desk(task).queue()

    def num(kind: RatingAct) -> int:
        return [e.kind for e in records.store.rating_events(item.key, "anna")].count(kind)

    async with chromium(tmp_path / "profile") as browser:
        await browser.open(served.address)
        await browser.press("Enter")
        await until(lambda: num(RatingAct.OPENED))
        await browser.keep(f"web_{task}.png")
        for answered, key in enumerate(keys, 1):
            await browser.press_until(key, lambda n=answered: num(RatingAct.ANSWERED) == n)
        await browser.press("Enter")
        await until(records.ratings)
        assert browser.requests_beyond(served.address) == []
        assert browser.complaints == []
    (sent,) = records.ratings()
    assert (sent.task, sent.judge, said(sent.answer)) == (task, "anna", expected)


def test_what_cannot_begin_is_said_before_anything_is_served(records, capsys):
    store = f"--store={records.store.url}"
    assert run(["rate", "pairs", store, "--web", "--linear"]) == 2
    assert "choose one" in capsys.readouterr().err
    assert run(["rate", "principles", store, "--web", "--constitution", "nice"]) == 2
    assert "there is no constitution 'nice'" in capsys.readouterr().err
    assert run(["rate", "pairs", store, "--web", "--set", "keys.lefft='h'"]) == 2
    assert "keys.lefft" in capsys.readouterr().err
