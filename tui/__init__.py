"""Screens, plain lines and a web server through which people judge and rate."""

from __future__ import annotations

if __name__ != "oversight.tui":
    raise ImportError("import this package as oversight.tui, not as a top-level 'tui'")
