"""Policy-gradient losses on sampled tokens with advantages.

A file's docstring writes w_t = pi(y_t)/pi_old(y_t), A_t for the advantage and clip(w) for w
held to [1 - clip_low, 1 + clip_high]. What differs between them is the ratio, its clipping
and the reduction, so each docstring says which `normalizer` it wants: the global number of
tokens learnt from, of sequences, or of sequences times the longest response.
"""

from oversight.train.losses.policy.batch import NO_EXTRAS, Extras, PolicyBatch

__all__ = ["NO_EXTRAS", "Extras", "PolicyBatch"]
