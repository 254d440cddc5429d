"""`oversight models`: what can play a role, what it can think with, and what ships with us."""

from __future__ import annotations

import json

import typer

from oversight import registry
from oversight.cli.listing import show
from oversight.cli.options import Json
from oversight.models import EMBEDDED


def models(as_json: Json = False) -> None:
    """List the agents with their roles, the engines that models run on, and embedded models."""
    agents = [
        (
            name,
            " ".join(sorted(registry.load("agents", name).ROLES)),
            registry.summary("agents", name),
        )
        for name in registry.names("agents")
    ]
    engines = [(name, registry.summary("engines", name)) for name in registry.names("engines")]
    embedded = [(model.name, model.description) for model in EMBEDDED.values()]
    if as_json:
        document = {
            "agents": [{"name": n, "roles": r.split(), "description": d} for n, r, d in agents],
            "engines": [{"name": n, "description": d} for n, d in engines],
            "embedded": [{"name": n, "description": d} for n, d in embedded],
        }
        typer.echo(json.dumps(document, indent=2))
        return
    show("Agents", ("name", "roles", "description"), agents, as_json=False)
    typer.echo("")
    show("Engines", ("name", "description"), engines, as_json=False)
    typer.echo("")
    show("Embedded models", ("name", "description"), embedded, as_json=False)
