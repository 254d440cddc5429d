from __future__ import annotations

import asyncio
import sys
from types import ModuleType

import pytest

from oversight import registry
from oversight.chat import plain_text
from oversight.engines import all_at_once, identify, open_engine
from oversight.errors import ConfigError, EngineRefusedError, UnknownNameError
from oversight.types import EngineSpec, Message, Prompt, Request


def prompt(*messages: tuple[str, str]) -> Prompt:
    return Prompt(messages=tuple(Message(role=role, parts=(text,)) for role, text in messages))


async def test_an_engine_is_opened_by_name_with_its_settings():
    spec = EngineSpec(engine="scripted", settings={"fallback": "Yes."})
    engine = open_engine(spec)
    [answer] = await engine.generate([Request(prompt(("user", "Well?")))])
    assert (engine.name, answer.text) == ("scripted", "Yes.")


def test_an_unknown_engine_is_named_with_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"'scriptd'.*Did you mean 'scripted'"):
        open_engine(EngineSpec(engine="scriptd"))


@pytest.mark.parametrize("use", [open_engine, identify])
def test_an_unknown_setting_is_named_with_its_place(use):
    spec = EngineSpec(engine="scripted", settings={"latency": 1})
    with pytest.raises(ConfigError, match=r"'engine.scripted.latency'.*Did you mean 'latency_s'"):
        use(spec)


def test_the_identity_holds_defaults_and_no_incidental_settings():
    bare = EngineSpec(engine="openai", settings={"model": "m"})
    spelt = EngineSpec(
        engine="openai",
        settings={"model": "m", "api": "chat", "base_url": "http://elsewhere/v1", "timeout_s": 3},
    )
    other = EngineSpec(engine="openai", settings={"model": "m", "api": "completions"})
    assert identify(bare) == identify(spelt) != identify(other)
    assert identify(bare).settings["api"] == "chat"
    assert "base_url" not in identify(spelt).settings
    assert identify(identify(bare)) == identify(bare)


def test_a_module_that_is_no_engine_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "half_an_engine", ModuleType("half_an_engine"))
    monkeypatch.setattr(registry, "load", lambda group, name: sys.modules["half_an_engine"])
    with pytest.raises(ConfigError, match="half_an_engine has no Config"):
        open_engine(EngineSpec(engine="half"))


def test_one_message_is_plain_text_as_it_stands():
    assert plain_text(prompt(("user", "Once upon a time"))) == "Once upon a time"


def test_several_messages_are_labelled_and_the_answer_is_announced():
    messages = (("system", "Rules."), ("user", "Q?"), ("assistant", "A."), ("user", "Sure?"))
    assert plain_text(prompt(*messages)) == (
        "System: Rules.\n\nUser: Q?\n\nAssistant: A.\n\nUser: Sure?\n\nAssistant:"
    )


async def test_the_first_failure_is_raised_itself_and_the_others_are_cancelled():
    cancelled = []

    async def answer(request):
        if request.id == "bad":
            raise EngineRefusedError("no") from ValueError("as the model says")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(request.id)
            raise

    asked = [Request(prompt(("user", "x")), id=each) for each in ("a", "bad", "b")]
    with pytest.raises(EngineRefusedError, match="no") as failed:
        await all_at_once(map(answer, asked))
    assert isinstance(failed.value.__cause__, ValueError)
    assert sorted(cancelled) == ["a", "b"]
