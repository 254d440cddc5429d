"""`oversight inspect`: a debate token by token, with what was inside the model at each."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oversight.cli.options import DEFAULT_STORE, Json, Store, complete_models, show_table

PNG = ".png"
MAX_WORD, NUM_SHOWN = 16, 3
"""Characters of a token in the table, and tokens that a head looked at there."""

if TYPE_CHECKING:
    from oversight.interp.inspecting import InspectedAnswer
    from oversight.store import Store as Records


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
        typer.Option(
            help="Folder for a picture of each answer; with --turn, a PNG file as well.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A page: choose a token to see inside.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a debate's answers token by token, with the logit lens of every layer.

    For each token of an answer: its probability, the likeliest token at each layer before it was
    written, and on demand a probe's score and what a head looked at. The model is read again over
    the stored token ids. This is no log of the evaluation tool Inspect: docs/interpretability.md.
    """
    from dataclasses import asdict

    from oversight.errors import ConfigError
    from oversight.files import check_place, write_text
    from oversight.store import Store as Records

    if html is not None:
        check_place(html, "--html")
    if png is not None:
        _check_pictures(png, turn)
    with Records.open(store, create=False, only_read=True) as opened:
        id_ = _debate_of(opened, debate)
        # Not before: a wrong place or name is told at once.
        from transformers import AutoTokenizer

        from oversight.interp.inspecting import (
            about_debate,
            answers_page,
            draw_answer,
            inspect_debate,
        )
        from oversight.interp.probes import FittedProbe
        from oversight.interp.reading import SiteReader
        from oversight.models import resolve

        reader = SiteReader.load(model)
        fitted = None
        if probe is not None:
            fitted = FittedProbe.read(probe, model=reader.name, tokenizer=reader.tokenizer)
        tokenizer = AutoTokenizer.from_pretrained(resolve(model))
        answers = inspect_debate(opened, id_, reader, tokenizer, probe=fitted, attention=attention)
        about = about_debate(opened, id_)
    if turn is not None and turn > len(answers):
        raise ConfigError(f"--turn {turn}: the debate has {len(answers)} answers of models")
    chosen = list(enumerate(answers, 1)) if turn is None else [(turn, answers[turn - 1])]
    for number, answer in chosen if png is not None else ():
        folder = Path(str(png))
        place = folder if folder.suffix == PNG else folder / f"answer-{number}.png"
        draw_answer(answer, place)
    if html is not None:
        title = f"Inside debate {id_}, read by {model}"
        page = answers_page(title, [each for _, each in chosen], about, attention or "")
        write_text(html, page, "--html")
    if as_json:
        typer.echo(json.dumps([asdict(answer) for _, answer in chosen], indent=2))
        return
    for number, answer in chosen:
        _show(number, answer)


def _check_pictures(png: Path, turn: int | None) -> None:
    """Refuse a place that answers cannot be drawn at.

    Raises:
        ConfigError: It reads as one file, and there are pictures of all answers.
        FileError: Nothing can be written there.
    """
    from oversight.errors import ConfigError
    from oversight.files import check_place

    is_file = png.suffix == PNG
    if is_file and turn is None:
        raise ConfigError(
            f"--png {png}: each answer has a picture of its own; name a folder for them, or the "
            "one answer that is drawn, with --turn"
        )
    check_place(png, "--png", is_folder=not is_file)


def _debate_of(opened: Records, given: str) -> str:
    """The whole id of the debate that is meant.

    Raises:
        StoreError: There is none, or several.
    """
    from oversight.errors import StoreError

    found = opened.find_debates(given) if given else opened.debate_ids()
    if len(found) == 1 or given in found:
        return given if given in found else found[0]
    listed = f"`oversight show --store {opened.url}` lists them"
    if given:
        begin = f"{len(found):,} begin" if found else "none begins"
        raise StoreError(f"{opened.url}: no debate {given!r} ({begin} so); {listed}")
    if not found:
        raise StoreError(f"{opened.url} holds no debate yet; `oversight debate` makes some")
    raise StoreError(
        f"{opened.url} holds {len(found):,} debates: name one, by its id or its beginning; {listed}"
    )


def _show(number: int, answer: InspectedAnswer) -> None:
    """Print one answer as a table."""
    from oversight.evals.drawing import short

    def word(text: str) -> str:
        return short(text.strip() or "·", MAX_WORD)

    columns = ["token", "quoted", "p"]
    columns += [f"layer {k}" for k in range(len(answer.tokens[0].lens) if answer.tokens else 0)]
    scored = any(token.score is not None for token in answer.tokens)
    seen = any(token.attended for token in answer.tokens)
    columns += ["probe"] * scored + ["looks at"] * seen
    rows = []
    for k, token in enumerate(answer.tokens):
        quoted = "yes" if k in answer.quoted else ""
        row = [repr(token.text), quoted, f"{math.exp(token.logprob):.2f}"]
        row += [f"{word(text)} {p:.2f}" for text, p in token.lens]
        row += [f"{token.score:+.2f}"] if token.score is not None else []
        row += [", ".join(f"{word(text)} {w:.2f}" for text, w in token.attended[:NUM_SHOWN])] * seen
        rows.append(row)
    show_table(f"Answer {number}: {answer.heading}", columns, rows, as_json=False)
