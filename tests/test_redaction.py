"""Known secrets: taken out of a text whole, encoded and in pieces, and out of nothing else."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight import errors, redaction
from oversight.errors import OversightError
from oversight.files import write_json
from oversight.guard.upstreams import ApiError
from oversight.redaction import redacted, register
from oversight.store.database import parse_address

KEY = "sk-Zq7_x91"
PHRASE = 'p@ss/w&rd "ü9x"'


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_registered", set())
    register(KEY)
    register(PHRASE)


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        PHRASE,
        quote(PHRASE, safe=""),
        quote(PHRASE),
        json.dumps(PHRASE),
        json.dumps(PHRASE, ensure_ascii=False),
        html.escape(PHRASE),
        ascii(PHRASE),
        KEY.encode().hex(),
    ],
)
def test_a_secret_is_taken_out_in_every_form(form: str) -> None:
    said = redacted(f"before {form} after")
    assert said.startswith("before ")
    assert said.endswith(" after")
    assert "***" in said
    assert not any(form[at : at + 6] in said for at in range(len(form) - 5))


@pytest.mark.parametrize("before", ["", "u", "us", "usr:", "a long name:"])
@pytest.mark.parametrize("after", ["", "x", "xy"])
def test_a_secret_in_base64_is_taken_out_wherever_it_begins(before: str, after: str) -> None:
    encoded = base64.b64encode(f"{before}{KEY}{after}".encode()).decode()
    said = redacted(f"Basic {encoded}")
    assert "***" in said
    kept = said.removeprefix("Basic ").replace("***", "")
    assert len(kept) <= len(encoded) - (len(KEY) * 8 // 6 - 4)


@pytest.mark.parametrize("size", range(6, len(KEY)))
def test_a_piece_that_a_cut_has_left_is_taken_out(size: int) -> None:
    assert redacted(f"the key {KEY[:size]}") == "the key ***"
    assert redacted(f"{KEY[-size:]} is no key") == "*** is no key"


def test_the_variables_of_the_environment_are_secrets_by_their_names(monkeypatch) -> None:
    monkeypatch.setenv("SOME_SERVICE_API_KEY", "abcd-efgh-1234")
    monkeypatch.setenv("HF_TOKEN", "hf_AbCdEfGhIjKl")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("SSH_KEY", "/home/anna/.ssh/id")
    said = redacted("abcd-efgh-1234 hf_AbCdEfGhIjKl false /home/anna/.ssh/id")
    assert said == "*** *** false /home/anna/.ssh/id"


def test_the_token_that_the_hub_has_left_is_a_secret(monkeypatch, tmp_path) -> None:
    (tmp_path / "token").write_text("hf_QwErTyUiOp\n")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert redacted("Bearer hf_QwErTyUiOp") == "Bearer ***"


def test_a_short_password_is_taken_out_as_a_word() -> None:
    parse_address("postgresql://anna:postgres@localhost/db")
    assert redacted("postgresql://anna:postgres@localhost") == "postgresql://anna:***@localhost"


@given(st.text(max_size=60))
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    if not any(text[at : at + 5] in KEY + PHRASE for at in range(max(0, len(text) - 4))):
        assert redacted(text) == text
    assert redacted(redacted(text)) == redacted(text)


def test_our_own_words_stay_whatever_a_secret_holds() -> None:
    register("oversight-openai-2026")
    message = "oversight.engines.openai: localhost"
    assert redacted(message) == message


def _kinds(of: type[OversightError]) -> Iterator[type[OversightError]]:
    yield of
    for kind in of.__subclasses__():
        yield from _kinds(kind)


@pytest.mark.parametrize("kind", sorted(_kinds(OversightError), key=lambda kind: kind.__name__))
def test_no_error_of_ours_holds_a_secret(kind: type[OversightError]) -> None:
    more: dict[type[OversightError], tuple[Any, ...]] = {
        errors.TrainingStopped: ("guard", 1.0, 0.0, 3),
        errors.NoAnswerError: ("empty",),
        ApiError: (400, "invalid_request_error"),
    }
    error = kind(f"the key {KEY} was refused", *more.get(kind, ()))
    assert str(error) == "the key *** was refused"
    assert KEY not in repr(error)


def test_a_run_folder_holds_no_secret(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"store": f"postgresql://anna:{KEY}@host/db"})
    assert json.loads((tmp_path / "config.json").read_text()) == {
        "store": "postgresql://anna:***@host/db"
    }


@pytest.mark.parametrize(
    "form",
    [
        KEY.lower(),
        KEY.upper(),
        KEY.encode().hex().upper(),
        quote(PHRASE, safe="").lower(),
        quote(quote(PHRASE, safe=""), safe=""),
        json.dumps(json.dumps(PHRASE))[3:-3],
        "".join(f"%{byte:02x}" for byte in KEY.encode()),
        "".join(f"&#{ord(each)};" for each in KEY),
        "".join(f"\\u{ord(each):04X}" for each in KEY),
    ],
)
def test_a_secret_in_other_letters_or_spelt_out_is_taken_out(form: str) -> None:
    assert redacted(f"key {form} refused") == "key *** refused"


def test_a_secret_whose_base64_is_letters_alone_is_taken_out() -> None:
    register("FWnFbB0J")

    assert "RlduRmJCM" not in redacted("Basic RlduRmJCMEo=")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("'https://ann:kq7@host/v1'", "'https://***@host/v1'"),
        ("('http://a/v1', 'https://ann:k@q/7@host/v1')", "('http://a/v1', 'https://***@host/v1')"),
        ("ann:kq7@host", "***@host"),
        ("--set=store=postgresql://ann:kq7@host/db", "--set=store=postgresql://***@host/db"),
        ("mail ann@host", "mail ann@host"),
        ("{'a': 'x@y'}", "{'a': 'x@y'}"),
    ],
)
def test_user_and_password_are_taken_out_of_addresses_right_or_wrong(text: str, shown: str) -> None:
    assert redaction.without_login(text) == shown


def test_a_password_in_an_address_of_the_environment_is_taken_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://ann:hunter2-p%40w@proxy.invalid:8080")
    assert (
        redacted("via http://ann:hunter2-p%40w@proxy.invalid") == "via http://ann:***@proxy.invalid"
    )
    assert redacted("said hunter2-p@w") == "said ***"
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:8080/a@b")
    assert redacted("proxy.invalid:8080/a@b") == "proxy.invalid:8080/a@b"


def test_a_command_is_kept_without_the_passwords_of_its_addresses() -> None:
    words = ["oversight", "debate", "--store", "postgresql://ann:kq7@host/db", "it's"]
    kept = redaction.command_line(words)
    assert kept == """oversight debate --store 'postgresql://ann:***@host/db' 'it'"'"'s'"""
