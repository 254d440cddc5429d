"""Records made elsewhere, read into the store and written back: one format a file.

A format is a module of this folder under its file's name, or a class of a user's own as
"file.py:Class"; `oversight.interop.base` says what it holds, and `oversight import` reads by it.
"""
