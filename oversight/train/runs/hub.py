"""Finished models and exported data sets on the Hugging Face hub, each with its card.

Everything is checked before anything is sent: that the folder is a finished model or an export,
that the repository's name is one, that there is a token, and that no text file holds a secret of
this process. What was uploaded before an interruption is not uploaded again, and files that stand
there already, byte for byte, are not committed again.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from oversight.errors import ConfigError, HubError
from oversight.preferences.building import ExportFacts, data_card, read_export
from oversight.redaction import name_of_secret
from oversight.registry import nearest

CARD = "README.md"
KINDS = {"model": "model", "dataset": "data set"}
"""Types of repositories, as the hub and as people call them."""

LEFT_OUT = (
    *(".*", "__pycache__/*", "checkpoint*/*", "step-*/*", "runs/*", "wandb/*", "mlruns/*"),
    *("*.tfevents.*", "optimizer*", "scheduler*", "scaler*.pt", "rng_state*", "trainer_state.json"),
    *("training_args.bin", "*.log", "*.lock", "lock", "*.tmp", "*.part"),
)
"""Patterns of files that are not sent by default: hidden ones, checkpoints, states of optimizers,
logs of events, and what another process is writing."""

XET_FAILURE = re.compile(
    r"(?:\((\d{3})\b[^)]*\), domain: |for url \()(https?://[^/\s)?]+)([^\s)?]*)"
)
"""How `hf_xet` words that an address refused (with a status) or did not answer."""

WEIGHTS = ("model.safetensors", "adapter_model.safetensors", "pytorch_model.bin")
BLOCK = 1 << 20
OVERLAP = 4096
"""Characters of a block that are read with the next one again: a secret may stand across."""


@dataclass(frozen=True, slots=True)
class SentFile:
    """A file that goes to the hub."""

    name: str
    """Its path in the repository."""
    content: Path | bytes

    @property
    def size(self) -> int:
        """Its bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


@dataclass(frozen=True, slots=True)
class Shipment:
    """A model or a data set, checked and ready to be sent."""

    repo: str
    kind: str
    """Type of the repository: `model` or `dataset`."""
    files: tuple[SentFile, ...]
    left_out: tuple[str, ...]
    """Files of the folder that are not sent."""
    message: str
    private: bool = True
    revision: str | None = None

    @property
    def card(self) -> str:
        """The text of the card."""
        [card] = (each.content for each in self.files if each.name == CARD)
        return (card if isinstance(card, bytes) else card.read_bytes()).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Pushed:
    """Account of a push."""

    url: str
    """Page of the commit that the repository stands at now."""
    commit: str
    is_changed: bool
    """False if everything stood there already."""
    others: tuple[str, ...]
    """Files of the repository that the folder does not have; they are left as they are."""


def shipment(
    place: Path,
    repo: str,
    *,
    private: bool = True,
    revision: str | None = None,
    message: str | None = None,
    include: Sequence[str] = (),
) -> Shipment:
    """The files of a finished model or an export, checked; nothing is sent.

    Args:
        place: A run's folder, the folder of a model, a file of `oversight export`, or a folder of
            such files.
        repo: Name of the repository, `owner/name`.
        private: Make a new repository private, and send to a private one only.
        revision: Branch; made where there is none. The main one if not given.
        message: Of the commit.
        include: Patterns of files that are sent although they are left out by default.

    Raises:
        ConfigError: The place is neither, the run is unfinished, the name is none, or a text file
            holds a secret.
        DataError: A row of an export cannot be read.
    """
    _check_names(repo, revision)
    folder = model_folder(place)
    kind = "model" if folder is not None else "dataset"
    if folder is not None:
        files, left_out = _chosen(folder, include)
        _check_model(folder, {each.name for each in files})
        said = "Add a model trained with oversight"
    else:
        files, left_out = _of_export(place, repo, include)
        said = "Add data exported by oversight"
    _check_secrets(files)
    return Shipment(
        repo=repo,
        kind=kind,
        files=tuple(sorted(files, key=lambda each: each.name)),
        left_out=tuple(left_out),
        message=message or f"{said} {metadata.version('oversight')}",
        private=private,
        revision=revision,
    )


def _check_names(repo: str, revision: str | None) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo)
        if repo.count("/") != 1:
            raise HFValidationError
    except HFValidationError:
        raise ConfigError(
            f"--repo {repo!r}: write owner/name, the owner a user or an organisation of the hub, "
            "each of letters, digits and - _ . (96 characters at most), as in "
            "my-lab/debater-dpo"
        ) from None
    if revision is not None and not re.fullmatch(
        r"(?!/)(?!.*(\.\.|//|\s))[\w./-]+(?<!/)", revision
    ):
        raise ConfigError(
            f"--revision {revision!r}: write the name of a branch, as in main or steps-400"
        )


def model_folder(place: Path) -> Path | None:
    """The folder of the model that is at `place`; None where there is no trace of one.

    Raises:
        ConfigError: Nothing is there; a run that is not finished; a checkpoint; an ensemble.
    """
    if not place.exists():
        raise ConfigError(f"{place}: there is no such file or folder")
    if not place.is_dir():
        return None
    if (place / "model" / "config.json").is_file() or _is_adapter(place / "model"):
        return place / "model"
    if members := sorted(place.glob("member-*/model")):
        named = ", ".join(map(str, members))
        raise ConfigError(f"{place}: it holds an ensemble; push each by itself: {named}")
    if "checkpoints" in (place.parent.name, place.parent.parent.name):
        raise ConfigError(
            f"{place}: it is a checkpoint; the finished model stands in model/ of the run's folder"
        )
    if (place / "origin.json").is_file() or (place / "checkpoints").is_dir():
        raise ConfigError(f"{place}: this run is not finished; {_way_on(place)}")
    is_model = "model_type" in _json(place / "config.json") or _is_adapter(place)
    return place if is_model else None


def _is_adapter(folder: Path) -> bool:
    return (folder / "adapter_config.json").is_file()


def _way_on(run: Path) -> str:
    starts = _json(run / "origin.json").get("starts")
    last = starts[-1] if isinstance(starts, list) and starts else None
    command = last.get("command") if isinstance(last, dict) else None
    if not isinstance(command, str):
        return "go on with it by the command that began it, and --resume"
    return f"go on with it: {command}{'' if '--resume' in command.split() else ' --resume'}"


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _chosen(folder: Path, include: Sequence[str]) -> tuple[list[SentFile], list[str]]:
    """The files of a folder that are sent, and the names of the others."""
    sent, left_out = [], []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        if _fits(name, LEFT_OUT) and not _fits(name, include):
            left_out.append(name)
        else:
            sent.append(SentFile(name, path))
    for pattern in include:
        if not any(_fits(each.name, [pattern]) for each in sent):
            raise ConfigError(
                f"--include {pattern!r}: no file of {folder} has such a name."
                + nearest(pattern, left_out).split(" Known:")[0]
            )
    return sent, left_out


def _fits(name: str, patterns: Iterable[str]) -> bool:
    """True if a path, its end from some folder on, or one of its folders fits a pattern."""
    parts = name.split("/")
    ends = ["/".join(parts[at:]) for at in range(len(parts))]
    return any(fnmatch.fnmatchcase(end, each) for each in patterns for end in ends)


def _check_model(folder: Path, sent: set[str]) -> None:
    indexes = [name for name in sent if name.endswith(".index.json")]
    wanted = {
        shard for name in indexes for shard in _json(folder / name).get("weight_map", {}).values()
    }
    if missing := sorted(wanted - sent):
        raise ConfigError(
            f"{folder}: {len(missing)} files of its weights are missing, such as {missing[0]}: the "
            "model was not written to its end"
        )
    if not indexes and not sent & {*WEIGHTS}:
        raise ConfigError(
            f"{folder}: there are no weights in it ({', '.join(WEIGHTS)}); name the folder of a "
            "finished model, as RUN/model is"
        )
    if CARD not in sent:
        raise ConfigError(
            f"{folder}: it has no card; write {CARD} there, with what the model was trained on and "
            "how (a finished run of oversight has one)"
        )


def _of_export(place: Path, repo: str, include: Sequence[str]) -> tuple[list[SentFile], list[str]]:
    """The files of an export, their rows read, with a card made where there is none."""
    if place.is_dir():
        files, left_out = _chosen(place, include)
    else:
        files, left_out = [SentFile(place.name, place)], []
    data = [each for each in files if Path(each.name).suffix in (".parquet", ".jsonl")]
    if not data:
        raise ConfigError(
            f"{place}: neither a finished model (config.json and weights) nor an export is there; "
            "name RUN or RUN/model of a training run, or a .parquet or .jsonl file that "
            "`oversight export` wrote"
        )
    found: dict[str, ExportFacts] = {}
    for each in data:
        assert isinstance(each.content, Path)
        found[each.name] = read_export(each.content)
        if name := found[each.name].secret:
            raise ConfigError(_told_secret(f"{each.content}: a row", name))
    if CARD not in {each.name for each in files}:
        card = data_card(found, title=repo.split("/")[-1])
        files.append(SentFile(CARD, card.encode()))
    return files, left_out


def _check_secrets(files: Iterable[SentFile]) -> None:
    """Refuse text files that hold a secret of this process.

    Raises:
        ConfigError: Names the file, the line, and where the secret is known from.
    """
    for each in files:
        line = 1
        for text, num_lines in _texts(each.content):
            if name := name_of_secret(text):
                lines = text.split("\n")
                at = next((i for i, one in enumerate(lines) if name_of_secret(one)), 0)
                raise ConfigError(_told_secret(f"{each.name}, line {line + at:,}:", name))
            line += num_lines


def _told_secret(where: str, name: str) -> str:
    return (
        f"{where} holds a secret of this process ({name}); nothing was sent. Take it out of the "
        "file, or unset the variable if it is none"
    ).replace(": holds", " holds")


def _texts(content: Path | bytes) -> Iterator[tuple[str, int]]:
    """A text file in blocks that overlap, each with its lines before the overlap; or nothing."""
    if isinstance(content, bytes):
        text = content.decode("utf-8", "replace")
        yield text, text.count("\n")
        return
    with content.open("rb") as file:
        held = b""
        while block := file.read(BLOCK):
            if b"\0" in block[:OVERLAP]:
                return  # weights and the like
            whole = held + block
            held = whole[-OVERLAP:]
            yield whole.decode("utf-8", "replace"), whole[:-OVERLAP].count(b"\n")


def check_token() -> str:
    """The token that the hub is asked with.

    Raises:
        ConfigError: There is none; names both ways to give one.
    """
    from huggingface_hub import get_token

    token = get_token()
    if not token:
        raise ConfigError(
            "there is no token for the hub: set HF_TOKEN to one that may write "
            "(https://huggingface.co/settings/tokens), or log in once: hf auth login"
        )
    return token


def push(goods: Shipment) -> Pushed:
    """Send what is not there yet, in one commit.

    The repository is made where there is none, and so is the branch.

    Raises:
        ConfigError: There is no token, it may not write there, or what is private would go to a
            public repository.
        HubError: The hub does not answer, or has failed.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    token = check_token()
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or None
    api = HfApi(endpoint=endpoint, token=token, library_name="oversight")
    about: dict[str, Any] = {"repo_id": goods.repo, "repo_type": goods.kind}
    with _quietly(), _told(goods, api.endpoint):
        try:
            _check_visibility(goods, is_private=bool(api.repo_info(**about).private))
        except RepositoryNotFoundError:
            api.create_repo(**about, private=goods.private, exist_ok=True)
        if goods.revision not in (None, "main"):
            api.create_branch(**about, branch=goods.revision or "", exist_ok=True)
        before = api.repo_info(**about, revision=goods.revision)
        names = {each.name for each in goods.files}
        done = api.create_commit(
            **about,
            operations=[
                CommitOperationAdd(
                    each.name,
                    each.content if isinstance(each.content, bytes) else str(each.content),
                )
                for each in goods.files
            ],
            commit_message=goods.message,
            revision=goods.revision,
        )
    there = [each.rfilename for each in getattr(before, "siblings", None) or ()]
    others = sorted({*there} - names - {".gitattributes"})
    return Pushed(str(done.commit_url), done.oid, done.oid != before.sha, tuple(others))


def _check_visibility(goods: Shipment, *, is_private: bool) -> None:
    if goods.private and not is_private:
        raise ConfigError(
            f"--repo {goods.repo}: this repository is public; with --public it may be sent there, "
            "or name another one"
        )
    if is_private and not goods.private:
        raise ConfigError(
            f"--repo {goods.repo}: this repository is private; leave out --public, or make it "
            "public on its page of settings first"
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library's own remarks back; its bars for big files are shown on a terminal."""
    import huggingface_hub.utils

    library: Any = huggingface_hub.utils
    level, hidden = library.logging.get_verbosity(), library.are_progress_bars_disabled()
    library.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        library.disable_progress_bars()
    try:
        yield
    finally:
        library.logging.set_verbosity(level)
        if not hidden and not sys.stderr.isatty():
            library.enable_progress_bars()


@contextmanager
def _told(goods: Shipment, endpoint: str) -> Iterator[None]:
    """Errors of the hub in one line, with what to do."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except (ConfigError, KeyboardInterrupt):
        raise
    except OfflineModeIsEnabled:
        raise ConfigError(
            "the hub is switched off here: unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE"
        ) from None
    except Exception as error:  # of the hub's library, of its HTTP library, or of hf_xet
        chain = [*_causes(error)]
        refused = [each for each in chain if isinstance(each, HfHubHTTPError)]
        if refused:
            answer = refused[-1]
            told = " ".join(str(answer.server_message or "").split())
            raise _refusal(goods, endpoint, answer.response.status_code, told) from None
        if of_xet := XET_FAILURE.search(str(chain[-1])):
            raise _of_xet(goods, endpoint, *of_xet.groups()) from None
        if isinstance(chain[-1], OSError) and chain[-1].filename:
            raise chain[-1] from None
        said = next(iter(str(chain[-1]).strip().splitlines()), "") or type(chain[-1]).__name__
        if isinstance(error, ValueError) and error is chain[-1]:
            raise HubError(
                f"{endpoint} does not take this: {' '.join(str(error).split())}"
            ) from None
        failed = "does not answer" if any(map(_is_of_network, chain)) else "did not take this"
        raise HubError(
            f"{endpoint} {failed} ({said}); the same command goes on: what was uploaded is not "
            "uploaded again"
        ) from None


def _is_of_network(error: BaseException) -> bool:
    """True of errors of connections: the system's, and those of the HTTP library in use."""
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or library in ("httpx", "httpx2", "httpcore", "httpcore2")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what lies behind it."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__


def _of_xet(goods: Shipment, endpoint: str, status: str | None, host: str, path: str) -> Exception:
    """The error that stands for one of `hf_xet`, by its answer's status and where it came from."""
    if status and "/xet-write-token/" in path:
        return _refusal(goods, endpoint, int(status), "")
    failed = f"refuses this ({status})" if status else "does not answer"
    return HubError(
        f"{host}, where {endpoint} keeps big files, {failed}; the same command goes on: what was "
        f"uploaded is not uploaded again. HF_HUB_DISABLE_XET=1 sends them by {endpoint} itself"
    )


def _refusal(goods: Shipment, endpoint: str, status: int, said: str) -> Exception:
    """The error that stands for an answer of the hub."""
    told = f"{status}: {said}" if said else str(status)
    owner = goods.repo.split("/")[0]
    mend = {
        401: f"{endpoint} does not know this token ({told}): set HF_TOKEN to a valid one "
        "(https://huggingface.co/settings/tokens), or log in anew: hf auth login",
        403: f"this token may not write to {goods.repo} ({told}): it needs the right to write, and "
        f"to {owner} its account must belong",
        404: f"{endpoint} has no {KINDS[goods.kind]} repository {goods.repo} that this token may "
        f"see ({told}): check --repo, and --revision if one is given",
    }
    if status in mend:
        return ConfigError(mend[status])
    if status in (409, 412):
        return HubError(f"{goods.repo} was changed meanwhile ({told}): give the command again")
    later = status == 429 or status >= 500
    way_on = "; the same command goes on later: what was uploaded is not uploaded again"
    return HubError(f"{endpoint} refuses this ({told}){way_on if later else ''}")
