"""Scores of token rows by a model: a trie of their tokens, attention over it, and its heads."""
