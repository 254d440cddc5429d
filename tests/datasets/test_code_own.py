"""Programs of one's own: decided by running them, and named where they have no result."""

from __future__ import annotations

import json

import pytest

from oversight.config import DatasetSettings
from oversight.datasets.base import load_questions
from oversight.errors import DataError

ADD = "def add(a, b):\n    return a + b\n"
SUBTRACT = "def add(a, b):\n    return a - b\n"
THREE, NOUGHT = "assert add(1, 2) == 3", "assert add(0, 0) == 0"


def load(tmp_path, *lines, skip_bad=False, **settings):
    file = tmp_path / "programs.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    given = {"path": str(file), "cpu_s": 1, "wall_s": 20, "memory_mb": 256} | settings
    spec = DatasetSettings(dataset="code", settings=given, skip_bad=skip_bad)
    return load_questions(spec)


def answers(loaded):
    return {q.id: (q.text, q.options[q.correct].text, q.source.text) for q in loaded.questions}


def test_each_kind_of_line_becomes_its_question(tmp_path):
    loaded = load(
        tmp_path,
        {"id": "out", "program": "print(7 // -2)", "other_output": "-3"},
        {"id": "ends", "program": "print(1)"},
        {"id": "raises", "program": "print(1)\n[][1]"},
        {"id": "passes", "program": ADD, "tests": [THREE, NOUGHT]},
        {"id": "fails", "program": SUBTRACT, "tests": [NOUGHT, THREE]},
        {"id": "two", "program": SUBTRACT, "other_program": ADD, "tests": [THREE]},
        {"id": "named", "program": "print(1)", "question": "Is it sound?", "title": "One",
         "split": "dev", "meta": {"cluster": "a"}},
    )  # fmt: skip
    found = answers(loaded)
    assert found["out"][:2] == ("What does this program print?", "-4")
    assert found["ends"][1] == "It comes to its end without an error."
    assert found["raises"][1] == "It ends with an exception."
    assert found["passes"][:2] == ("Does this program pass all of its tests?", "Yes, it passes.")
    assert found["fails"][1] == "No, it fails."
    assert found["fails"][2].endswith("\n# tests\nassert add(0, 0) == 0\nassert add(1, 2) == 3")
    assert found["two"][1] == "The second program."
    assert found["named"][0] == "Is it sound?"
    named = loaded.questions[-1]
    assert (named.split, named.meta, named.source.title) == ("dev", {"cluster": "a"}, "One")
    assert not loaded.bad


def test_two_programs_that_are_equally_good_are_left_out_and_counted(tmp_path):
    test = ["assert add(1, 2) == 3"]
    loaded = load(
        tmp_path,
        {"id": "kept", "program": "print(1)"},
        {"id": "a", "program": ADD, "other_program": ADD, "tests": test},
        {"id": "b", "program": SUBTRACT, "other_program": SUBTRACT, "tests": test},
    )
    assert loaded.left_out == {"both programs pass": 1, "neither program passes": 1}


BAD = {
    "loops": ({"program": "while True: pass"}, "the program does not end within 1 s of CPU"),
    "forks": ({"program": "import os\nos.fork()"}, "the program starts a process (os.fork)"),
    "reads": ({"program": "open('/etc/passwd')"}, "the program opens the file '/etc/passwd'"),
    "prints": ({"program": "while 1: print(9**999)"}, "the program prints more than 65,536 bytes"),
    "allocates": ({"program": "x = [0] * 10**11"}, "the program needs more than 256 MiB of memory"),
    "breaks": ({"program": "x = ("}, "the program is no Python ('(' was never closed"),
    "hash": ({"program": "print(hash('one'))", "other_output": "1"}, "something else each time"),
    "chance": ({"program": "import random\nprint(random.random())"}, "something else each time"),
    "nul": ({"program": "print('\\0x')", "other_output": "1"}, "prints the character NUL"),
    "silent": ({"program": "x = 1", "other_output": "1"}, "the program prints nothing"),
    "same": ({"program": "print(1)", "other_output": "1 "}, "is what the program prints"),
    "raising": ({"program": "1 / 0", "other_output": "1"}, "a ZeroDivisionError in line 1"),
    "early": ({"program": "1 / 0", "tests": ["assert 1"]}, "a ZeroDivisionError before any test"),
    "test loops": (
        {"program": ADD, "tests": ["assert 1", "while 1: pass"]},
        "the program with test 2 does not end within 1 s of CPU",
    ),
    "untested": ({"program": ADD, "other_program": ADD}, "'other_program' needs 'tests'"),
    "both": ({"program": ADD, "tests": ["assert 1"], "other_output": "1"}, "make two questions"),
    "unknown": ({"program": "print(1)", "test": []}, "unknown key 'test'. Did you mean 'tests'?"),
    "empty": ({"program": ""}, "program is empty"),
}  # fmt: skip


def test_programs_without_a_result_are_named_and_counted(tmp_path):
    lines = [{"id": name, **line} for name, (line, _) in BAD.items()]
    lines.insert(3, {"id": "sound", "program": "print(1)"})
    loaded = load(tmp_path, *lines, skip_bad=True)
    assert [q.id for q in loaded.questions] == ["sound"]
    reasons = {bad.row_id: bad.reason for bad in loaded.bad}
    assert reasons.keys() == BAD.keys()
    for name, (_, reason) in BAD.items():
        assert reason in reasons[name], name
    assert [bad.line for bad in loaded.bad][:4] == [1, 2, 3, 5]


def test_without_leave_a_bad_program_ends_the_run_with_its_place(tmp_path):
    with pytest.raises(DataError, match=r"programs\.jsonl:2: the program starts a process"):
        load(
            tmp_path,
            {"id": "a", "program": "print(1)"},
            {"id": "b", "program": "import os\nos.fork()"},
        )


def test_the_order_of_the_answers_comes_from_the_seed(tmp_path):
    lines = [{"id": str(i), "program": f"print({i})"} for i in range(30)]
    first, again, other = (
        [q.correct for q in load(tmp_path, *lines, seed=seed).questions] for seed in (0, 0, 1)
    )
    assert first == again != other
    assert 5 < sum(first) < 25
