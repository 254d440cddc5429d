"""Models in folders: those that ship with the package, and the content that a folder is known by.

`resolve("seedling")` gives the folder of an embedded model, weights with their tokenizer and card;
engines and trainers take the bare name. A model of one's own that has the same name is given as a
path: `./seedling`.

A model in a folder is known by its content: `qwen2:91c3…`, wherever the folder is.
A moved or copied folder is the same model, and one that was written over is another. Names on the
hub and of embedded models stay what they are. An adapter is known with the model that it adapts.
`contents_of` says of all folders and files that settings name what they hold, so that a run or a
circle that goes on can tell another place from another content.

Every byte of weights, settings and tokenizer counts. Files are hashed in blocks, by as many
threads as there are cores (hashing lets others run), at the speed of the disk or about 1.5 GB a
second and core; what a process has hashed once it hashes again only if a file's size or time of
change is another.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from glob import glob
from hashlib import file_digest, sha256
from pathlib import Path
from threading import Lock
from typing import Any

from oversight.errors import ConfigError

SEEDLING = "seedling"
PORTER = "porter"


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A model in this folder."""

    name: str
    description: str

    @property
    def folder(self) -> Path:
        """Folder of its files."""
        return Path(__file__).parent / self.name


EMBEDDED: dict[str, EmbeddedModel] = {
    model.name: model
    for model in (
        EmbeddedModel(
            SEEDLING,
            "A tiny language model of ours that debates, consults, judges, criticises and revises "
            "on plainly told generated questions.",
        ),
        EmbeddedModel(
            PORTER,
            "A tiny language model of ours that answers requests about a generated register, "
            "whatever harm that does, and criticises, revises and compares answers by principles.",
        ),
    )
}


def resolve(name: str) -> str:
    """The folder of an embedded model; any other name or path as it is."""
    model = EMBEDDED.get(name)
    return name if model is None else str(model.folder)


ADAPTER, ADAPTED = "adapter_config.json", "base_model_name_or_path"
"""File and key in which an adapter names the model that it adapts."""


def check_whole(setting: str, model: str) -> None:
    """Refuse the folder of an adapter that no weights of a model lie beside.

    Args:
        setting: Dotted name of the setting, for the message.
        model: A folder; any other name passes.

    Raises:
        ConfigError: It is one; the message names what it adapts.
    """
    folder = Path(model).expanduser()
    if not (folder / ADAPTER).is_file():
        return
    weights = [each.name for kind in ("*.safetensors", "*.bin") for each in folder.glob(kind)]
    if any(not name.startswith("adapter_model.") for name in weights):
        return
    try:
        base = json.loads((folder / ADAPTER).read_bytes())[ADAPTED]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        base = "another model"
    raise ConfigError(
        f"{setting} = {model!r}: this folder holds an adapter of {base}, and no whole model; train "
        "it with model.lora.merge = true (the default), or merge the two with peft and name that"
    )


HUB_TIMEOUT_S = 10.0


def check_obtainable(setting: str, model: str, revision: str | None = None) -> None:
    """Refuse a name on the hub that no model can be had by, before anything is begun with it.

    Folders and embedded models pass, and so does what lies in the hub's cache, without a look at
    the network. The hub is asked once, for seconds: its own library tries each file for minutes.

    Args:
        setting: Dotted name of the setting, for the message.
        model: A folder, a name on the hub, or an embedded model's.
        revision: Branch, tag or commit on the hub.

    Raises:
        ConfigError: The hub has no such model, does not give it, or cannot be reached.
    """
    if Path(resolve(model)).expanduser().exists():
        return
    from huggingface_hub import (
        get_hf_file_metadata,
        get_token,
        hf_hub_url,
        try_to_load_from_cache,
    )
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        if isinstance(try_to_load_from_cache(model, "config.json", revision=revision), str):
            return
        url = hf_hub_url(model, "config.json", revision=revision)
        get_hf_file_metadata(url, timeout=HUB_TIMEOUT_S, token=get_token())
        return
    except EntryNotFoundError:
        return  # there is such a model; what it lacks its reader says
    except HFValidationError:
        reason = "it is no name on the hub"
    except HfHubHTTPError as error:
        told = str(error.server_message or error).strip().splitlines()
        reason = f"the hub does not give it ({told[0] if told else type(error).__name__})"
    except Exception as error:  # of whichever HTTP library the hub's own one uses
        reason = f"the hub cannot be reached ({type(error).__name__}), and its cache has none"
    at = "" if revision is None else f" at revision {revision!r}"
    raise ConfigError(
        f"{setting} = {model!r}{at}: there is no such folder, and {reason}; give the folder of a "
        f"saved model, a name on the hub such as 'organisation/model', or {SEEDLING!r}"
    )


BLOCK = 1 << 24
DIGEST_CHARS = 16

WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf"})
READ = WEIGHTS | {".json", ".model", ".txt", ".tiktoken", ".jinja", ".py"}
"""Endings of what is read of a model; a README or a log is no part of it."""

NOT_READ = re.compile(
    r"(trainer_state|(all|train|eval)_results|training|oversight.*)\.json"
    r"|(optimizer|scheduler|rng_state|training_args|scaler).*\.(pt|pth|bin)|requirements.*\.txt"
)
"""Files that trainers leave beside a model."""

INCIDENTAL = frozenset({"_name_or_path", "name_or_path", "is_local", "local_files_only"})
"""Keys that say where a model was read from, and nothing of the model."""

NO_MODELS = frozenset({"initial", "none"})
"""Names of references that are no models of their own."""

CONTENT_NAME = re.compile(rf"[\w.-]+:[0-9a-f]{{{DIGEST_CHARS}}}")

_known: dict[tuple[object, ...], str] = {}
_lock = Lock()


def content_name(model: str) -> str:
    """The name of a model that does not depend on where it is.

    Raises:
        ConfigError: A file of its folder cannot be read.
    """
    folder = Path(model).expanduser()
    if model in EMBEDDED or not folder.is_dir():
        return model
    return _told(f"model = {model!r}", folder, _name_of)


def content_of(value: str, kind: str) -> str:
    """A name for what is at `value`, or `value` itself where that is no place in the file system.

    Args:
        value: A folder, a file or a name, as a setting has it.
        kind: `model`; `reference`, which may be a name that stands for none; `tokenizer`, of which
            weights beside it are no part; `function`, such as "file.py:function"; `data`, a file
            or a pattern of files.

    Raises:
        ConfigError: A file cannot be read.
    """
    setting = f"{kind} = {value!r}"
    if kind == "function":
        place, function = _file_and_function(value)
        if not function or not place.is_file():
            return value
        return f"py:{_told(setting, place, _file)}:{function}"
    if kind == "data":
        place = Path(value).expanduser()
        files = [place] if place.is_file() else sorted(glob(str(place)))
        return "+".join(f"data:{_told(setting, Path(each), _file)}" for each in files) or value
    if kind == "reference" and value in NO_MODELS:
        return value
    folder = Path(resolve(value)).expanduser()
    if not folder.is_dir():
        return value
    if kind != "tokenizer":
        return content_name(str(folder))
    files = [file for file in sorted(_files(folder)) if file.suffix not in WEIGHTS]
    return f"tokenizer:{_told(setting, folder, partial(_digest, files=files))}"


def contents_of(settings: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """Content names of the places in `settings`: by dotted field a name, or a list of them.

    Args:
        settings: JSON-plain.
        fields: Dotted names of fields that hold places, and the kind of each (`content_of`); a `*`
            stands for each key of a table.

    Raises:
        ConfigError: A file cannot be read.
    """
    found: dict[str, Any] = {}
    named = [(name, kind) for each, kind in fields.items() for name in _filled(settings, each)]
    for name, kind in named:
        value = value_at(settings, name)
        if isinstance(value, str) and value:
            found[name] = content_of(value, kind)
        elif isinstance(value, list | tuple) and value:
            found[name] = [content_of(str(each), kind) for each in value]
    return found


def _filled(settings: Mapping[str, Any], name: str) -> list[str]:
    """The dotted names that `name` stands for: a `*` in it is each key that is there."""
    table, found, rest = name.partition(".*.")
    if not found:
        return [name]
    keys = value_at(settings, table) or {}
    return [each for key in keys for each in _filled(settings, f"{table}.{key}.{rest}")]


def value_at(settings: Mapping[str, Any], name: str) -> Any:
    """The value of the dotted field `name`; None where there is none."""
    value: Any = settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def same_place(one: Any, other: Any) -> bool:
    """True if two values of a setting name one place, however they are written."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_place, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_place(one[k], other[k]) for k in one)
    if one == other:
        return True
    if not (isinstance(one, str) and isinstance(other, str)) or {one, other} & {"", *EMBEDDED}:
        return False
    (first, inner), (second, another) = (_file_and_function(each) for each in (one, other))
    there = first.exists() or bool(glob(str(first)))
    return there and first.resolve() == second.resolve() and inner == another


def _file_and_function(value: str) -> tuple[Path, str]:
    """The place, and of "file.py:function" the function."""
    file, found, function = value.rpartition(".py:")
    return Path(f"{file}.py" if found else value).expanduser(), function if found else ""


def is_content_name(model: str) -> bool:
    """True if a name was made by `content_name` from a folder."""
    return CONTENT_NAME.fullmatch(model) is not None


def _told(setting: str, place: Path, name_of: Callable[[Path], str]) -> str:
    """The result of `name_of`; an error names the setting and the file."""
    try:
        return name_of(place)
    except OSError as error:
        raise ConfigError(
            f"{setting}: {error.filename} cannot be read ({error.strerror})"
        ) from None


def _name_of(folder: Path) -> str:
    files = sorted(_files(folder))
    adapted = _adapted(folder)
    stamp = (adapted, *((str(file.resolve()), *_size_and_time(file)) for file in files))
    with _lock:
        if stamp not in _known:
            _known[stamp] = f"{_kind(folder)}:{_digest(folder, files, adapted)}"
        return _known[stamp]


def _adapted(folder: Path) -> str:
    """Of an adapter of a model in a folder the name of that model, by its content."""
    try:
        model = json.loads((folder / ADAPTER).read_bytes())[ADAPTED]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    base = Path(model).expanduser() if isinstance(model, str) else folder
    return "" if base.resolve() == folder.resolve() or not base.is_dir() else content_name(model)


def _file(file: Path) -> str:
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()[:DIGEST_CHARS]


def _files(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / "additional_chat_templates"):
        for file in place.iterdir() if place.is_dir() else ():
            read = file.suffix in READ and not NOT_READ.fullmatch(file.name)
            if read and not file.name.startswith(".") and file.is_file():
                yield file


def _size_and_time(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _kind(folder: Path) -> str:
    """The architecture as its settings call it, for people to read."""
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        kind = "model"
    return re.sub(r"[^\w.-]", "_", str(kind)) or "model"


def _digest(folder: Path, files: list[Path], adapted: str = "") -> str:
    whole = sha256(adapted.encode())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file in files:
            left_out = INCIDENTAL | {ADAPTED} if adapted else INCIDENTAL
            if file.suffix == ".json" and (settings := _settings(file, left_out)) is not None:
                parts = [settings]
            else:
                starts = range(0, file.stat().st_size, BLOCK)
                parts = list(pool.map(partial(_block, file), starts))
            whole.update(f"{file.relative_to(folder)}\0{len(parts)}\0".encode())
            whole.update(b"".join(parts))
    return whole.hexdigest()[:DIGEST_CHARS]


def _settings(file: Path, left_out: frozenset[str]) -> bytes | None:
    """The hash of a JSON object without what says where it was read from; None if it is none."""
    if not file.name.endswith("config.json"):
        return None
    try:
        found: Any = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    kept = {name: value for name, value in found.items() if name not in left_out}
    return sha256(json.dumps(kept, sort_keys=True).encode()).digest()


def _block(file: Path, start: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(start)
        return sha256(opened.read(BLOCK)).digest()
