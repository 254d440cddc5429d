"""A source to quote from, and the kinds of a quote that was checked."""

from __future__ import annotations

from oversight.types import QuoteStatus, Source

VERIFIED, NEAR, UNVERIFIED, TOO_SHORT = (
    QuoteStatus.VERIFIED,
    QuoteStatus.NEAR,
    QuoteStatus.UNVERIFIED,
    QuoteStatus.TOO_SHORT,
)


STORY = Source(
    text=(
        "The captain said, “We can’t go on—the -LRB- old -RRB- ship is  sinking.” Then 1,500 men "
        "left the non-violent isle … and\nthe ﬁrst mate wept. It was party time for all of them. "
        "At noon it was -5 degrees in the cabin. He was not guilty of the crime. He was tired. The "
        "captain said nothing, and he said little more. "
        "Die Donau\u00addampf\u00adschiff\u00adfahrt ist lang. 我们明天早上去海边看日出吧。"
    )
)
