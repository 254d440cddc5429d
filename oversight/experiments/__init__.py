"""Experiments on top of the library: the closed circle and the pixel debate.

Each is a caller of the rooms below, with a command of its own; nothing below imports one.
"""
