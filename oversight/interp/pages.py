"""Self-contained pages: a debate token by token, and the features of a sparse autoencoder.

`answers_page` shows each answer's words, shaded by a probe's score or else by their probability;
choosing a token opens what was inside before it was written: the logit lens of every layer, the
probe's score, and what the asked-for head looked at. `features_page` lists features with the
contexts in which they are strongest. A page is one file without any address in it: it opens from a
disk, says the same without scripts, and everything that a model wrote is escaped.

Shapes: P tokens of a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, StrictUndefined

from oversight.interp.inspecting import InspectedAnswer, InspectedToken
from oversight.text.terminal import visible

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


def answers_page(title: str, answers: Sequence[InspectedAnswer]) -> str:
    """HTML of a debate's answers token by token."""
    shown = [
        {
            "heading": _heading(number, answer),
            "scored": any(token.score is not None for token in answer.tokens),
            "tokens": [
                _token(token, number, k, quoted=k in answer.quoted)
                for k, token in enumerate(answer.tokens)
            ],
        }
        for number, answer in enumerate(answers, 1)
    ]
    return _ENVIRONMENT.from_string(_ANSWERS).render(
        title=visible(title), answers=shown, style=_STYLE, script=_SCRIPT
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


def _heading(number: int, answer: InspectedAnswer) -> str:
    side = ""
    if answer.defends_right is not None:
        side = f", defends the {'right' if answer.defends_right else 'wrong'} option"
    return visible(f"Answer {number}: {answer.role} {answer.seat}, {answer.act}{side}")


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
            (f"layer {layer}", _written(text), f"{p:.2f}", f"{100 * p:.0f}")
            for layer, (text, p) in enumerate(token.lens)
        ],
        "attended": [(_written(text), f"{weight:.2f}") for text, weight in token.attended],
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
h1 { font-size: 1.35rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 0.4rem; }
.note { color: var(--muted); }
.token { font: inherit; color: inherit; border: 0; padding: 0.1em 0.15em; border-radius: 3px;
  white-space: pre-wrap; cursor: pointer; background: rgb(var(--tint) / var(--shade)); }
.token.quoted { text-decoration: underline; text-underline-offset: 0.25em; }
.token:focus-visible, .token[aria-expanded="true"] { outline: 2px solid var(--ink); }
.plain { --tint: var(--plain); } .high { --tint: var(--high); } .low { --tint: var(--low); }
.inside { border: 1px solid var(--line); border-radius: 6px; padding: 0.6rem 0.9rem;
  margin: 0.5rem 0; overflow-x: auto; }
table { border-collapse: collapse; } th, td { text-align: left; padding: 0.1rem 0.8rem 0.1rem 0; }
th { color: var(--muted); font-weight: 400; } td { white-space: pre; }
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
<p class="note">Choose a token to see what was inside the model before it was written. Underlined
tokens stand in quotes.</p>
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
{% if t.attended %}<p>The head looks at
{% for text, weight in t.attended %}{{ text }} ({{ weight }}){{ ", " if not loop.last }}
{%- endfor %}</p>{% endif %}</div>
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
