"""A training run on disk and on the screen: checkpoints and exact resume, metrics, guards, the end.

A trainer opens a `RunFolder`, says in a `RunState` what changes from step to
step, and calls `log`, `save` and `finish`; each of them is safe against being
killed at any moment.
"""
