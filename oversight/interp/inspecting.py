"""A debate token by token: the answers' tokens with lens, attention and a probe's score, on demand.

`inspect_debate` reads the model that spoke (or another of the same tokenizer) over the answers of a
stored debate; `draw_answer` draws one: each layer's likeliest token by the logit lens, shaded by
its probability, the probe's score under it, and attention from a token to all before it.

`answers_page` shows each answer's words, shaded by a probe's score or else by their probability;
choosing a token opens what was inside before it was written: the logit lens of every layer, the
probe's score, and what the asked-for head looked at. `features_page` lists features of a sparse
autoencoder with the contexts in which they are strongest. A page is one file without any address in
it: it opens from a disk, says the same without scripts, and all that a model wrote is escaped.

Shapes: P tokens that are read, n tokens of a row, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, StrictUndefined

from oversight.errors import ConfigError, DataError, StoreError
from oversight.evals.drawing import LIGHT, Theme, plain_axes, quiet_glyphs, save_png, short, title
from oversight.interp.contrasts import rows_of_store
from oversight.interp.probes import FittedProbe, ProbeData
from oversight.interp.reading import ReadRow, SiteReader
from oversight.modeling.scoring.sites import Site
from oversight.store import Store
from oversight.text.terminal import visible

VERDICT: dict[str, Any] = {"seat": "judge", "role": "judge", "act": "decide", "quotes": []}
"""Labels of a judge's answer."""
MAX_DRAWN = 48
"""Tokens of an answer that a picture shows."""
NUM_SEEN = 5
"""Tokens that are attended to most, as a list shows them."""
MAX_SEEN = 40
"""Characters of such a token; one of a prompt's fixed stretches may be a whole text."""


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
    purpose: str = ""
    """The purpose that it was asked for: private reasoning, a speech, a belief."""

    @property
    def heading(self) -> str:
        """The writer, the purpose, and the side that is defended."""
        side = ""
        if self.defends_right is not None:
            side = f", defends the {'right' if self.defends_right else 'wrong'} option"
        who = self.role if self.seat == self.role else f"{self.role} {self.seat}"
        return f"{who}, {self.purpose or self.act}{side}"


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
    """The answers of a debate whose token ids are stored, read by a model; a judge's come last.

    A judge's are left out where another model than the debaters' gave them.

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
    rows = _rows(store, debate_id, tokenizer)
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


def _rows(store: Store, debate_id: str, tokenizer: Any) -> list[ReadRow]:
    """Answers in the debate's turns, and then those of its judgments."""
    [transcript] = store.transcripts(debate_ids=[debate_id])
    spoken = [s for turn in transcript.spoken() for s in turn.samples if s.token_ids]
    models = {sample.model for sample in spoken}
    judged = []
    for judgment in transcript.judgments:
        for sample in judgment.samples:
            if not sample.token_ids or (models and sample.model not in models):
                continue
            known = store.prompt(sample.prompt_id, num_tokens=sample.usage.prompt_tokens or None)
            start, stop = len(known.token_ids), len(known.token_ids) + len(sample.token_ids)
            if start:
                ids = np.array([*known.token_ids, *sample.token_ids])
                labels = VERDICT | {"turn": judgment.id, "purpose": str(sample.purpose)}
                labels |= {"span": [start, stop], "option": None, "defends_right": None}
                judged.append(ReadRow(ids, np.arange(start - 1, stop), labels))
    try:
        return [*rows_of_store(store, tokenizer, [debate_id]), *judged]
    except StoreError:
        if not judged:
            raise
        return judged


def about_debate(store: Store, debate_id: str) -> list[str]:
    """Sentences on a debate's question, its options, and which of them is right."""
    [transcript] = store.transcripts(debate_ids=[debate_id])
    question, listing = transcript.question, transcript.debate.orders.options
    told = [question.text] if question.text else []
    if question.options:
        options = [
            f"{'ABCDEFGHIJ'[k % 10]}: {question.options[o].text}" for k, o in enumerate(listing)
        ]
        right = ""
        if question.correct is not None:
            right = f"; right is {'ABCDEFGHIJ'[listing.index(question.correct) % 10]}"
        told.append(", ".join(options) + right)
    return told


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
        known["defends_right"], tuple(tokens), tuple(quoted), known["purpose"],
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
        note = f"{answer.heading}: each layer's likeliest next token"
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


FULL_SCORE = 4.0
"""Log-odds at which a shade is full."""
CONTEXT = 14
"""Tokens that are shown before and after a feature's strongest one."""


@dataclass(frozen=True, slots=True)
class FeatureShown:
    """One feature of an autoencoder with where it is strongest."""

    number: int
    share: float
    """Of the tokens at which it is active."""
    auroc: float | None
    """Of its activation for a label; None where there are no labels."""
    contexts: tuple[tuple[tuple[str, float], ...], ...]
    """Strongest first: tokens with the feature's activation at each."""


def answers_page(
    title: str, answers: Sequence[InspectedAnswer], about: Sequence[str] = (), head: str = ""
) -> str:
    """HTML of a debate's answers token by token.

    Args:
        title: Of the page.
        answers: In the order in which they are shown.
        about: Sentences above them.
        head: The head whose attention they have, "LAYER.HEAD".
    """
    shown = [
        {
            "heading": visible(f"Answer {number}: {answer.heading}"),
            "scored": any(token.score is not None for token in answer.tokens),
            "tokens": [
                _token(token, number, k, quoted=k in answer.quoted)
                for k, token in enumerate(answer.tokens)
            ],
        }
        for number, answer in enumerate(answers, 1)
    ]
    return _ENVIRONMENT.from_string(_ANSWERS).render(
        title=visible(title),
        about=[visible(line) for line in about],
        head=visible(head),
        answers=shown,
        style=_STYLE,
        script=_SCRIPT,
    )


def features_page(title: str, features: Sequence[FeatureShown], about: Sequence[str] = ()) -> str:
    """HTML of features with their strongest contexts.

    Args:
        title: Of the page.
        features: In the order in which they are shown.
        about: Sentences above them.
    """
    shown = [
        {
            "number": each.number,
            "share": f"{100 * each.share:.1f} %",
            "auroc": None if each.auroc is None else f"{each.auroc:.3f}",
            "contexts": [_context(context) for context in each.contexts],
        }
        for each in features
    ]
    return _ENVIRONMENT.from_string(_FEATURES).render(
        title=visible(title), features=shown, about=[visible(line) for line in about], style=_STYLE
    )


def _token(token: InspectedToken, answer: int, number: int, *, quoted: bool) -> dict[str, object]:
    chance = math.exp(token.logprob)
    if token.score is None:
        tint, shade = "plain", 1.0 - chance
    else:
        tint = "high" if token.score > 0 else "low"
        shade = min(1.0, abs(token.score) / FULL_SCORE)
    return {
        "id": f"t{answer}-{number}",
        "text": _written(token.text),
        "breaks": "\n" in token.text,
        "tint": tint,
        "shade": f"{0.75 * shade:.2f}",
        "quoted": quoted,
        "chance": f"{chance:.3f}",
        "score": None if token.score is None else f"{token.score:+.2f}",
        "lens": [
            (f"layer {layer}", short(_written(text), MAX_SEEN), f"{p:.2f}", f"{100 * p:.0f}")
            for layer, (text, p) in enumerate(token.lens)
        ],
        "attended": [
            (short(_written(text), MAX_SEEN), f"{weight:.2f}", f"{100 * weight:.0f}")
            for text, weight in token.attended
        ],
    }


def _context(context: Sequence[tuple[str, float]]) -> list[tuple[str, str, str]]:
    most = max((value for _, value in context), default=0.0) or 1.0
    return [
        (_written(text), f"{0.75 * max(0.0, value) / most:.2f}", f"{value:.2f}")
        for text, value in context
    ]


def _written(text: str) -> str:
    """A token so that all of it is seen; a line's end as a sign."""
    return visible(text.replace("\n", "⏎"))


_ENVIRONMENT = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
_STYLE = """
:root { --paper: #ffffff; --ink: #1b1f24; --muted: #57606a; --line: #dfe3e8; --plain: 122 90 0;
  --high: 163 43 40; --low: 31 88 184; }
@media (prefers-color-scheme: dark) { :root { color-scheme: dark; --paper: #15181d;
  --ink: #e9ecf0; --muted: #a3acb6; --line: #2c323a; --plain: 214 195 90; --high: 240 138 133;
  --low: 110 164 255; } }
body { margin: 0 auto; max-width: 60rem; padding: 1.2rem; background: var(--paper);
  color: var(--ink); font: 16px/1.6 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.35rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 1.6rem 0 0.4rem; }
.note { color: var(--muted); }
.token { font: inherit; color: inherit; border: 0; padding: 0.1em 0.15em; border-radius: 3px;
  white-space: pre-wrap; cursor: pointer; background: rgb(var(--tint) / var(--shade)); }
.token.quoted { text-decoration: underline; text-underline-offset: 0.25em; }
.token:focus-visible, .token[aria-expanded="true"] { outline: 2px solid var(--ink); }
.plain { --tint: var(--plain); } .high { --tint: var(--high); } .low { --tint: var(--low); }
.inside { border: 1px solid var(--line); border-radius: 6px; padding: 0.6rem 0.9rem;
  margin: 0.5rem 0; overflow-x: auto; }
table { border-collapse: collapse; } th, td { text-align: left; padding: 0.1rem 0.8rem 0.1rem 0; }
th { color: var(--muted); font-weight: 400; white-space: nowrap; } td { white-space: pre-wrap; }
.inside p { margin: 0.6rem 0 0.1rem; }
.bar { display: inline-block; height: 0.6em; background: rgb(var(--low)); border-radius: 2px; }
.context { border-bottom: 1px solid var(--line); padding: 0.25rem 0; white-space: pre-wrap; }
"""
_SCRIPT = """
for (const inside of document.querySelectorAll(".inside")) inside.hidden = true;
for (const token of document.querySelectorAll(".token")) {
  token.setAttribute("aria-expanded", "false");
  token.addEventListener("click", () => {
    const inside = document.getElementById(token.getAttribute("aria-controls"));
    const open = inside.hidden;
    for (const each of document.querySelectorAll(".inside")) each.hidden = true;
    for (const each of document.querySelectorAll(".token"))
      each.setAttribute("aria-expanded", "false");
    inside.hidden = !open;
    token.setAttribute("aria-expanded", String(open));
  });
}
"""
_ANSWERS = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{{ style|safe }}</style></head><body><main>
<h1>{{ title }}</h1>
{% for line in about %}<p>{{ line }}</p>{% endfor %}
<p class="note">Choose a token to see what was inside the model before it was written: the likeliest
token by the logit lens at each layer, from the embeddings (layer 0) to the model's own answer.
Underlined tokens stand in quotes.</p>
{% for answer in answers %}
<section><h2>{{ answer.heading }}</h2>
<p class="note">{% if answer.scored %}Red: the probe's score is above 0; blue: below; the deeper,
the further.{% else %}The deeper the shade, the less likely the token was.{% endif %}</p>
<div>{% for t in answer.tokens %}<button type="button" class="token {{ t.tint }}
{%- if t.quoted %} quoted{% endif %}" style="--shade: {{ t.shade }}"
 aria-controls="{{ t.id }}">{{ t.text }}</button>{% if t.breaks %}<br>{% endif %}
{% endfor %}</div>
{% for t in answer.tokens %}
<div class="inside" id="{{ t.id }}"><strong>{{ t.text }}</strong> · probability {{ t.chance }}
{%- if t.score is not none %} · probe {{ t.score }}{% endif %}
<table>{% for layer, text, p, width in t.lens %}
<tr><th scope="row">{{ layer }}</th><td>{{ text }}</td><td>{{ p }}</td>
<td><span class="bar" style="width: {{ width }}px"></span></td></tr>
{% endfor %}</table>
{% if t.attended %}<p class="note">The head {{ head }} looks at</p>
<table>{% for text, weight, width in t.attended %}
<tr><td>{{ text }}</td><td>{{ weight }}</td>
<td><span class="bar" style="width: {{ width }}px"></span></td></tr>
{% endfor %}</table>{% endif %}</div>
{% endfor %}</section>
{% endfor %}</main><script>{{ script|safe }}</script></body></html>
"""
_FEATURES = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{{ style|safe }}</style></head><body><main>
<h1>{{ title }}</h1>
{% for line in about %}<p class="note">{{ line }}</p>{% endfor %}
{% for f in features %}
<section><h2 id="f{{ f.number }}">Feature {{ f.number }}</h2>
<p class="note">Active at {{ f.share }} of the tokens
{%- if f.auroc is not none %}; AUROC for the label {{ f.auroc }}{% endif %}.</p>
{% for context in f.contexts %}
<div class="context high">{% for text, shade, value in context %}<span
 class="token high" style="--shade: {{ shade }}" title="{{ value }}">{{ text }}</span>
{%- endfor %}</div>
{% endfor %}</section>
{% endfor %}</main></body></html>
"""
