"""The commands of docs/servers.md, against a server that wants a key and has its moods."""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.main import run
from oversight.engines import openai
from oversight.store import Store

PAGE = (Path(__file__).parents[2] / "docs" / "servers.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000/v1"
KEY = "sk-loopback-4711-0815"
SPEECH = "The log says so: <quote>in the house</quote>."
BELIEF = "Probability of A: 80%\nProbability of B: 20%"


@dataclass
class Mood:
    """The server's state, and the ways in which it differs from the best of servers."""

    url: str = ""
    num_busy: int = 0
    """Answers 429 so often first."""
    status: int = 200
    logprobs: str = "refused"
    """Of a request that asks for log-probabilities: `refused`, or `none` are given."""
    error: dict[str, Any] | None = None
    """Of a status that is not 200, in place of the usual one."""
    varies: bool = False
    """No two speeches are the same."""
    listed: tuple[str, ...] = ()
    """Models in the list that a GET answers with; without any, there is no such list."""
    unlisted: tuple[str, ...] = ()
    """Models that it answers for as well; where these or listed ones are given, for no others."""
    seen: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Mood]:
    mood = Mood()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

        def do_GET(self) -> None:
            if self.path != "/v1/models" or not mood.listed:
                return self.say(404, {"error": {"message": "not found"}})
            return self.say(200, {"data": [{"id": name} for name in mood.listed]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if self.headers.get("authorization") != f"Bearer {KEY}":
                return self.say(401, {"error": {"message": "Incorrect API key provided"}})
            mood.seen.append(body)
            named = mood.listed + mood.unlisted
            if named and body["model"] not in named:
                return self.say(404, {"error": {"message": f"no model {body['model']}"}})
            if mood.num_busy:
                mood.num_busy -= 1
                return self.say(429, {"error": {"message": "slow down"}}, ("retry-after", "0"))
            if mood.status != 200:
                error = mood.error or {"message": f"no {body['model']}"}
                return self.say(mood.status, {"error": error})
            if body.get("logprobs") and mood.logprobs == "refused":
                refusal = {"message": "logprobs is not supported", "param": "logprobs"}
                return self.say(400, {"error": refusal})
            asked = body["messages"][-1]["content"]
            spoken = f"{SPEECH} I say so {len(mood.seen)} times."
            text = BELIEF if "How probable" in asked else spoken if mood.varies else SPEECH
            choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
            choice["message"] = {"role": "assistant", "content": text}
            if body.get("logprobs") and mood.logprobs == "local":
                token = {"id": 7, "token": text, "bytes": [65], "logprob": -0.25}
                choice["logprobs"] = {"content": [{**token, "top_logprobs": [token]}]}
            usage = {"prompt_tokens": 100, "completion_tokens": 10}
            return self.say(200, {"model": body["model"], "choices": [choice], "usage": usage})

        def say(self, status: int, value: Any, *headers: tuple[str, str]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            for name, each in (*headers, ("content-length", str(len(data)))):
                self.send_header(name, each)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(data)

    found: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    threading.Thread(target=found.serve_forever, daemon=True).start()
    mood.url = f"http://127.0.0.1:{found.server_port}/v1"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    yield mood
    found.shutdown()
    found.server_close()


def commands() -> list[list[str]]:
    """The command lines at the top of the page, without `oversight`."""
    block = PAGE.split("```bash\n")[1].split("```")[0]
    lines = (shlex.split(line) for line in block.splitlines())
    return [words[1:] for words in lines if words[0] == "oversight"]


def at(server: Mood, words: list[str]) -> list[str]:
    return [server.url if word == ADDRESS else word for word in words]


def call(words: list[str]) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["oversight", *words])
        return run(words)


def debates(store: str = "oversight.db", **wanted: Any) -> list[Any]:
    with Store.open(store, create=False) as opened:
        return list(opened.transcripts(**wanted))


def test_the_pages_commands_run_as_they_stand(server, caplog, capsys):
    hosted, two, bounded, priced, report = commands()
    prices = next(
        each for each in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL) if "USD" in each
    )
    Path("prices.toml").write_text(prices, encoding="utf-8")
    server.num_busy = 3

    assert call(at(server, hosted)) == 0
    found = debates(runs=["hosted"])
    assert len(found) == 4
    [first, *_] = found
    assert {turn.text for turn in first.turns if turn.text} == {SPEECH}
    assert all(each.judgments[0].final.method == "parsed" for each in found)
    said = [
        each.getMessage() for each in caplog.records if "log-probabilities" in each.getMessage()
    ]
    assert len(said) == 1
    assert "judges write their beliefs" in said[0]

    assert call(at(server, two)) == 0
    assert {body["model"] for body in server.seen[-12:]} == {"tiny", "wise"}

    capsys.readouterr()
    assert call(at(server, bounded)) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(r"stopped at [\d,]+ tokens, as --max-tokens 2000 asks; .* goes on from", line)
    kept = len(debates(runs=["bounded"]))
    capsys.readouterr()
    assert run(["runs", "bounded"]) == 0
    assert re.search(r"^  \d+ debates begun, \d+ complete$", capsys.readouterr().out, re.MULTILINE)
    assert kept < 40
    more = [word for word in at(server, bounded) if word not in ("--max-tokens", "2000")]
    assert call(more) == 0
    assert len(debates(runs=["bounded"])) == 40

    assert call(at(server, priced)) == 0  # all of its debates are found complete
    capsys.readouterr()
    assert call([*report, "--json"]) == 0
    usage = {each["model"]: each for each in json.loads(capsys.readouterr().out)["usage"]}
    tokens = usage["tiny"]["prompt_tokens"], usage["tiny"]["completion_tokens"]
    assert tokens[0] == 10 * tokens[1] > 0
    assert usage["tiny"]["cost"] == pytest.approx((0.15 * tokens[0] + 0.6 * tokens[1]) / 1e6)
    assert usage["wise"]["cost"] is None


def test_a_bound_in_money_stops_a_run(server, capsys):
    Path("p.toml").write_text('currency = "EUR"\n[models.tiny]\nprompt = 10\ncompletion = 10\n')
    words = ["debate", "-d", "world", "--limit", "40", "--model", "tiny", "--base-url", server.url]
    assert call([*words, "--max-cost", "0.004", "--prices", "p.toml"]) == 2
    assert "EUR, as --max-cost 0.004 asks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"key": "sk-another-one-entirely"}, "put a valid key into OPENAI_API_KEY (api_key_env"),
        ({"key": None}, "put a valid key into OPENAI_API_KEY, which is not set"),
        ({"status": 403}, "put a valid key into OPENAI_API_KEY"),
        ({"status": 404}, "check model (--model), and base_url (--base-url, OPENAI_BASE_URL)"),
    ],
)
def test_what_every_call_would_meet_ends_the_run_at_once(
    server, monkeypatch, capsys, change, named
):
    server.status = change.get("status", 200)
    if change.get("key"):
        monkeypatch.setenv("OPENAI_API_KEY", change["key"])
    elif "key" in change:
        monkeypatch.delenv("OPENAI_API_KEY")
    words = ["debate", "-d", "world", "--limit", "20", "--concurrency", "1"]
    assert call([*words, "--model", "tiny", "--base-url", server.url]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert named in line
    assert KEY not in line
    # One token before the run; then both sides of the first debate speak at once.
    assert len([body for body in server.seen if body.get("max_tokens") != 1]) <= 2


def test_a_model_that_the_server_has_not_is_one_line_before_anything_is_recorded(server, capsys):
    server.listed, server.unlisted = ("tiny", "wise"), ("tiny:fast",)
    words = ["debate", "-d", "world", "--limit", "1", "--no-live", "--base-url", server.url]
    for options in (["--model", "tinny"], ["--debater-model", "tiny", "--judge-model", "tinny"]):
        assert run([*words, *options]) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert "model 'tinny' is not there. Did you mean 'tiny'? Known: tiny, wise." in line
    assert not Path("oversight.db").exists()
    assert [body["max_tokens"] for body in server.seen] == [1, 1]
    assert run([*words, "--model", "tiny:fast"]) == 0
    assert len(debates()) == 1


def test_a_model_that_a_server_without_a_list_has_not_is_refused_as_well(server, capsys):
    server.unlisted = ("tiny",)
    words = ["debate", "-d", "world", "--limit", "1", "--no-live", "--base-url", server.url]
    for options in (["--model", "tinny"], ["--debater-model", "tiny", "--judge-model", "tinny"]):
        assert run([*words, *options]) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert "model 'tinny' is not there; check model (--model), and base_url" in line
    assert not Path("oversight.db").exists()
    assert [body["max_tokens"] for body in server.seen] == [1, 1, 1]
    assert run([*words, "--model", "tiny"]) == 0
    assert len(debates()) == 1


def test_a_run_whose_server_refuses_says_that_nothing_was_answered(server, capsys):
    server.status = 401
    words = "debate -d world --limit 1 --no-live --model tiny --store s.db --run refused"
    assert run([*words.split(), "--base-url", server.url]) == 2
    capsys.readouterr()
    assert run(["runs", "--store", "s.db"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "refused: no model or person has answered yet" in said
    assert run(["runs", "refused", "--store", "s.db"]) == 0
    assert "no model or person has answered yet" in capsys.readouterr().out
    server.status = 200
    assert run([*words.split(), "--base-url", server.url]) == 0
    capsys.readouterr()
    assert run(["runs", "--store", "s.db"]) == 0
    assert "answered yet" not in capsys.readouterr().out


def test_a_prompt_that_is_refused_for_its_content_fails_alone(server, monkeypatch):
    server.status = 403
    monkeypatch.setattr("oversight.engines.openai.failures._explanation", lambda _: _MODERATED)
    words = ["debate", "-d", "world", "--limit", "3", "--model", "tiny", "--base-url", server.url]
    assert call(words) == 1
    assert len(server.seen) >= 3


_MODERATED = ("Input was flagged by moderation", "", "")


def test_a_server_without_log_probabilities_is_found_out(server, caplog):
    server.logprobs = "none"
    words = ["debate", "-d", "world", "--limit", "2", "--model", "tiny", "--base-url", server.url]
    assert call(words) == 0
    said = [each for each in caplog.records if "log-probabilities" in each.getMessage()]
    assert len(said) == 1
    assert not server.seen[-1].get("logprobs")


def test_the_address_of_the_environment_is_taken_and_said_once(server, monkeypatch, caplog):
    monkeypatch.setattr(openai, "_said_addresses", set())
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    words = ["debate", "-d", "world", "--limit", "1", "--model", "tiny", "--engine", "openai"]
    assert call([*words, "--judge-model", "wise"]) == 0
    said = [each.getMessage() for each in caplog.records if "OPENAI_BASE_URL" in each.getMessage()]
    assert said == [f"base_url = {server.url}, from the environment variable OPENAI_BASE_URL"]
    assert server.seen
    # An address that is given counts for more.
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert call([*words, "--seed", "1", "--base-url", server.url]) == 0


LLAMA_CPP = {
    "code": 400,
    "message": "request (9120 tokens) exceeds the available context size (4096 tokens), try "
    "increasing it",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 9120,
    "n_ctx": 4096,
}
OLLAMA = {
    "message": "model 'tiny' not found",
    "type": "not_found_error",
    "param": None,
    "code": None,
}


@pytest.mark.parametrize(
    ("status", "error", "code", "told"),
    [
        (400, LLAMA_CPP, 1, "serve the model with a larger context"),
        (404, OLLAMA, 2, "check model (--model), and base_url"),
        (
            503,
            {"code": 503, "message": "Loading model", "type": "unavailable_error"},
            1,
            "lower max_",
        ),
    ],
)
def test_errors_of_local_servers_are_told_with_what_to_do(
    server, capsys, status, error, code, told
) -> None:
    server.status, server.error = status, error
    words = ["debate", "-d", "world", "--limit", "1", "--model", "tiny", "--base-url", server.url]
    assert call([*words, "--set", "engines.model.settings.max_retries=0"]) == code
    found = capsys.readouterr()
    assert told in found.out + found.err


def test_log_probabilities_in_the_form_of_local_servers_are_read(server) -> None:
    # llama.cpp adds the token's id and bytes; both end with a usage that has further fields.
    server.logprobs = "local"
    words = ["debate", "-d", "world", "--limit", "1", "-p", "debate_single_turn"]
    assert call([*words, "--model", "tiny", "--base-url", server.url]) == 0
    [found] = debates()
    samples = [each for turn in found.turns for each in turn.samples]
    assert samples
    assert all(each.logprobs for each in samples if each.text)


@pytest.fixture
def recorded(server) -> None:
    """A store with a pair of candidates to rate, of a speaker that needs no server."""
    words = ["debate", "-d", "world", "--limit", "1", "-p", "debate_single_turn_best_of_n"]
    server.varies = True
    words += ["--set", "agents.debater.settings.reasoning=false"]
    assert call([*words, "--no-live", "--model", "tiny", "--base-url", server.url]) == 0
    server.seen.clear()


def test_a_model_on_a_server_rates_and_gives_feedback_by_the_same_options(
    recorded, server, root
) -> None:
    at = ["--model", "wise", "--base-url", server.url]
    call(["rate", "pairs", *at])
    assert {body["model"] for body in server.seen} == {"wise"}
    server.seen.clear()
    call(["feedback", str(root / "recipes" / "feedback.toml"), "--store", "oversight.db", *at])
    assert {body["model"] for body in server.seen} == {"wise"}


def test_a_model_on_a_server_assists_a_judge_by_the_same_options(
    recorded, server, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    # Without input the first item is only listed: the options were taken.
    at = ["--assistant-model", "wise", "--base-url", server.url]
    assert call(["judge", "--linear", *at]) == 0
    assert "Queue: 1 waiting" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [["rate", "pairs", "--rater", "rater"], ["feedback", "r.toml"], ["judge"]]
)
def test_an_address_without_a_model_is_refused_there_too(server, capsys, root, command) -> None:
    Path("r.toml").write_text((root / "recipes" / "feedback.toml").read_text())
    assert call([*command, "--base-url", ADDRESS]) == 2
    assert f"--base-url '{ADDRESS}' needs --" in capsys.readouterr().err
    assert not server.seen


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--base-url", ADDRESS], "--base-url 'http://127.0.0.1:8000/v1' needs --model"),
        (["--judge-engine", "openai"], "--judge-engine 'openai' needs --judge-model"),
        (["--model", "m", "--base-url", "ftp://x"], "an address begins with http:// or https://"),
        (
            ["--model", "m", "--engine", "transformers", "--base-url", ADDRESS],
            "--base-url is for the engine openai, and --engine is 'transformers'",
        ),
        (
            ["--model", "m", "--set", "engines.model.settings.model=n"],
            "--set engines.model.settings.model=n: --model and its like say 'm'",
        ),
        (["--model", "m", "--base-url", ADDRESS, "--max-cost", "1"], "needs prices: name a file"),
        (
            ["--model", "m", "--base-url", ADDRESS, "--max-cost", "1", "--prices", "p.toml"],
            "p.toml: no price of 'm', which max_cost needs",
        ),
        (
            ["--model", "m", "--base-url", ADDRESS, "--prices", "bad.toml"],
            "models.m.prompt = -1",
        ),
    ],
)
def test_what_contradicts_itself_is_one_line_before_anything_runs(server, capsys, words, reason):
    Path("p.toml").write_text("[models.other]\nprompt = 1\ncompletion = 1\n")
    Path("bad.toml").write_text("[models.m]\nprompt = -1\ncompletion = 1\n")
    assert call(["debate", "-d", "world", "--limit", "1", *words]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert reason in line
    assert not Path("oversight.db").exists()
    assert not server.seen
