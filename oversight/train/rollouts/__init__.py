"""Rollouts: responses sampled from a policy, token for token, with the sampler's log-probabilities.

`in_process` samples from the live weights; `server` from vLLM servers, which `weight_sync` gives
new weights. `rewards` scores, `buffer` keeps, and makes rows of trees of turns.
"""
