"""Models that ship with the package: folders of weights, each with its tokenizer and card.

`resolve("seedling")` gives the folder; engines and trainers take the bare name. A model of one's
own that has the same name is given as a path: `./seedling`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

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
