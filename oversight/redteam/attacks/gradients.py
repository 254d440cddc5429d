"""Attacks by gradients of the target's own weights.

A suffix behind the attacked words is changed token by token, so that the answer that is wanted
becomes likelier: a policy's consent, or the letter of the side that is wrong (`redteam.gcg`).
"""

from __future__ import annotations

from oversight.redteam.attacks import JUDGES, POLICIES, Attack, search
from oversight.redteam.types import AttackCase, Attempt, Moves, Try

STEPS = 8
"""Steps of the gradient before each attempt."""


@search(
    "Searches a suffix by the gradient of the target's own weights (GCG).",
    kinds=JUDGES | POLICIES,
    needs_weights=True,
)
def gradient_suffix(case: AttackCase) -> Moves:
    """The words with the best suffix so far, after every few steps."""
    if case.walk is None:
        return
    walk, known = case.walk, {""}
    for _ in range(case.budget):
        for _ in range(STEPS):
            walk.step()
        said = walk.text
        if said is None:
            case.notes["suffix: exists as tokens alone, and was not tried"] += 1
            continue
        if said in known:
            continue
        known.add(said)
        [done] = yield [Try(f"{case.words} {said}", style="gradient_suffix")]
        if not isinstance(done, Attempt) or done.is_success:
            return


ATTACKS: tuple[Attack, ...] = (gradient_suffix,)
