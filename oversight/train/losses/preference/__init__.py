"""Direct preference losses, on the log-probabilities of two responses to one prompt.

With x the prompt, y_w the chosen and y_l the rejected response, a file's docstring writes
c = log pi(y_w|x) - log ref(y_w|x), r the same of y_l, and d = c - r. beta c and beta r are
the implicit rewards.

Without a reference (`ref_chosen_B` None) ref is uniform over responses: its log-probability
is the same number for both and cancels from d; losses that look at c or r alone take it as 0.
"""

from oversight.train.losses.preference.pairs import PairLogps

__all__ = ["PairLogps"]
