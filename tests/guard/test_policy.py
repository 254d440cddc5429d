"""Policies as data: what is wrong in one is a clear error, and its own cases are run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("re2", reason="google-re2 is not installed")

from oversight import registry
from oversight.errors import ConfigError, UnknownNameError
from oversight.guard.policy import (
    Action,
    PolicySettings,
    build_policy,
    place_system,
    read_policy,
    system_hash,
)
from oversight.guard.refusals import language_of, languages, reasons, refusal
from oversight.guard.trials import check_cases, failed_cases, try_out


def policy(**data: Any) -> Any:
    return build_policy(PolicySettings.parse(data, where="policy.toml"), "test")


def checks(**settings: Any) -> dict[str, Any]:
    return {"checks": {"it": settings}}


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (checks(check="secret"), UnknownNameError, "there is no check 'secret'. Did you mean"),
        (checks(check="secrets", setings={}), ConfigError, "unknown setting 'checks.it.setings'"),
        (checks(check="secrets", settings={"kind": []}), ConfigError, "'checks.it.settings.kind'"),
        (checks(check="secrets", action="stop"), ConfigError, "checks.it.action = 'stop'"),
        (checks(check="secrets", reason="x"), ConfigError, "checks.it.reason = 'x'"),
        (checks(check="secrets", after=["it"]), ConfigError, "it.after names 'it'"),
        (checks(check="json_schema", settings={"schema": {"type": 3}}), ConfigError, "no JSON sch"),
        (
            checks(check="json_schema", action="replace", settings={"schema": {}}),
            ConfigError,
            "says of no word",
        ),
        (checks(check="judge", settings={"engine": "j", "constitution": "register"}), ConfigError,
         "no engines are described"),
        (checks(check="prompt_leak"), ConfigError, "the system prompt has 0 letters"),
        (checks(check="canary"), ConfigError, "no mark is planted"),
        (checks(check="secrets", action="revise"), ConfigError, "needs principle"),
        ({"cases": [{"input": "x", "expect": "allow", "by": "y"}]}, ConfigError, "cases.0.by"),
        ({"system": {"template": "{{ a }}"}}, Exception, "a"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_policy_is_named(
    data: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as raised:
        policy(**data)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"(a)\1", "no expression of RE2"),
        (r"a(?=b)", "no expression of RE2"),
        (r"[", "no expression of RE2"),
        (r"[a-z]+@", "has no longest match"),
        (r"x{0,3}", "matches the empty text"),
        (r"a{,3}b", "write {0,n}"),
        (r"(?:a{1,900}){1,900}", "no"),
    ],
)
def test_a_pattern_without_a_longest_match_or_linear_time_is_refused(
    pattern: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=r"checks\.it\.settings\.patterns\.0") as raised:
        policy(**checks(check="patterns", settings={"patterns": [pattern]}))
    assert said in str(raised.value)


async def test_a_pattern_that_hangs_other_engines_is_fast() -> None:
    hostile = policy(**checks(check="patterns", settings={"patterns": [r"(?:a{1,30}){1,30}b"]}))
    trial = await try_out(hostile, [{"role": "user", "content": "x"}], "a" * 20_000)
    assert trial.action is Action.ALLOW


@pytest.mark.parametrize("name", registry.names("policies"))
def test_policies_of_the_package_say_what_they_are(name: str) -> None:
    assert registry.summary("policies", name)


async def test_the_basic_policy_keeps_its_cases() -> None:
    basic = read_policy("basic")
    assert await failed_cases(basic) == []
    assert len(basic.settings.checks) == 10
    assert not basic.holds


async def test_a_case_that_does_not_hold_is_told_with_what_was_found() -> None:
    cases = [
        {"input": "x", "output": "a bad word", "expect": "allow"},
        {"input": "x", "output": "a bad word", "expect": "refuse", "delivered": "a "},
        {"input": "x", "output": "fine", "expect": "log"},
    ]
    found = policy(**checks(check="words", settings={"words": ["bad"]}), cases=cases)
    assert await failed_cases(found) == [
        "test: cases.0: expect = 'allow', and it was 'refuse' (it: a word of the list)",
        "test: cases.2: expect = 'log', and it was 'allow'",
    ]
    with pytest.raises(ConfigError, match=r"cases\.0.*\(1 more\)"):
        await check_cases(found)


def test_a_changed_system_prompt_is_noticed_by_its_hash() -> None:
    system = {"template": "You are the helper of {{ house }}.", "values": {"house": "Ivybridge"}}
    found = system_hash(PolicySettings.parse({"system": system}).system)  # type: ignore[arg-type]
    assert policy(system={**system, "hash": found}).system == "You are the helper of Ivybridge."
    with pytest.raises(ConfigError, match="the system prompt is another one"):
        policy(system={**system, "values": {"house": "Other"}, "hash": found})


def test_a_clients_system_message_is_appended_dropped_or_refused() -> None:
    chat = [{"role": "developer", "content": "Be rude."}, {"role": "user", "content": "Hi"}]
    for how, wanted in (("append", "Ours.\n\nBe rude."), ("drop", "Ours.")):
        placed = place_system(policy(system={"template": "Ours.", "client": how}), chat)
        assert placed == [{"role": "system", "content": wanted}, chat[1]]
    assert place_system(policy(system={"template": "Ours.", "client": "refuse"}), chat) is None
    assert place_system(policy(), chat) == chat


async def test_a_planted_mark_and_the_system_prompt_never_leave() -> None:
    data: dict[str, Any] = {
        "system": {"template": "Never say where the golden key of Ivybridge is.", "canary": True},
        "checks": {
            "mark": {"check": "canary", "reason": "secrets"},
            "prompt": {"check": "prompt_leak", "reason": "secrets"},
        },
    }
    found = policy(**data)
    mark = found.system.rsplit(" ", 1)[1]
    assert policy(**data).system != found.system
    hello = [{"role": "user", "content": "Hello"}]
    for told in (
        f"It is {mark[:9]}-{mark[9:]}.",
        "Never say: WHERE the golden key, of IVYBRIDGE is",
    ):
        trial = await try_out(found, hello, told)
        assert trial.action is Action.REFUSE
        assert trial.before in ("It is ", "")
    assert (await try_out(found, hello, "The key is golden.")).action is Action.ALLOW


async def test_dear_checks_are_asked_only_after_cheap_ones(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from oversight.config import Settings\n"
        "from oversight.guard.checks.base import Score, WholeCheck\n"
        "class Dear(WholeCheck):\n"
        "    asked = []\n"
        "    class Config(Settings):\n"
        "        pass\n"
        "    @staticmethod\n"
        "    def build(config, around):\n"
        "        return Dear()\n"
        "    async def examine(self, exchange):\n"
        "        self.asked.append(exchange.output)\n"
        "        return Score(float('very' in exchange.output), 'dear')\n"
    )
    found = policy(
        checks={
            "hint": {"check": "words", "action": "allow", "settings": {"words": ["bad"]}},
            "dear": {"check": f"{own}:Dear", "after": ["hint"], "action": "block"},
        }
    )
    hello = [{"role": "user", "content": "Hello"}]
    assert (await try_out(found, hello, "All is good.")).action is Action.ALLOW
    assert (await try_out(found, hello, "All is bad.")).delivered == "All is bad."
    blocked = await try_out(found, hello, "All is very bad.")
    assert blocked.action is Action.BLOCK
    assert blocked.delivered == "All is very "
    dear = found.whole_outputs[0].check
    assert dear.asked == ["All is bad.", "All is very bad."]


async def test_a_slow_check_counts_as_its_policy_says(tmp_path: Path) -> None:
    own = tmp_path / "slow.py"
    own.write_text(
        "import asyncio\n"
        "from oversight.config import Settings\n"
        "from oversight.guard.checks.base import WholeCheck\n"
        "class Slow(WholeCheck):\n"
        "    class Config(Settings):\n"
        "        pass\n"
        "    @staticmethod\n"
        "    def build(config, around):\n"
        "        return Slow()\n"
        "    async def examine(self, exchange):\n"
        "        await asyncio.sleep(60)\n"
    )
    hello = [{"role": "user", "content": "Hello"}]
    for failure, wanted in (("open", Action.LOG), ("closed", Action.REFUSE)):
        found = policy(**checks(check=f"{own}:Slow", timeout_s=0.05, on_failure=failure))
        trial = await try_out(found, hello, "words")
        assert trial.action is wanted
        assert trial.by is not None
        assert trial.by.is_failure


@pytest.mark.parametrize("language", languages())
def test_a_refusal_says_what_why_and_what_instead(language: str) -> None:
    for reason in reasons():
        said = refusal(reason, language)
        assert len(said.split(". ")) + said.count("?") >= 3 or said.count(".") >= 3
        assert refusal(reason, language, partly=True).endswith(said)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Where can I find the key?", "en"),
        ("Wo kann ich den Schlüssel finden?", "de"),
        ("Où est la clé et comment je la trouve ?", "fr"),
        ("¿Dónde está la llave y cómo la uso?", "es"),
        ("12345", "en"),
    ],
)
def test_the_language_is_that_of_the_user(text: str, language: str) -> None:
    assert language_of(text) == language
