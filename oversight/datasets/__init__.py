"""Data sets: one format a file. The file's name is the registered name."""
