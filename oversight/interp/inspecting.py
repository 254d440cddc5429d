"""A debate token by token: the answers' tokens with lens, attention and a probe's score, on demand.

`inspect_debate` reads the model that spoke (or another of the same tokenizer) over the answers of a
stored debate; `pictures` draws one answer: each layer's likeliest token by the logit lens, shaded
by its probability, the probe's score under it, and attention from a token to all before it.

Shapes: P tokens that are read, n tokens of a row, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oversight.errors import ConfigError, DataError, StoreError
from oversight.evals.drawing import LIGHT, Theme, plain_axes, quiet_glyphs, save_png, short, title
from oversight.interp.contrasts import rows_of_store
from oversight.interp.probes import FittedProbe, ProbeData
from oversight.interp.reading import SiteReader
from oversight.modeling.scoring.sites import Site
from oversight.store import Store

MAX_DRAWN = 48
"""Tokens of an answer that a picture shows."""
NUM_SEEN = 5
"""Tokens that are attended to most, as a list shows them."""


@dataclass(frozen=True, slots=True)
class InspectedToken:
    """One token of an answer, and what was inside before it was written."""

    text: str
    logprob: float
    lens: tuple[tuple[str, float], ...]
    """For each layer, embeddings first, the likeliest token and its probability."""
    score: float | None = None
    """A probe's, in log-odds."""
    attended: tuple[tuple[str, float], ...] = ()
    """Tokens that the asked-for head looked at most, with its weights."""


@dataclass(frozen=True, slots=True)
class InspectedAnswer:
    """One answer of a model in a debate."""

    turn: str
    seat: str
    role: str
    act: str
    option: int | None
    """That it defends."""
    defends_right: bool | None
    tokens: tuple[InspectedToken, ...]
    quoted: tuple[int, ...]
    """Numbers of the tokens that stand in quotes."""


def head_named(text: str) -> tuple[int, int]:
    """Layer and head of "LAYER.HEAD".

    Raises:
        ConfigError: It is not written so.
    """
    layer, dot, head = text.partition(".")
    if not (dot and layer.isdecimal() and head.isdecimal()):
        raise ConfigError(f"attention = {text!r}: write LAYER.HEAD, such as '2.0'")
    return int(layer), int(head)


def inspect_debate(
    store: Store,
    debate_id: str,
    reader: SiteReader,
    tokenizer: Any,
    *,
    probe: FittedProbe | None = None,
    attention: str | None = None,
) -> list[InspectedAnswer]:
    """The answers of a debate whose token ids are stored, read by a model.

    Args:
        store: Where the debate is.
        debate_id: Of a debate that is stored.
        reader: The model that spoke, or another that was trained from it.
        tokenizer: Its tokenizer.
        probe: Scored at each token, at the site that it was fitted at.
        attention: The head whose attention is shown, "LAYER.HEAD".

    Raises:
        StoreError: No answer of it has token ids.
        ConfigError: Ids of another tokenizer, or no such head or site.
    """
    rows = rows_of_store(store, tokenizer, [debate_id])
    lenses = reader.modules.every(["logits"])
    sites: list[Site] = [*lenses]
    if probe is not None:
        at = Site.parse(str(probe.about.get("site", "")))
        if at.kind in ("heads", "pattern", "logits"):
            raise ConfigError(f"the probe's site {str(at)!r} is none that is shown by token")
        sites.append(at)
    head: tuple[Site, int] | None = None
    if attention is not None:
        layer, number = head_named(attention)
        head = Site("pattern", layer), number
        if number >= reader.modules.num_heads:
            raise ConfigError(
                f"attention = {attention!r}: a layer has heads 0 to {reader.modules.num_heads - 1}"
            )
        sites.append(head[0])
    found = []
    size = int(reader.modules.config.vocab_size)
    for row in rows:
        if int(row.ids.max()) >= size:
            raise ConfigError(
                f"debate {debate_id!r} has token {int(row.ids.max())}, and the model knows {size}: "
                "it was held by a model of another tokenizer; name that one with --model"
            )
        read = row.read[:-1]  # what stands before each token that was written
        own = reader.read([row.ids], sites, [read])[0]
        found.append(_answer(row, read, own, tokenizer, lenses, probe, head))
    return found


def _answer(
    row: Any,
    read: Any,
    own: dict[Site, torch.Tensor],
    tokenizer: Any,
    lenses: Sequence[Site],
    probe: FittedProbe | None,
    head: tuple[Site, int] | None,
) -> InspectedAnswer:
    written = row.ids[read + 1]
    probs = torch.stack([own[site].double().softmax(-1) for site in lenses])
    best, likeliest = probs.max(-1)
    logprobs = probs[-1, torch.arange(len(read)), torch.from_numpy(written)].log().tolist()
    scores: list[float | None] = [None] * len(read)
    if probe is not None:
        states = own[Site.parse(str(probe.about["site"]))].double().cpu().numpy()
        if states.shape[1] != len(probe.direction_E):
            raise DataError(
                f"the probe reads {len(probe.direction_E)} numbers, and the model's site has "
                f"{states.shape[1]}; take a probe of this model"
            )
        data = ProbeData(states, np.zeros(len(states), dtype=bool), None, [s[None] for s in states])
        scores = [float(each) for each in probe.score(data)]
    tokens = []
    for k, (token, logprob) in enumerate(zip(written.tolist(), logprobs, strict=True)):
        lens = tuple(
            (tokenizer.decode([int(likeliest[layer, k])]), float(best[layer, k]))
            for layer in range(len(lenses))
        )
        seen: tuple[tuple[str, float], ...] = ()
        if head is not None:
            weights = own[head[0]][k, head[1]]
            top = weights.topk(min(NUM_SEEN, len(weights)))
            seen = tuple(
                (tokenizer.decode([int(row.ids[i])]), float(w))
                for w, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)
            )
        tokens.append(InspectedToken(tokenizer.decode([token]), logprob, lens, scores[k], seen))
    start = row.labels["span"][0]
    quoted = sorted({i - start for a, b, _ in row.labels["quotes"] for i in range(a, b)})
    known = row.labels
    return InspectedAnswer(
        known["turn"], known["seat"], known["role"], known["act"], known["option"],
        known["defends_right"], tuple(tokens), tuple(quoted),
    )  # fmt: skip


def draw_answer(answer: InspectedAnswer, path: Path, theme: Theme = LIGHT) -> None:
    """A picture of one answer: lens by layer and token, and a probe's score where there is one.

    Raises:
        StoreError: The answer has no token.
        FileError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    tokens = answer.tokens[:MAX_DRAWN]
    if not tokens:
        raise StoreError(f"turn {answer.turn!r} has no token to draw")
    num_layers = len(tokens[0].lens)
    scored = tokens[0].score is not None
    width = max(7.0, 0.62 * len(tokens) + 1.6)
    height = 1.9 + 0.34 * num_layers + (1.3 if scored else 0.0)
    with quiet_glyphs():
        figure = Figure((width, height))
        note = f"{answer.role} {answer.seat}, {answer.act}: each layer's likeliest next token"
        title(figure, theme, "Logit lens", note, height)
        parts = figure.subplots(
            2 if scored else 1,
            1,
            squeeze=False,
            gridspec_kw={"height_ratios": [num_layers * 0.34, 1.0][: 2 if scored else 1]},
        )
        axes = parts[0, 0]
        probs = [[token.lens[layer][1] for token in tokens] for layer in range(num_layers)]
        axes.imshow(
            np.array(probs), aspect="auto", cmap="Blues", vmin=0.0, vmax=2.0, origin="lower"
        )
        for layer in range(num_layers):
            for k, token in enumerate(tokens):
                word = short(token.lens[layer][0].strip() or "·", 9)
                axes.text(k, layer, word, ha="center", va="center", fontsize=6.5, color=theme.ink)
        plain_axes(axes, theme, "x")
        axes.grid(visible=False)
        axes.set_yticks(range(num_layers), [f"layer {layer}" for layer in range(num_layers)])
        names = [short(token.text.strip() or "·", 12) for token in tokens]
        below = parts[-1, 0]
        if scored:
            tint = theme.kinds[next(iter(theme.kinds))][0]
            values = [token.score or 0.0 for token in tokens]
            below.bar(range(len(tokens)), values, color=tint, width=0.7)
            plain_axes(below, theme, "y")
            below.set_xlim(-0.5, len(tokens) - 0.5)
            below.set_ylabel("probe, log-odds", color=theme.muted, fontsize=8)
            axes.set_xticks([])
        below.set_xticks(range(len(tokens)), names, rotation=60, ha="right", fontsize=7)
        figure.subplots_adjust(0.09, 0.75 / height, 0.99, 1.0 - 0.8 / height, hspace=0.08)
        save_png(figure, path, theme)
