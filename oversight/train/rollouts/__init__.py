"""Rollouts: responses sampled from a policy, token for token, with the sampler's log-probabilities.

`in_process` samples from the live weights; `from_engine` from any engine of the
project; `from_server` from vLLM servers, which `handover` gives new weights.
`segments` makes rows of trees of turns, `rewards` scores, `buffer` keeps.
"""
