"""Checks of a guard: one family a file. The file's name is the registered name."""
