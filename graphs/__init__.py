"""Protocols as LangGraph state machines: one machine a file, and the state they share."""

from __future__ import annotations

if __name__ != "oversight.graphs":
    raise ImportError("import this package as oversight.graphs, not as a top-level 'graphs'")
