"""HTML of the pages: templates in which every text from outside is made visible and escaped."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from oversight.text.terminal import visible

ASSETS = {"view.css": "text/css", "view.js": "text/javascript"}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content security policy: nothing from elsewhere, and no script or style within a page."""


class Links(Protocol):
    """Addresses of pages, as they are written into one of them."""

    is_static: bool
    """A folder of files: no server to ask anything of."""

    def asset(self, name: str) -> str:
        """Of a file of style or script."""
        ...

    def transcript(self, debate_id: str, anchor: str = "") -> str:
        """Of a transcript."""
        ...

    def call(self, debate_id: str, key: str) -> str:
        """Of one call of a model."""
        ...

    def listing(self, params: Sequence[tuple[str, str]] = ()) -> str:
        """Of a list of debates."""
        ...

    def compare(self, left: str, right: str = "") -> str:
        """Of two transcripts side by side."""
        ...

    def runs(self) -> str:
        """Of the list of training runs."""
        ...

    def run(self, name: str) -> str:
        """Of one training run."""
        ...


class ServerLinks:
    """Addresses on a server; `store` names one of several."""

    is_static = False

    def __init__(self, store: str = "") -> None:
        self._store = [("store", store)] if store else []

    def asset(self, name: str) -> str:
        """Of a file, with its content in the name: a browser may keep it for good."""
        return f"/assets/{stamp(name)}/{name}"

    def transcript(self, debate_id: str, anchor: str = "") -> str:
        """Of a transcript."""
        return self._at(f"/t/{quote(debate_id, safe='')}", anchor=anchor)

    def call(self, debate_id: str, key: str) -> str:
        """Of one call of a model."""
        return self._at(f"/t/{quote(debate_id, safe='')}/call/{quote(key, safe='')}")

    def listing(self, params: Sequence[tuple[str, str]] = ()) -> str:
        """Of a list of debates."""
        return self._at("/", params)

    def compare(self, left: str, right: str = "") -> str:
        """Of two transcripts side by side."""
        return self._at("/compare", [("a", left), ("b", right)])

    def runs(self) -> str:
        """Of the list of training runs."""
        return "/runs"

    def run(self, name: str) -> str:
        """Of one training run."""
        return f"/runs/{quote(name, safe='')}"

    def _at(self, path: str, params: Sequence[tuple[str, str]] = (), anchor: str = "") -> str:
        query = urlencode([*params, *self._store])
        return path + (f"?{query}" if query else "") + (f"#{anchor}" if anchor else "")


def asset(name: str) -> bytes:
    """The content of a file of style or script."""
    return files("oversight.reporting").joinpath("templates", name).read_bytes()


@lru_cache
def stamp(name: str) -> str:
    """A few letters that change with the content of a file."""
    return hashlib.blake2b(asset(name), digest_size=6).hexdigest()


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("oversight.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters["percent"] = lambda p: f"{p:.0%}".replace("%", " %")
    environment.filters["short"] = lambda id_: id_[:8]
    environment.filters["line"] = lambda text: " ".join(text.split())
    environment.filters["number"] = lambda n: f"{n:,}"
    return environment


def _shown(value: Any) -> Any:
    """What an expression of a template writes: text from anywhere is made visible first."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def render(template: str, links: Links, **values: Any) -> str:
    """A page of this template."""
    page = _environment().get_template(template).render(links=links, **values)
    return page.encode("utf-8", "replace").decode("utf-8")
