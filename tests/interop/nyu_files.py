"""NYU debate files made by hand for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from oversight.datasets.base import BadRow
from oversight.interop.base import ImportSettings, import_debates, items_of
from oversight.store import Store
from oversight.types import Transcript

STORY = ["The", "robbers", "left", ".", "\n", "``", "Melted", "!", "''", "she", "said", "."]
"""Reads: The robbers left.⏎"Melted!" she said."""

JUDGE = {"JudgeFeedbackRound": {"reportBeliefs": True, "charLimit": 750}}
AT_ONCE = {"SimultaneousSpeechesRound": {"charLimit": 750, "quoteLimit": 250}}
IN_TURN = {"SequentialSpeechesRound": {"charLimit": 750, "quoteLimit": 250}}
END = {"NegotiateEndRound": {"assignedDebatersOnly": False}}


def text(words: str) -> dict[str, Any]:
    return {"Text": {"text": words}}


def quote(begin: int, end: int) -> dict[str, Any]:
    return {"Quote": {"span": [begin, end]}}


def speech(speaker: str, *content: dict[str, Any], at: int = 1_690_000_000_000) -> dict[str, Any]:
    return {"speaker": speaker, "timestamp": at, "content": list(content)}


def believed(p: float, words: str = "", *, judge: str = "Kiki", ends: bool = False) -> dict:
    content = [text(words)] if words else []
    return {
        "JudgeFeedback": {
            "distribution": [p, 1.0 - p],
            "feedback": speech(judge, *content),
            "endDebate": ends,
        }
    }


def at_once(**speeches: dict[str, Any]) -> dict[str, Any]:
    return {"SimultaneousSpeeches": {"speeches": _by_side(speeches)}}


def in_turn(**speeches: dict[str, Any]) -> dict[str, Any]:
    return {"SequentialSpeeches": {"speeches": _by_side(speeches)}}


def _by_side(speeches: dict[str, Any]) -> dict[str, Any]:
    return {str("ab".index(side)): each for side, each in speeches.items()}


def a_debate(rounds: list[dict[str, Any]] | None = None, **setup: Any) -> dict[str, Any]:
    """A debate about who melted the tires, ended by the judge unless other rounds are given."""
    rules = {
        "fixedOpening": [JUDGE, AT_ONCE, JUDGE],
        "repeatingStructure": [IN_TURN, JUDGE],
        "fixedClosing": None,
        "globalQuoteRestriction": None,
        "scoringFunction": {"LogScoreWithLinearPenalty": {"perTurnPenalty": 0.05}},
    }
    given = {
        "rules": rules,
        "sourceMaterial": {
            "QuALITYSourceMaterial": {"articleId": "7", "title": "Tires", "contents": STORY}
        },
        "question": "Who melted them? ",
        "answers": ["The robbers.", "She did."],
        "correctAnswerIndex": 1,
        "roles": {"Debater A": "Ada", "Debater B": "Bob", "Judge": "Kiki"},
        "offlineJudges": {},
        "creationTime": 1_680_000_000_000,
    }
    return {
        "setup": given | setup,
        "rounds": rounds
        or [
            believed(0.5),
            at_once(
                a=speech("Ada", text("They did: "), quote(0, 3), text(", it says.")),
                b=speech("Bob", quote(5, 9), text("is what she said.")),
            ),
            believed(0.7, "Who is she?"),
            in_turn(a=speech("Ada", text("Nobody.")), b=speech("Bob", quote(9, 11))),
            believed(0.25, "Bob quotes it.", ends=True),
        ],
        "feedback": {"Kiki": {"Judge": {"answers": {"clarity": {"first": 2, "second": 4}}}}},
        "scratchpads": {"Debater A": [[text("a note")]]},
    }


def metadata(name: str, **changes: Any) -> dict[str, Any]:
    """The line of the metadata on a debate that came to an end."""
    return {
        "setting": {"isHuman": True, "isDebate": True},
        "name": name,
        "status": {"Complete": {"result": {"timestamp": 1_690_000_001_000, "endedBy": {}}}},
        "includedInPaper": True,
    } | changes


def a_folder(
    path: Path, debates: dict[str, Any], lines: list[dict[str, Any]] | None = None
) -> Path:
    """A folder as the study published it."""
    (path / "debates").mkdir(parents=True)
    for name, debate in debates.items():
        content = debate if isinstance(debate, bytes) else json.dumps(debate).encode()
        (path / "debates" / f"{name}.json").write_bytes(content)
    told = [metadata(name) for name in debates] if lines is None else lines
    (path / "debates-metadata.jsonl").write_text("".join(json.dumps(each) + "\n" for each in told))
    return path


def settings(path: Path, **own: Any) -> ImportSettings:
    return ImportSettings(format="nyu", path=str(path), store="", **own)


def transcript(path: Path, debate: dict[str, Any], **changes: Any) -> Transcript:
    """The one debate of a folder, as it is read back from a store."""
    lines = [metadata("one", **changes)]
    folder = a_folder(path / "in", {"one": debate}, lines)
    with Store.open(path / "one.db") as store:
        import_debates(settings(folder), store)
        [found] = store.transcripts(complete=None)
    return found


def reasons(path: Path, debate: Any) -> str:
    """The reason for which a file cannot be used."""
    [item] = items_of(settings(a_folder(path, {"one": debate})))
    assert isinstance(item, BadRow)
    assert item.file == str(path / "debates" / "one.json")
    return item.reason


OFFLINE = {
    "OfflineJudgments": {
        "judgments": {
            "Lulu": {
                "mode": "stepped",
                "startTimeMillis": 1,
                "judgments": [
                    each["JudgeFeedback"]
                    for each in (
                        believed(0.5, judge="Lulu"),
                        believed(0.4, judge="Lulu"),
                        believed(0.2, "Clear.", judge="Lulu", ends=True),
                    )
                ],
            },
            "Max": {
                "mode": "timed",
                "startTimeMillis": 1,
                "judgments": [believed(0.9, judge="Max", ends=True)["JudgeFeedback"]],
            },
            "Nil": {
                "mode": "stepped",
                "startTimeMillis": 1,
                "judgments": [believed(0.5, judge="Nil")["JudgeFeedback"]],
            },
        }
    }
}
NEGOTIATED = {
    "fixedOpening": [AT_ONCE, END],
    "repeatingStructure": [IN_TURN, END],
    "fixedClosing": None,
}


def negotiated(*, agreed: bool) -> dict[str, Any]:
    rounds = [
        at_once(a=speech("Ada", text("One.")), b=speech("Bob", text("Two."))),
        {"NegotiateEnd": {"votes": {"0": False, "1": True}}},
        in_turn(a=speech("Ada", text("Three.")), b=speech("Bob", text("Four."))),
        {"NegotiateEnd": {"votes": {"0": agreed, "1": True}}},
        OFFLINE,
    ]
    return a_debate(rounds, rules=NEGOTIATED, roles={"Debater A": "Ada", "Debater B": "Bob"})
