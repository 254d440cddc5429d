"""`oversight protocols`: what can be run."""

from __future__ import annotations

from oversight import registry
from oversight.cli.listing import show
from oversight.cli.options import Json


def protocols(as_json: Json = False) -> None:
    """List the protocols: debates, consultancies, critiques, and direct judgments."""
    rows = [(name, registry.summary("protocols", name)) for name in registry.names("protocols")]
    show("Protocols", ("name", "description"), rows, as_json)
