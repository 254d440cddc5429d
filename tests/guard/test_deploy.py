"""The files in deploy/: what they name exists, and their own commands serve a guard and end it."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

pytest.importorskip("re2", reason="google-re2 is not installed")

from tests.docs.walking import ROOT

CONTAINER, UNIT = ROOT / "deploy" / "Containerfile", ROOT / "deploy" / "oversight-guard.service"
GUARD = """
policy = "basic"
store = "guard.db"

[upstreams.helper]
engine = "scripted"
settings = { fallback = "Good morning." }
"""
KNOWN = {
    *("FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK"),
    *("STOPSIGNAL", "ENTRYPOINT", "CMD"),
}


def steps() -> list[tuple[str, str]]:
    """The container file's instructions, each with its words."""
    lines = [line for line in CONTAINER.read_text("utf-8").splitlines() if line[:1] != "#"]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [
        (name, rest)
        for name, _, rest in (line.partition(" ") for line in whole.split("\n") if line)
    ]


def one(name: str) -> str:
    [found] = [rest for each, rest in steps() if each == name]
    return found


def unit() -> list[tuple[str, str]]:
    lines = UNIT.read_text("utf-8").splitlines()
    return [
        (key, value)
        for key, eq, value in (line.partition("=") for line in lines)
        if eq and key[:1] != "#"
    ]


def of_unit(key: str) -> str:
    [found] = [value for each, value in unit() if each == key]
    return found


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that a user without rights may read and write."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


class Started:
    """A command of one of the files, without rights where that can be had."""

    def __init__(self, words: list[str], folder: Path, site: Path | None = None) -> None:
        assert words[0].rpartition("/")[2] == "oversight"
        command = [sys.executable, "-m", "oversight.cli.main", *words[1:]]
        setpriv = shutil.which("setpriv")
        if os.geteuid() == 0 and setpriv:
            dropped = ["--reuid=10001", "--regid=10001", "--clear-groups", "--no-new-privs"]
            command = [setpriv, *dropped, "--bounding-set=-all", *command]
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "HOME": "/", "PYTHONSAFEPATH": "1"}
        env["PYTHONPATH"] = str(site or ROOT)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=folder, env=env, text=True, **pipes)

    def url(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"(http://\S+)/v1", line)
        assert found, line + str(self.process.communicate(timeout=30)[1])
        return found[1]

    def end(self, name: str) -> tuple[int, str]:
        self.process.send_signal(signal.Signals[name])
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


def answered(url: str, model: str) -> None:
    asked = {"model": model, "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 4}
    answer = httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=120)
    assert answer.status_code == 200, answer.text


# --- the container file ---


def test_the_container_file_names_what_there_is() -> None:
    assert {name for name, _ in steps()} <= KNOWN
    copied = [rest.split() for name, rest in steps() if name == "COPY"]
    for words in copied:
        for source in words[:-1]:
            if not source.startswith(("--from", "/wheels")):
                assert (ROOT / source).exists(), source
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for name in re.findall(r"oversight\[([^\]]+)\]", CONTAINER.read_text("utf-8")):
        assert set(name.split(",")) <= set(extras), name
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", one("USER"))
    last_root = max(n for n, (name, _) in enumerate(steps()) if name == "RUN")
    assert last_root < next(n for n, (name, _) in enumerate(steps()) if name == "USER")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_container_files_steps_make_a_guard_that_serves(open_folder: Path) -> None:
    source, wheels, site = (open_folder / name for name in ("src", "wheels", "site"))
    source.mkdir()
    runs = iter([rest for name, rest in steps() if name == "RUN"])
    first = [rest.split() for name, rest in steps() if name == "COPY"]
    for words in first[: first.index(["constraints.txt", "/wheels/"])]:
        for each in words[:-1]:
            origin = ROOT / each
            if origin.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(origin, source / each, symlinks=True, ignore=ignored)
            else:
                shutil.copy(origin, source)

    def shell(command: str, folder: Path) -> None:
        command = command.replace("/wheels", str(wheels)).replace(
            "python -m", f"{sys.executable} -m"
        )
        done = subprocess.run(
            command, shell=True, cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    shell(next(runs), source)
    shutil.copy(ROOT / "constraints.txt", wheels)
    # The packages that it needs are here already, at the versions that constraints.txt names.
    shell(next(runs).replace("install ", f"install --no-deps --target {site} "), open_folder)
    assert (site / "oversight" / "guard" / "policies" / "basic.toml").is_file()
    state = open_folder / "state"
    state.mkdir(mode=0o777)
    state.chmod(0o777)
    shutil.copy(ROOT / "recipes" / "guard" / "seedling.toml", open_folder / "guard.toml")
    command = [*json.loads(one("ENTRYPOINT")), *json.loads(one("CMD"))]
    command = [each.replace("/etc/oversight", str(open_folder)) for each in command]
    started = Started([*command, "--port", "0"], state, site)
    try:
        url = started.url()
        answered(url, "seedling")
        health = json.loads(one("HEALTHCHECK").partition("CMD ")[2])
        words = [each.replace("http://127.0.0.1:8080", url) for each in health]
        assert subprocess.run([sys.executable, *words[1:]], check=False).returncode == 0
    finally:
        code, said = started.end(one("STOPSIGNAL"))
    assert (code, said) == (0, "")
    assert (state / "guard.db").is_file()


# --- the unit ---


def test_the_unit_is_one_of_systemd(tmp_path: Path) -> None:
    parser = configparser.RawConfigParser(strict=False, allow_no_value=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    assert parser.sections() == ["Unit", "Service", "Install"]
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text("utf-8").replace("/opt/oversight/bin/oversight", "/bin/true"))
    done = subprocess.run(
        [verify, "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    words = [verify, "security", "--offline=true", "--threshold=20", str(copy)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:]


def test_the_units_commands_serve_a_guard_and_end_it(open_folder: Path) -> None:
    (open_folder / "guard.toml").write_text(GUARD)
    (open_folder / "guard.toml").chmod(0o644)
    state = open_folder / "state"
    state.mkdir()
    state.chmod(0o777)

    def words(key: str) -> list[str]:
        return shlex.split(of_unit(key).replace("/etc/oversight", str(open_folder)))

    checked = Started(words("ExecStartPre"), state)
    said, problems = checked.process.communicate(timeout=60)
    assert (checked.process.returncode, problems) == (0, "")
    assert "policy basic" in said
    started = Started([*words("ExecStart"), "--port", "0"], state)
    try:
        answered(started.url(), "helper")
    finally:
        code, problems = started.end(of_unit("KillSignal"))
    assert (code, problems) == (0, "")
    assert (state / "guard.db").is_file()
    if os.geteuid() == 0 and shutil.which("setpriv"):
        assert (state / "guard.db").stat().st_uid == 10001
