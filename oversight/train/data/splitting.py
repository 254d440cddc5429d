"""A held-out part that shares no prompt and no question with the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from oversight.errors import DataError
from oversight.ids import text_id

Groups = tuple[str, ...]
"""What an example may share with others: its prompt, and its question if it has one."""


def held_out(groups: Sequence[Groups], num_wanted: int, seed: int) -> set[int]:
    """The indices to hold out: about `num_wanted`, all that belong together on one side.

    Which ones depends on the seed and on the content of prompts and questions, not on the order
    of rows.

    Raises:
        DataError: All examples belong together, so that nothing can be held out.
    """
    if num_wanted < 1:
        return set()
    families = _families(groups)
    if len(families) < 2:
        raise DataError(
            f"data.eval: all {len(groups)} examples share a prompt or a question, so none can be "
            "held out; name a file in data.eval_path"
        )
    order = sorted(families, key=lambda name: text_id(str(seed), name))
    chosen: set[int] = set()
    for name in order[:-1]:  # one is left to train on
        size = len(families[name])
        missing = num_wanted - len(chosen)
        # The last one that goes in brings the number nearest to what is wanted.
        if chosen and size - missing > missing:
            continue
        chosen.update(families[name])
        if len(chosen) >= num_wanted:
            break
    return chosen


def _families(groups: Sequence[Groups]) -> dict[str, list[int]]:
    """Examples that belong together, over any number of steps, by the least of their groups."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for own in groups:
        roots = sorted(root(name) for name in own)
        for other in roots[1:]:
            parent[other] = roots[0]
    families: dict[str, list[int]] = defaultdict(list)
    for index, own in enumerate(groups):
        families[root(own[0])].append(index)
    return families
