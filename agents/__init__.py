"""Agents: one role a file. The file's name is the registered name."""

from __future__ import annotations

if __name__ != "oversight.agents":
    raise ImportError("import this package as oversight.agents, not as a top-level 'agents'")
