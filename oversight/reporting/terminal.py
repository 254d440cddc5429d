"""A transcript in the terminal, whole at any width, every text from outside made visible."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from oversight.reporting.pages import (
    BeliefShown,
    CallNote,
    CallPage,
    TranscriptPage,
    TurnShown,
)
from oversight.text.revisions import Piece
from oversight.text.terminal import rich_text

STYLES = {"verified": "green", "near": "yellow", "unverified": "red", "too_short": "dim"}
STYLES["quoted"] = STYLES["verified"]
MARKS = {"verified": "✓", "near": "≈", "unverified": "✗", "too_short": "·"}
"""Signs behind a quote, so that its status is told without colour."""
SEATS = {"a": "bold blue", "b": "bold magenta", "judge": "bold cyan"}


def print_transcript(page: TranscriptPage, console: Console, *, with_source: bool = False) -> None:
    """Print a transcript: question, turns, judgments, ratings and what people did."""
    console.rule(rich_text(page.id, style="dim"))
    console.print(rich_text(page.question, style="bold"))
    _say(console, f"{page.protocol} · {page.dataset} {page.question_id} · seed {page.seed}")
    for role, text in page.history:
        console.print(rich_text(f"{role}: {text}"))
    for letter, text, right, by in page.options:
        told = "".join(f" ({each})" for each in ("right" if right else "", by) if each)
        console.print(rich_text(f"  {letter}  {text}").append_text(rich_text(told, "dim")))
    for role, name, _ in page.agents:
        _say(console, f"{role}: {name}")
    if page.orders:
        _say(console, page.orders)
    if page.status == "failed":
        console.print(rich_text(f"failed: {page.error}", style="red"))
    elif page.status == "unfinished":
        console.print(rich_text("not finished", style="yellow"))
    for turn in page.turns:
        console.print()
        _print_turn(turn, console)
    for change in page.changes:
        by = ", ".join(change.principles) or "freely"
        console.print()
        console.print(rich_text(f"What critique {change.number} changed ({by})", style="bold"))
        if change.pieces:
            console.print(_pieces(change.pieces, console))
        else:
            _say(console, change.outcome)
    _print_judgments(page, console)
    for rating in page.ratings:
        console.print()
        console.print(rich_text(f"Rating: {rating.task} by {rating.rater}", style="bold"))
        shown = ", ".join(f"turn {n}" if n else "a candidate" for n in rating.turns)
        _say(console, f"of {shown}")
        for name, value in rating.answers:
            console.print(rich_text(f"  {name}: {value}"))
        if rating.rationale:
            console.print(rich_text(rating.rationale))
        for note in rating.notes:
            _say(console, note)
        _print_calls(rating.calls, console)
    if with_source and page.source:
        console.print()
        console.print(rich_text(f"Source {page.source_title}".strip(), style="bold"))
        console.print(_joined(page))
    if page.acts:
        console.print()
        console.print(rich_text("Acts of people", style="bold"))
        for act in page.acts:
            about = ", ".join(place.words for place in act.about)
            at = act.at.partition(".")[0].replace("T", " ")
            console.print(rich_text(f"  {at}  {act.who}  {act.what} {about}  {act.detail}"))
    console.print()


def _print_turn(turn: TurnShown, console: Console, title: str = "") -> None:
    heading = title or f"{turn.number}. {turn.who}"
    line = rich_text(heading, style=SEATS.get(turn.seat, "bold"))
    about = [f"for {turn.defends}" if turn.defends else "", turn.side]
    about += [turn.act, f"round {turn.round}"]
    line.append_text(rich_text("  " + " · ".join(filter(None, about)), style="dim"))
    console.print(line)
    text = rich_text("")
    for part in turn.segments:
        style = STYLES.get(part.status, "")
        text.append_text(rich_text(part.text, style=style))
        if part.status:
            text.append_text(rich_text(f" [{part.quotes[0]}{MARKS[part.status]}]", style="dim"))
    if text.plain.strip():
        console.print(text)
    if turn.belief is not None:
        _print_belief(turn.belief, console)
    for note in turn.quotes:
        if note.status == "near":
            alike = "" if note.similarity is None else f", {note.similarity:.0%} like the source"
            _say(console, f"  quote {note.number}: near{alike}")
            console.print(Text("    ").append_text(_pieces(note.pieces, console)))
        elif note.status != "verified":
            _say(console, f"  quote {note.number}: {note.status}")
    if turn.reasoning:
        _say(console, "private reasoning:")
        console.print(rich_text(turn.reasoning, style="italic dim"))
    for principle in turn.principles:
        _say(console, f"by {principle}")
    if turn.notes:
        _say(console, " · ".join(turn.notes))
    _print_calls(turn.calls, console)
    for other in turn.candidates:
        _print_turn(other, console, "   a candidate that was not chosen")


def _print_belief(belief: BeliefShown, console: Console) -> None:
    word = "INVALID" if belief.verdict == "invalid" else belief.verdict
    console.print(rich_text(f"  {word} ({belief.method})", "red" if word == "INVALID" else "cyan"))
    for option, p, right in belief.probs:
        console.print(
            rich_text(f"  {p:>4.0%}  {option}{'  (right)' if right else ''}".replace("%", " %"))
        )
    if belief.raw:
        console.print(rich_text("  answer as it was written: ", style="dim"), end="")
        console.print(rich_text(belief.raw))


def _print_judgments(page: TranscriptPage, console: Console) -> None:
    for judgment in page.judgments:
        console.print()
        result = {True: ", right", False: ", wrong", None: ""}[judgment.right]
        console.print(rich_text(f"Judgment of {judgment.judge}{result}", style="bold cyan"))
        _print_belief(judgment.belief, console)
        if judgment.rationale:
            console.print(rich_text(judgment.rationale))
        if judgment.leaned_on:
            _say(console, "leaned on quotes " + ", ".join(map(str, judgment.leaned_on)))
        if judgment.notes:
            _say(console, " · ".join(judgment.notes))
        _print_calls(judgment.calls, console)


def _print_calls(calls: tuple[CallNote, ...], console: Console) -> None:
    for call in calls:
        _say(
            console,
            f"  {call.purpose} by {call.model}: {call.prompt_tokens:,} → "
            f"{call.completion_tokens:,} tokens, {call.finish_reason}",
        )


def print_call(call: CallPage, console: Console) -> None:
    """Print one call: the prompt as it was sent, and the answer as it came."""
    console.rule(rich_text(f"{call.note.purpose}, {call.title}", style="dim"))
    if call.missing:
        console.print(rich_text(call.missing, style="yellow"))
    for role, content in call.messages:
        console.print(rich_text(f"[{role}]", style="bold"))
        console.print(rich_text(content), soft_wrap=True)
    if call.reasoning:
        console.print(rich_text("[thought]", style="bold"))
        console.print(rich_text(call.reasoning), soft_wrap=True)
    console.print(rich_text("[answer]", style="bold"))
    console.print(rich_text(call.raw), soft_wrap=True)
    console.print()


def _joined(page: TranscriptPage) -> Text:
    text = rich_text("")
    for part in page.source:
        for number in part.begins:
            text.append_text(rich_text(f"[{number}]", style="dim"))
        text.append_text(rich_text(part.text, style=STYLES.get(part.status, "")))
    return text


def _pieces(pieces: tuple[Piece, ...], console: Console) -> Text:
    """Words with the changed ones marked, by signs where there is no colour."""
    signs = {"kept": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}
    styles = {"kept": "", "removed": "red strike", "added": "green bold"}
    text = rich_text("")
    for piece in pieces:
        opening, closing = ("", "") if console.color_system else signs[piece.change]
        text.append_text(rich_text(opening + piece.text + closing, style=styles[piece.change]))
    return text


def _say(console: Console, words: str) -> None:
    console.print(rich_text(words, style="dim"))
