"""What a person sees and types into, in the terminal."""

from __future__ import annotations

if __name__ != "oversight.tui":
    raise ImportError("import this package as oversight.tui, not as a top-level 'tui'")
