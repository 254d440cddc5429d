"""`oversight inspect`: a debate token by token, with what was inside the model at each."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oversight.cli.options import DEFAULT_STORE, Json, Store, complete_models, show_table

if TYPE_CHECKING:
    from oversight.interp.inspecting import InspectedAnswer


def inspect(
    debate: Annotated[
        str,
        typer.Argument(
            help="Id of a debate, or its beginning; not needed where the store has one.",
            show_default=False,
        ),
    ] = "",
    store: Store = DEFAULT_STORE,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="The model that spoke, or one trained from it: a folder or an embedded one.",
            autocompletion=complete_models,
        ),
    ] = "seedling",
    turn: Annotated[
        int | None,
        typer.Option(min=1, help="Only the answer of this number.", show_default="all"),
    ] = None,
    probe: Annotated[
        Path | None,
        typer.Option(help="A fitted probe's file, whose score is shown.", show_default=False),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            metavar="LAYER.HEAD",
            help="Show the tokens that this head looks at.",
            show_default=False,
        ),
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(help="Folder for a picture of each answer.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a debate's answers token by token, with the logit lens of every layer.

    For each token of an answer: its probability, the likeliest token at each layer before it was
    written, and on demand a probe's score and what a head looked at. The model is read again over
    the stored token ids. This is no log of the evaluation tool Inspect: docs/interpretability.md.
    """
    from dataclasses import asdict

    from transformers import AutoTokenizer

    from oversight.errors import ConfigError, StoreError
    from oversight.interp.inspecting import draw_answer, inspect_debate
    from oversight.interp.probes import FittedProbe
    from oversight.interp.reading import SiteReader
    from oversight.models import resolve
    from oversight.store import Store as Records

    with Records.open(store, create=False, only_read=True) as opened:
        found = opened.find_debates(debate) if debate else opened.debate_ids()
        if len(found) != 1:
            told = f"{len(found)} begin so" if found else "none begins so"
            raise StoreError(
                f"{opened.url}: no debate {debate!r} ({told}); `oversight show` lists the newest"
            )
        reader = SiteReader.load(model)
        fitted = None
        if probe is not None:
            fitted = FittedProbe.read(probe, model=reader.name, tokenizer=reader.tokenizer)
        tokenizer = AutoTokenizer.from_pretrained(resolve(model))
        answers = inspect_debate(
            opened, found[0], reader, tokenizer, probe=fitted, attention=attention
        )
    if turn is not None and turn > len(answers):
        raise ConfigError(f"--turn {turn}: the debate has {len(answers)} answers of models")
    chosen = list(enumerate(answers, 1)) if turn is None else [(turn, answers[turn - 1])]
    for number, answer in chosen if png is not None else ():
        draw_answer(answer, Path(str(png)) / f"answer-{number}.png")
    if as_json:
        typer.echo(json.dumps([asdict(answer) for _, answer in chosen], indent=2))
        return
    for number, answer in chosen:
        _show(number, answer)


def _show(number: int, answer: InspectedAnswer) -> None:
    """Print one answer as a table."""
    side = ""
    if answer.defends_right is not None:
        side = f", defends the {'right' if answer.defends_right else 'wrong'} option"
    columns = ["token", "quoted", "probability"]
    columns += [f"layer {k}" for k in range(len(answer.tokens[0].lens) if answer.tokens else 0)]
    scored = any(token.score is not None for token in answer.tokens)
    seen = any(token.attended for token in answer.tokens)
    columns += ["probe"] * scored + ["looks at"] * seen
    rows = []
    for k, token in enumerate(answer.tokens):
        quoted = "yes" if k in answer.quoted else ""
        row = [repr(token.text), quoted, f"{math.exp(token.logprob):.2f}"]
        row += [f"{text.strip()} {p:.2f}" for text, p in token.lens]
        row += [f"{token.score:+.2f}"] if token.score is not None else []
        row += [" ".join(f"{text.strip()} {w:.2f}" for text, w in token.attended)] * seen
        rows.append(row)
    heading = f"Answer {number}: {answer.role} {answer.seat}, {answer.act}{side}"
    show_table(heading, columns, rows, as_json=False)
