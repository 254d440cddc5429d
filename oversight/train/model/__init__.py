"""How a model scores token rows: a trie of their tokens, attention over it, and its heads."""
