"""Classes of characters that this package's modules share, as bodies of regular expression sets."""

from __future__ import annotations

BIDI_CONTROLS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Characters that turn the direction of reading, so that a text reads other than it is stored."""

TAGS = "\U000e0000-\U000e007f"
"""An invisible copy of ASCII: models read it and people do not see it."""

UNSEEN = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0080-\U000e0fff"
)
"""Others that leave no trace on a page: soft hyphens, joiners, selectors, fillers, annotations."""

INVISIBLE = UNSEEN + BIDI_CONTROLS + TAGS
"""Unicode's Default_Ignorable_Code_Point, and annotation marks."""

COMBINING = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f"
"""Marks that sit on, strike through or ring the letter before them."""

LOOKALIKES = str.maketrans(
    "аеорсухіѕјԁһԛѵтпикмвнοινυτρακεχηıօոս",
    "aeopcyxisjdhqvtnukmbnoivutpakexnionu",
)
"""Small letters of Cyrillic, Greek and Armenian (and ı) as the Latin letters they pass for."""


def picture(char: str) -> str:
    """The visible picture of a control character of ASCII (U+2400 block), such as `␛`."""
    return "\u2421" if char == "\x7f" else chr(0x2400 + ord(char))
