"""The contract that every model is held to, wherever it is taken up: see `contract`.

`scoring` gives log-probabilities, rewards and hidden states of token rows (`rows`); `small` makes
the models that the contract is tried on, and `angles` gives each row its own rotary angles.
"""
