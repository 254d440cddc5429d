"""The append-only store of everything that is recorded."""
