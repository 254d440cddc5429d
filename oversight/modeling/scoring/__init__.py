"""Token rows scored over their trie: log-probabilities, rewards, hidden states of every layer.

`policy` has the models that score; `trie` lays rows out, `attention` and `blocks` attend over that,
`logprobs` evaluates the head, `sites` and `watching` read and change what is inside, and `checks`
tries a model before it is used.
"""
