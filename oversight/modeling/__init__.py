"""The contract that every model is held to, wherever it is taken up: see `contract`.

`small` makes the models that it is tried on, and `angles` gives each row its own rotary angles.
"""
