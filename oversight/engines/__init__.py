"""Engines: one way to complete prompts a file. The file's name is the registered name."""
