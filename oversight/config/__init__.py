"""Typed settings, read from TOML and checked once. Never imports torch."""
