"""Debates to be audited, held once."""

from __future__ import annotations

from pathlib import Path

import pytest

import oversight as ov
from oversight.types import Transcript

NUM_QUESTIONS = 24


@pytest.fixture(scope="session")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of debates, consultancies and direct judgments over generated questions."""
    path = tmp_path_factory.mktemp("held") / "debates.db"
    questions = ov.datasets.load("world", limit=NUM_QUESTIONS, split="held_out").questions
    protocols = ["debate_single_turn", "debate", "consultancy", "naive"]
    ov.debate(questions, protocol=protocols, store=str(path), progress=False)
    return path


@pytest.fixture(scope="session")
def debates(held: Path) -> list[Transcript]:
    """The debates of one turn."""
    return _of(held, "debate_single_turn")


@pytest.fixture(scope="session")
def long_debates(held: Path) -> list[Transcript]:
    """The debates of three rounds, with the judge's beliefs between them."""
    return _of(held, "debate")


@pytest.fixture(scope="session")
def consultancies(held: Path) -> list[Transcript]:
    return _of(held, "consultancy")


def _of(held: Path, protocol: str) -> list[Transcript]:
    return [each for each in ov.Transcripts(str(held)) if each.debate.protocol.name == protocol]


@pytest.fixture(scope="session")
def judges_file() -> Path:
    """The file of the biased judges."""
    return Path(__file__).with_name("biased_judges.py")
