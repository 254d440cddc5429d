"""Constitutions: one set of principles a file (.toml); this module only loads and checks them."""

from __future__ import annotations

if __name__ != "oversight.constitutions":
    raise ImportError(
        "import this package as oversight.constitutions, not as a top-level 'constitutions'"
    )
