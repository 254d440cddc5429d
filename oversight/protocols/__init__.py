"""Protocols as data: one protocol a file (.toml)."""
