"""Open prompts made of templates and of words that fill them in, every combination of both.

templates = ["How do I {act} a {thing}?", "Is it safe to {act} a {thing}?"]
[slots]
act = ["repair", "borrow"]
thing = ["bicycle", "kite"]
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oversight.config import Settings, describe
from oversight.datasets.base import BadRow, LeftOut, QuestionRow, locate, prompt_row
from oversight.errors import ConfigError
from oversight.ids import content_id, text_number
from oversight.registry import nearest

WHERE_TO_GET = "Such a file is yours to write: docs/datasets.md shows one."
SLOT = re.compile(r"\{([A-Za-z_]\w*)\}")
DOUBLED = "a prompt that was made before"


class Config(Settings):
    """Settings of templates: the file that holds them."""

    path: str = Field(min_length=1)
    """A TOML file with `templates`, a list of texts, and `slots`, lists of words by name."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    templates: list[str] = Field(min_length=1)
    slots: dict[str, list[str]] = Field(default_factory=dict)


def rows(config: Config) -> Iterator[QuestionRow | BadRow | LeftOut]:
    """A prompt for each template and each choice of words, template by template.

    Raises:
        ConfigError: There is no such file, or a template names words that are not there.
    """
    path = locate(config.path, config.path, WHERE_TO_GET)
    held = _read(path)
    seen: set[int] = set()  # not the words: there may be very many
    for number, template in enumerate(held.templates, start=1):
        names = list(dict.fromkeys(SLOT.findall(template)))
        for words in product(*(held.slots[name] for name in names)):
            filled = dict(zip(names, words, strict=True))
            # Filled in one pass: a word that looks like a slot stays what it is.
            parts = SLOT.split(template)
            text = "".join(filled[part] if index % 2 else part for index, part in enumerate(parts))
            known_by = text_number(text)
            if known_by in seen:
                yield LeftOut(DOUBLED)
                continue
            seen.add(known_by)
            yield prompt_row(
                str(path),
                None,
                id="template-" + content_id(template, list(words))[:12],
                dataset="templates",
                text=text,
                meta={"cluster": f"template-{number}", "template": template, **filled},
            )


def _read(path: Path) -> _File:
    where = f"dataset.settings.path = {str(path)!r}"
    try:
        held = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except ValidationError as error:
        said = describe(error, _File, noun="file")
        raise ConfigError(f"{where}: {said}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{where}: not readable as a file ({error.strerror})") from None
    used = {name for template in held.templates for name in SLOT.findall(template)}
    for name in sorted(used):
        if name not in held.slots:
            hint = nearest(name, held.slots)
            raise ConfigError(
                f"{where}: a template names {{{name}}}, and slots has no {name!r}.{hint}"
            )
        if not held.slots[name] or not all(each.strip() for each in held.slots[name]):
            raise ConfigError(f"{where}: slots.{name} is empty, or one of its words is")
    for name in held.slots:
        if name not in used:
            raise ConfigError(f"{where}: slots.{name} stands in no template")
    return held
