"""NYU debate files that cannot be used, or hold what is hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.main import run
from oversight.errors import ConfigError, DataError
from oversight.interop.base import (
    import_debates,
    items_of,
)
from oversight.store import Store
from tests.interop.nyu_files import (
    a_debate,
    a_folder,
    quote,
    reasons,
    settings,
)


def broken(place: str, value: Any) -> dict[str, Any]:
    """A debate with another value at a dotted place."""
    debate = json.loads(json.dumps(a_debate()))
    *way, last = place.split(".")
    inner = debate
    for step in way:
        inner = inner[int(step)] if isinstance(inner, list) else inner[step]
    inner[int(last) if isinstance(inner, list) else last] = value
    return debate


SPEECH = "rounds.1.SimultaneousSpeeches.speeches.0.content"


@pytest.mark.parametrize(
    ("debate", "said"),
    [
        (
            broken(f"{SPEECH}.1", quote(9, 99)),
            f"{SPEECH}.1.Quote.span = [9, 99]: no span of the story's 12 tokens",
        ),
        (broken(f"{SPEECH}.1", quote(3, 3)), f"{SPEECH}.1.Quote.span = [3, 3]: no span"),
        (broken(f"{SPEECH}.1", quote(-2, 3)), f"{SPEECH}.1.Quote.span = [-2, 3]: no span"),
        (
            broken("rounds.2.JudgeFeedback.distribution", [0.5, 0.6]),
            "rounds.2.JudgeFeedback",
        ),
        (
            broken("rounds.2.JudgeFeedback.distribution", [0.5, 0.6]),
            "distribution = [0.5, 0.6]: it sums to 1.1, not to 1",
        ),
        (broken("rounds.2.JudgeFeedback.distribution", [1.5, -0.5]), "no probabilities"),
        (
            broken("rounds.2.JudgeFeedback.distribution", [0.5, 0.25, 0.25]),
            "rounds.2.JudgeFeedback.distribution = [0.5, 0.25, 0.25]: one probability an answer",
        ),
        (broken("rounds.0", {"Poll": {"votes": {}}}), "rounds.0.Poll"),
        (broken("rounds.0", {}), "rounds.0"),
        (broken(f"{SPEECH}.0", {"Image": {"url": ""}}), f"{SPEECH}.0"),
        (broken("setup.answers", ["One.", "Two.", "Three."]), "setup.answers: 2 are needed"),
        (broken("setup.answers", ["One.", " One."]), "two options have the same text"),
        (broken("setup.correctAnswerIndex", 7), "correct=7"),
        (broken("setup.sourceMaterial", {"Film": {"title": ""}}), "setup.sourceMaterial"),
        (broken("setup.sourceMaterial.QuALITYSourceMaterial.contents", ["\n"]), "story is empty"),
        ({"question": "?"}, "key 'setup' is missing"),
        (b"{", "broken JSON"),
        (b'{"setup": {"question": "\\ud800"}}', "half of a surrogate pair"),
        (b"[1]", "expected a JSON object, found list"),
    ],
)
def test_what_cannot_be_used_is_named_by_its_place(debate: Any, said: str, tmp_path: Path) -> None:
    assert said in reasons(tmp_path / "in", debate)


def test_one_bad_file_keeps_all_from_being_written_unless_it_is_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = a_folder(
        tmp_path / "in", {"good": a_debate(), "bad": broken(f"{SPEECH}.1", quote(9, 99))}
    )
    store = tmp_path / "some.db"
    assert run(["import", "nyu", str(folder), "--store", str(store)]) == 2
    told = capsys.readouterr().err
    assert "1 item cannot be used" in told
    assert "bad.json" in told
    assert "--skip-bad" in told
    assert not store.exists()
    assert run(["import", "nyu", str(folder), "--store", str(store), "--skip-bad"]) == 0
    assert "1 bad item was skipped" in capsys.readouterr().out
    with Store.open(store) as opened:
        assert [each.question.id for each in opened.transcripts()] == ["nyu:good"]


def test_a_folder_without_debates_and_a_wrong_setting_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no debate files"):
        list(items_of(settings(tmp_path / "empty")))
    with pytest.raises(ConfigError, match="no such file or folder"):
        list(items_of(settings(tmp_path / "absent")))
    with pytest.raises(ConfigError, match=r"debates.*'some'.*paper"):
        list(items_of(settings(tmp_path / "empty", settings={"debates": "some"})))
    folder = a_folder(tmp_path / "in", {"one": a_debate()}, [])
    with pytest.raises(DataError, match="1 left out: not in the paper's figures"):
        import_debates(
            settings(folder, settings={"debates": "paper"}), Store.open(tmp_path / "none.db")
        )


def test_hostile_text_is_shown_inert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b]0;title\x07[bold]\u202e"
    folder = a_folder(tmp_path / "in", {"x": broken("rounds.0", {hostile: {}})})
    assert run(["import", "nyu", str(folder), "--store", str(tmp_path / "x.db")]) == 2
    told = capsys.readouterr().err
    assert "\x1b]" not in told
    assert "\u202e" not in told
    assert "[bold]" in told
