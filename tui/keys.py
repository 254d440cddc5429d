"""Keys of the judging screens, by the names of their effects, so that they can be changed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from textual.binding import Binding

from oversight.errors import ConfigError
from oversight.registry import nearest

Keys = Mapping[str, tuple[str, str]]

KEYS: dict[str, tuple[str, str]] = {
    "next": ("enter", "Next"),
    "belief_down": ("left", "Belief −5"),
    "belief_up": ("right", "Belief +5"),
    "belief_down_1": ("comma", "Belief −1"),
    "belief_up_1": ("full_stop", "Belief +1"),
    "belief_option": ("o", "Other option"),
    "turn_next": ("j", "Next turn"),
    "turn_previous": ("k", "Earlier turn"),
    "quote_next": ("right_square_bracket", "Next quote"),
    "quote_previous": ("left_square_bracket", "Earlier quote"),
    "lean": ("space", "Lean on quote"),
    "around": ("c", "Around the quote"),
    "quotes": ("q", "Quotes"),
    "source": ("w", "Source"),
    "question": ("i", "Question in full"),
    "fold": ("z", "Fold"),
    "fold_all": ("Z", "Fold all"),
    "search": ("slash", "Search"),
    "match_next": ("n", "Next match"),
    "match_previous": ("N", "Earlier match"),
    "copy": ("y", "Copy"),
    "message": ("m", "To the speakers"),
    "end": ("e", "End debate"),
    "assistant": ("a", "Assistant"),
    "stop": ("x", "Stop or retry"),
    "verdict": ("v", "Verdict"),
    "undo": ("u", "Undo"),
    "skip": ("s", "Skip"),
    "filter": ("f", "Filter"),
    "revise": ("r", "Revise"),
    "theme": ("d", "Light or dark"),
    "help": ("question_mark", "Keys"),
    "back": ("escape", "Back"),
}
"""Name -> the usual key, and what it does in a word or two."""

SHOWN = frozenset({"next", "belief_up", "assistant", "quotes", "verdict", "skip", "help", "back"})
"""In the line at the foot of the screen."""

RATING_KEYS: dict[str, tuple[str, str]] = {
    "next": ("enter", "Send, next"),
    "left": ("left", "Left better"),
    "right": ("right", "Right better"),
    "tie": ("t", "Equal"),
    "both_bad": ("b", "Both bad"),
    "ask_next": ("j", "Next to be answered"),
    "ask_previous": ("k", "Earlier one"),
    "rationale": ("v", "Say why"),
    "undo": ("u", "Undo"),
    "previous": ("p", "The last one sent"),
    "skip": ("s", "Skip"),
    "revise": ("r", "Revise"),
    "before": ("z", "What was said before"),
    "quote_next": ("right_square_bracket", "Next quote"),
    "quote_previous": ("left_square_bracket", "Earlier quote"),
    "quotes": ("q", "Quotes"),
    "around": ("c", "Around the quote"),
    "source": ("w", "Source"),
    "question": ("i", "Question in full"),
    "search": ("slash", "Search"),
    "match_next": ("n", "Next match"),
    "match_previous": ("N", "Earlier match"),
    "filter": ("f", "Filter"),
    "theme": ("d", "Light or dark"),
    "help": ("question_mark", "Keys"),
    "back": ("escape", "Back"),
}
"""The same for `oversight rate`; what both have has the same key."""

RATING_SHOWN = frozenset({"next", "tie", "both_bad", "rationale", "skip", "help", "back"})


def bindings(
    names: Iterable[str],
    keys: Keys = KEYS,
    shown: Collection[str] = SHOWN,
) -> list[Binding]:
    """Bindings of those names, each to the action of the same name."""
    return [
        Binding(key, f"do_{name}", does, show=name in shown, id=name)
        for name in names
        for key, does in [keys[name]]
    ]


def keymap(changes: Mapping[str, str], keys: Keys = KEYS) -> dict[str, str]:
    """Textual's keymap for changed keys.

    Raises:
        ConfigError: A name is not known, or two things share a key.
    """
    for name in changes:
        if name not in keys:
            raise ConfigError(f"unknown key name keys.{name}.{nearest(name, list(keys))}")
    chosen = {name: changes.get(name, key) for name, (key, _) in keys.items()}
    by_key: dict[str, str] = {}
    for name, key in chosen.items():
        if key in by_key:
            raise ConfigError(f"keys.{name} = {key!r}: that key is {by_key[key]!r} already")
        by_key[key] = name
    return dict(changes)


def key_of(name: str, changes: Mapping[str, str], keys: Keys = KEYS) -> str:
    """The key as one would say it."""
    key = changes.get(name, keys[name][0])
    return _SAID.get(key, key)


_SAID = {
    "enter": "Enter",
    "left": "←",
    "right": "→",
    "comma": ",",
    "full_stop": ".",
    "right_square_bracket": "]",
    "left_square_bracket": "[",
    "space": "Space",
    "slash": "/",
    "question_mark": "?",
    "escape": "Esc",
}
