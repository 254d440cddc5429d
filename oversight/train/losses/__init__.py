"""Losses as pure functions of small padded tensors, a family a module, registered by a decorator.

    from oversight.train import losses

    losses.names("preference")                 # reads the modules' text, imports nothing
    losses.load("preference", "ipo").loss      # the function; `load` gives a `Loss`
    losses.bind("preference", "ipo", {"beta": 0.1})   # with its options, checked

A loss returns `(loss, metrics)`. `loss` is a sum over what it is given, divided by
`normalizer`: the number of pairs, sequences or tokens of the *whole* optimizer step, over
all micro-batches and ranks, or the sum of their weights. So splitting a batch changes no gradient.
`metrics` are totals with their counts (`metrics.Mean`), which add up the same way.

To add one, write one function under the decorator of its family, in a module of this package or in
a file of your own, which a recipe names: `loss = "file.py:function"`.

| decorator | the function takes | a pair, row or token is |
|---|---|---|
| `reward_loss` | `(chosen_B, rejected_B, *, normalizer, ...)` | scalar rewards |
| `reward_loss`, K-wise | `(rewards_BK, *, ranks_BK, normalizer, ...)` | scalar rewards |
| `preference_loss` | `(pairs: PairLogps, *, normalizer, ...)` | two log-probabilities |
| `unpaired_loss` | `(rows: UnpairedLogps, *, normalizer, ...)` | one response called good or bad |
| `policy_loss` | `(batch: PolicyBatch, *, normalizer, extras, ...)` | sampled tokens, advantages |

The decorator carries what the training loop must know: what the sum is divided by (a policy loss
has to say it), whether the loss sorts a step's pairs, what else it is given. All other arguments
are keywords with a default: these are its options, and `bind` refuses any other. What an option
may be stands in its annotation (`options`); pydantic checks it before a run begins, and at each
call. A preference or unpaired loss also has a `start_value`, the closed form that tests hold it
against (a run evaluates the loss itself on its first batch): the loss of one plain row while the
policy equals its reference, None where that is not known. The contract tests
(`tests/train/losses/test_contract.py`) run over every loss of a family.

The docstring of a loss begins with a line on what it is, then its formula. It says shapes, masking,
reduction, sign, the paper and its equation, and where it departs from it. A paper has its arXiv
number where it has one. An equation's number stands only where it was looked up (versions of a
paper may differ); elsewhere the formula stands alone.
"""

from oversight.train.losses.registered import (
    FAMILIES,
    Loss,
    bind,
    find,
    load,
    names,
    options,
    policy_loss,
    preference_loss,
    reward_loss,
    unpaired_loss,
)

__all__ = [
    "FAMILIES",
    "Loss",
    "bind",
    "find",
    "load",
    "names",
    "options",
    "policy_loss",
    "preference_loss",
    "reward_loss",
    "unpaired_loss",
]
