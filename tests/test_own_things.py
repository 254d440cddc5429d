"""Things of a user's own by path: "file.py:name", "file.jsonl", "file.toml"."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from oversight import protocols, registry
from oversight.agents import build_agent, identify, roles
from oversight.cli.main import run
from oversight.config import DatasetSettings
from oversight.datasets.base import load_questions
from oversight.errors import ConfigError, DataError, ProtocolError, UnknownNameError
from oversight.judging import tasks
from oversight.store import Store
from oversight.train import registered as trainers
from oversight.train.losses import registered as losses
from oversight.train.rollouts.rewards import load_function
from oversight.types import AgentSpec, Role

MINE = '''
"""A debater and a data set."""

from pydantic import Field

from oversight.config import Settings
from oversight.types import Draft, JudgeKind, Option, Question, Role


class Shouter:
    """A debater that shouts its own option."""

    ROLES = frozenset({Role.DEBATER})
    kind = JudgeKind.MODEL

    class Config(Settings):
        times: int = Field(default=1, ge=1)

    def __init__(self, config, engine):
        self.name, self.config, self.engine = "shouter", config, engine

    async def act(self, view):
        return Draft(text=" ".join([view.options[view.side].upper()] * self.config.times))


class Words:
    """Questions about words."""

    class Config(Settings):
        num: int = Field(default=3, ge=1)
        fails_at: int = -1
        wrong_at: int = -1

    @staticmethod
    def rows(config):
        for number in range(config.num):
            if number == config.fails_at:
                raise KeyError("no such word")
            if number == config.wrong_at:
                yield {"id": "a mapping"}
            yield Question(
                id=f"word:{number}",
                dataset="words",
                text=f"Which is word {number}?",
                options=(Option(text=f"yes {number}"), Option(text=f"no {number}")),
                correct=0,
            )


class NoRoles(Shouter):
    ROLES = "debater"


class NoConfig(Shouter):
    Config = dict


class Silent:
    ROLES = frozenset({Role.DEBATER})
    Config = Shouter.Config


class Broken(Shouter):
    def __init__(self, config, engine):
        raise RuntimeError("no licence")


class Nameless(Shouter):
    def __init__(self, config, engine):
        pass


def plain():
    return None
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with the user's file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


DEBATE = [
    *("debate", "--debater", "mine.py:Shouter", "--dataset", "mine.py:Words", "--json"),
    *("--no-live", "--set", "agents.debater.settings.times=2", "--store", "own.db"),
]


def test_an_agent_and_a_data_set_of_ones_own_debate_from_the_command_line(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*DEBATE, "--limit", "2"]) == 0
    said = capsys.readouterr()
    assert "mine.py, whose code runs as part of this command" in said.err.replace("\n", "")
    assert json.loads(said.out)["run"] == 2
    with Store.open("own.db", create=False) as store:
        transcripts = list(store.transcripts())
    assert {each.question.id for each in transcripts} == {"word:0", "word:1"}
    for each in transcripts:
        spoken = {turn.text for turn in each.spoken() if turn.text}
        number = each.question.id[-1]
        assert spoken == {f"YES {number} YES {number}", f"NO {number} NO {number}"}


def test_its_debates_are_found_again_where_the_file_was_moved_and_not_where_it_was_changed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    (here / "else").mkdir()
    for command in range(3):
        if command == 1:
            (here / "mine.py").rename(here / "else" / "other.py")
        if command == 2:
            (here / "else" / "other.py").write_text(MINE.replace(".upper()", ".lower()"))
        own = "mine.py" if command == 0 else "else/other.py"
        args = [each.replace("mine.py", own) for each in DEBATE]
        registry._own.cache_clear()  # as another process has it
        assert run([*args, "--limit", "1"]) == 0
        counts = json.loads(capsys.readouterr().out)
        found.append((counts["run"], counts["found_complete"]))
    assert found == [(1, 0), (0, 1), (1, 0)]


def test_a_data_set_of_ones_own_is_looked_into_from_the_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["datasets", "mine.py:Words", "--set", "num=1", "--json"]) == 0
    [question] = json.loads(capsys.readouterr().out)
    assert question["id"] == "word:0"


def test_an_agent_of_ones_own_is_known_by_the_content_of_its_file(here: Path) -> None:
    spec = identify(AgentSpec(agent="mine.py:Shouter"))
    assert spec.agent.startswith("py:")
    assert spec.agent.endswith(":Shouter")
    assert spec.settings == {"times": 1}
    (here / "copy.py").write_text(MINE)
    assert identify(AgentSpec(agent="copy.py:Shouter")) == spec
    (here / "copy.py").write_text(MINE + "\n")
    registry._own.cache_clear()
    assert identify(AgentSpec(agent="copy.py:Shouter")) != spec


def test_a_protocol_that_ones_own_agent_cannot_argue_in_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([*DEBATE, "--protocol", "consultancy"]) == 2
    told = "agents.consultant.agent = 'mine.py:Shouter' cannot be a consultant; it can be a debater"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mine.py:Shoter", "'mine.py' has no class 'Shoter'"),
        ("away.py:Shouter", "there is no such file"),
        ("mine.py:plain", "has no ROLES and no Config and no act; a user's own agent is a class"),
        ("mine.py:Silent", "it has no act"),
        ("mine.py:NoConfig", "its Config is no class of settings"),
        ("mine.py:Broken", r"RuntimeError: no licence \(.*mine.py, line \d+\)"),
        ("mine.py:Nameless", "this is no agent; it needs a name"),
    ],
)
def test_what_is_no_agent_is_refused_by_name(name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        build_agent(AgentSpec(agent=name))
    assert name in str(refused.value)


def test_roles_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"its ROLES is 'debater'; write ROLES = frozenset"):
        roles("mine.py:NoRoles")
    assert roles("mine.py:Shouter") == {Role.DEBATER}


@pytest.mark.parametrize(
    ("group", "name", "told"),
    [
        ("agents", "py:0123456789abcdef:Shouter", "give the file itself, as 'file.py:Name'"),
        ("graphs", "mine.py:Shouter", "there is no graph 'mine.py:Shouter'"),
    ],
)
def test_a_name_that_gives_no_class_says_what_would(group: str, name: str, told: str) -> None:
    with pytest.raises(UnknownNameError, match=told):
        registry.load(group, name)


KINDS: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "agent": ("class", "'file.py:class'", lambda path: registry.load("agents", path)),
    "dataset": (
        "class",
        "'file.jsonl' or 'file.py:class'",
        lambda path: load_questions(DatasetSettings(dataset=path)),
    ),
    "protocol": ("function", "'file.toml' or 'file.py:function'", protocols.load),
    "loss": ("function", "'file.py:function'", lambda path: losses.load("preference", path)),
    "reward.function": ("function", "'file.py:function'", load_function),
    "task": ("class", "'file.py:class'", tasks.load),
    "trainer": ("function", "'file.py:function'", trainers.load),
}
"""By setting: the kind of thing in a file of code, the forms of a path, and how one is loaded."""


@pytest.mark.parametrize("setting", KINDS)
def test_a_path_that_leads_nowhere_is_refused_in_the_same_words_everywhere(setting: str) -> None:
    code, forms, load = KINDS[setting]
    wanted = {
        "mine.py": f"name the {code} in the file too, as 'mine.py:name'",
        "away.py": "there is no such file",
        "away.py:Thing": "there is no such file",
        "some/folder": f"give a name, or {forms}",
        "mine.csv": f"give a name, or {forms}",
        "mine.py:Lost": f"'mine.py' has no {code} 'Lost'",
    }
    for path, told in wanted.items():
        with pytest.raises(ConfigError) as refused:
            load(path)
        assert str(refused.value).startswith(f"{setting} = {path!r}: ")
        assert told in str(refused.value)
        assert refused.value.exit_code == 2


PROTOCOL = """
def short():
    return {"graph": "debate", "opening": [{"slots": [{"seat": "a"}, {"seat": "b"}]}]}


def none():
    return None


def broken():
    raise KeyError("rounds")


def wrong():
    return {"graph": "debte"}
"""


def test_a_protocol_of_a_function_is_told_and_runs_like_one_of_a_file(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "plans.py").write_text(PROTOCOL)
    args = ["debate", "--dataset", "mine.py:Words", "--limit", "1", "--json", "--no-live"]
    assert run([*args, "--protocol", "plans.py:short", "--store", "own.db"]) == 0
    assert "plans.py, whose code runs as part of this command" in capsys.readouterr().err
    with Store.open("own.db", create=False) as store:
        [transcript] = store.transcripts()
    assert transcript.debate.protocol.name == "short"
    assert protocols.load("plans.py:short").opening == transcript.debate.protocol.opening


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none", "the function gives a NoneType; let it return"),
        ("broken", r"the function failed \(KeyError: 'rounds' \(.*plans.py, line 11\)\)"),
        ("wrong", "graph = 'debte' does not exist. Did you mean 'debate'"),
    ],
)
def test_a_function_that_gives_no_protocol_is_one_error(here: Path, name: str, told: str) -> None:
    (here / "plans.py").write_text(PROTOCOL)
    with pytest.raises((ConfigError, ProtocolError), match=told):
        protocols.load(f"plans.py:{name}")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"fails_at": 1},
            r"failed \(KeyError: 'no such word' \(.*mine.py, line \d+\)",
        ),
        ({"wrong_at": 2}, r"item 3 is \{'id': 'a mapping'\}; rows\(config\) yields Question"),
    ],
)
def test_a_data_set_that_fails_is_one_error_with_its_place(settings: dict, told: str) -> None:
    with pytest.raises(DataError, match=told):
        load_questions(DatasetSettings(dataset="mine.py:Words", settings=settings))


def test_the_examples_of_the_docs_run_as_they_stand(
    here: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for page in ("protocols", "datasets"):
        text = (root / "docs" / f"{page}.md").read_text(encoding="utf-8")
        [example] = re.findall(r'```py\n("""In mine.*?)```', text, re.DOTALL)
        (here / f"{page}.py").write_text(example)
    args = ["--debater", "protocols.py:Shouter", "--dataset", "datasets.py:Sums", "--limit", "2"]
    assert run(["debate", *args, "--json", "--no-live", "--store", "own.db"]) == 0
    assert json.loads(capsys.readouterr().out)["run"] == 2
