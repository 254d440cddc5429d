"""Small screens over the others: words to be written, one thing of several, the keys, a judgment.

A judgment has a last look before it is sent, and its result after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Generic, Literal, TypeVar

from rich.cells import cell_len
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, OptionList, Static, TextArea
from textual.widgets.option_list import Option

from oversight.judging.session import DebateSession
from oversight.judging.tasks.debate import NAME_OF_VERDICT, CalibrationBin, JudgmentScore
from oversight.text.numbers import percent
from oversight.text.terminal import rich_text
from oversight.tui.keys import Keys, key_of
from oversight.types import Judgment, Question, Verdict

T = TypeVar("T")

MOST_LISTED = 8
"""Turns that are listed one by one."""


class WordsScreen(ModalScreen[str | None]):
    """Asks for words; None if it was left without."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "send", "Send"),
        Binding("escape", "leave", "Back", priority=True),
    ]

    def __init__(
        self,
        title: str,
        text: str = "",
        *,
        hint: str = "",
        on_change: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._hint = hint
        self._on_change = on_change

    def compose(self) -> ComposeResult:
        """A title, the words, the keys."""
        with Vertical(classes="dialog"):
            yield Static(Text(self._title, style="bold"))
            if self._hint:
                yield Static(Text(self._hint))
            yield TextArea(self._text, id="words")
            yield Static(Text("Ctrl+S sends · Esc goes back, the draft is kept"), classes="keys")

    def on_mount(self) -> None:
        """Begin to write at the end."""
        area = self.query_one(TextArea)
        area.focus()
        area.move_cursor(area.document.end)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Keep the draft."""
        if self._on_change is not None:
            self._on_change(event.text_area.text)

    def action_send(self) -> None:
        """Give the words back."""
        self.dismiss(self.query_one(TextArea).text.strip())

    def action_leave(self) -> None:
        """Go back without."""
        self.dismiss(None)


class LineScreen(ModalScreen[str | None]):
    """Asks for a line of words."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back", priority=True)]

    def __init__(self, title: str, text: str = "") -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        """A title and the line."""
        with Vertical(classes="dialog"):
            yield Static(Text(self._title, style="bold"))
            yield Input(self._text, id="line")
            yield Static(Text("Enter takes it · Esc goes back"), classes="keys")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the line back."""
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        """Go back without."""
        self.dismiss(None)


class ChoiceScreen(ModalScreen[T | None], Generic[T]):
    """Asks for one of several."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back", priority=True)]

    def __init__(self, title: str, choices: Sequence[tuple[T, str]]) -> None:
        super().__init__()
        self._title = title
        self._choices = list(choices)

    def compose(self) -> ComposeResult:
        """A title and the choices, each with a digit that takes it."""
        with Vertical(classes="dialog"):
            yield Static(Text(self._title, style="bold"))
            yield OptionList(
                *(
                    Option(Text(f"{number}  {name}"))
                    for number, (_, name) in enumerate(self._choices, start=1)
                )
            )
            yield Static(Text("A digit or Enter takes one · Esc goes back"), classes="keys")

    def on_mount(self) -> None:
        """Choose by arrows at once."""
        self.query_one(OptionList).focus()

    def on_key(self, event: object) -> None:
        """A digit takes its choice."""
        character = getattr(event, "character", None) or ""
        if character.isdigit() and 1 <= int(character) <= len(self._choices):
            self.dismiss(self._choices[int(character) - 1][0])

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter takes the one under the cursor."""
        self.dismiss(self._choices[event.option_index][0])

    def action_leave(self) -> None:
        """Go back without."""
        self.dismiss(None)


class UnreadScreen(ModalScreen[Literal["read", "anyway"] | None]):
    """Asks before something is answered of which a part was never on the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "answer('read')", "Read", priority=True),
        Binding("y", "answer('anyway')", "Anyway", priority=True),
        Binding("escape", "answer(None)", "Back", priority=True),
    ]

    def __init__(self, unread: Sequence[tuple[str, float]]) -> None:
        """A dialog about turns by name, each with the share of it that was on the screen."""
        super().__init__()
        self._unread = list(unread)

    def compose(self) -> ComposeResult:
        """The number of turns, their names, the keys."""
        listed = Text()
        for name, share in self._unread[:MOST_LISTED]:
            part = f"{percent(share)} of it was" if share else "none of it was"
            listed.append_text(rich_text(f"  {name}: ")).append(f"{part}\n")
        if len(self._unread) > MOST_LISTED:
            listed.append(f"  and {len(self._unread) - MOST_LISTED} more\n")
        with Vertical(classes="dialog"):
            yield Static(Text(unread_words([share for _, share in self._unread]), style="bold"))
            yield VerticalScroll(Static(listed))
            yield Static(
                Text("Read them (Enter) or answer anyway (y)? Esc goes back"), classes="keys"
            )

    def action_answer(self, answer: Literal["read", "anyway"] | None) -> None:
        """Give it back."""
        self.dismiss(answer)


def unread_words(shares: Sequence[float]) -> str:
    """The numbers of turns never on the screen, and on it in part, as a sentence."""
    never, in_part = shares.count(0.0), len(shares) - shares.count(0.0)
    if never and in_part:
        return f"{_turns(never)} never on your screen, {in_part} only in part."
    return (
        f"{_turns(never)} never on your screen."
        if never
        else (f"{_turns(in_part)} only in part on your screen.")
    )


def _turns(num: int) -> str:
    return "1 turn was" if num == 1 else f"{num} turns were"


class KeysScreen(ModalScreen[None]):
    """All keys of a screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,enter,q", "leave", "Back", priority=True)
    ]

    def __init__(
        self, names: Sequence[str], changes: Mapping[str, str], keys: Keys, foot: Sequence[str]
    ) -> None:
        """A list of the keys with these names, changed so, and lines below them."""
        super().__init__()
        self._names = names
        self._changes = changes
        self._keys = keys
        self._foot = foot

    def compose(self) -> ComposeResult:
        """Two columns of keys where there is room."""
        entries = [
            f"{key_of(name, self._changes, self._keys):>6}  {self._keys[name][1]}"
            for name in self._names
        ]
        width = min(34, (self.app.size.width - 8) // 2)
        num_columns = 2 if max(map(cell_len, entries)) < width else 1
        height = -(-len(entries) // num_columns)
        table = Text()
        for row in range(height):
            table.append("".join(f"{each:<{width}}" for each in entries[row::height]) + "\n")
        for line in self._foot:
            table.append(f"\n{line}")
        with Vertical(classes="dialog"):
            yield Static(Text("Keys", style="bold"))
            yield VerticalScroll(Static(table))
            yield Static(Text("Esc goes back"), classes="keys")

    def action_leave(self) -> None:
        """Go back."""
        self.dismiss(None)


MIN_WIDTH, MIN_HEIGHT = 60, 16


class RoomyScreen(Screen[T]):
    """Has a Static `too-small`, which shows instead of all else while there is too little room.

    In the line at its foot stand only keys that do something as things are.
    """

    def offers(self, name: str) -> bool:
        """True if the key of that name does something now."""
        return True

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """All keys that are bound; those that do nothing now are kept from the foot."""
        return {
            key: each
            if not each.binding.show or self.offers(each.binding.id or "")
            else each._replace(binding=replace(each.binding, show=False))
            for key, each in super().active_bindings.items()
        }

    def show_foot(self) -> None:
        """Draw the foot anew if other keys are to stand there."""
        shown = [each.binding.action for each in self.active_bindings.values() if each.binding.show]
        if shown != self._foot:
            self._foot = shown
            self.refresh_bindings()

    _foot: Sequence[str] = ()

    def on_resize(self, event: Resize) -> None:
        """Ask for more room, or show all again."""
        width, height = event.size
        self.set_class(width < MIN_WIDTH or height < MIN_HEIGHT, "-too-small")
        for shown in self.query("#too-small").results(Static):
            shown.update(
                Text(
                    f"This terminal has {width} × {height} cells; this screen needs "
                    f"{MIN_WIDTH} × {MIN_HEIGHT}. Make it larger. Your work is kept."
                )
            )


Then = Literal["next", "revise", "queue"]


class SentScreen(ModalScreen[Then]):
    """Says that the judgment is in the store, and asks what comes next."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "then('next')", "Next", priority=True),
        Binding("r", "then('revise')", "Revise", priority=True),
        Binding("escape,q", "then('queue')", "Queue", priority=True),
    ]

    def __init__(
        self,
        judgment: Judgment,
        question: Question,
        result: JudgmentScore | None,
        strip: Sequence[CalibrationBin],
        models: Sequence[str],
    ) -> None:
        super().__init__()
        self._judgment = judgment
        self._question = question
        self._result = result
        self._strip = strip
        self._models = models

    def compose(self) -> ComposeResult:
        """The judgment that was sent, its score, the calibration strip, the keys."""
        with Vertical(classes="dialog"):
            yield VerticalScroll(Static(self._text()))
            yield Static(Text("Enter next item · r revise · Esc queue"), classes="keys")

    def _text(self) -> Text:
        number = self._judgment.revision
        whole = Text().append("✓ Sent", style="bold green")
        whole.append(f", revision {number}: the earlier ones are kept." if number else ".")
        if self._result is not None:
            whole.append_text(self._score(self._result))
            if any(each.num for each in self._strip):
                whole.append("\n\nHow sure you were, and how often you were right:\n", "bold")
                whole.append_text(strip_text(self._strip))
        if self._models:
            whole.append("\n\nSpoken by: ").append_text(rich_text(", ".join(self._models)))
        return whole

    def _score(self, result: JudgmentScore) -> Text:
        text = Text("\n\nRight is: ").append_text(
            rich_text(self._question.options[result.correct].text, "bold")
        )
        sign, style = {None: ("", ""), True: ("✓ ", "green"), False: ("✗ ", "red")}[result.right]
        text.append(f"\n{sign}{result.outcome_words}", style=style)
        return text.append(f"  {result.score_words.replace('-', '−')}")

    def action_then(self, then: Then) -> None:
        """Go on."""
        self.dismiss(then)


def strip_text(strip: Sequence[CalibrationBin]) -> Text:
    """A row for each stretch of confidence: a bar of how often the judge was right."""
    text = Text()
    for each in strip:
        text.append(f"  {each.low:3.0%}–{each.high:4.0%}  ")
        if each.num:
            share = each.num_right / each.num
            bar = round(share * 20)
            text.append("█" * bar + "░" * (20 - bar), style="yellow")
            text.append(f" {share:4.0%} of {each.num}\n")
        else:
            text.append("–\n", style="dim")
    return text


MOST_CHARS = 120
"""Of an option: so that the probabilities of all of them are in sight."""


class VerdictScreen(ModalScreen[bool]):
    """True: send it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "send", "Send", priority=True),
        Binding("ctrl+b,f2", "verdict('decided')", "As believed", priority=True),
        Binding("ctrl+t,f8", "verdict('tie')", "Tie", priority=True),
        Binding("ctrl+n,f9", "verdict('abstain')", "Cannot tell", priority=True),
        Binding("escape", "leave", "Back", priority=True),
    ]

    def __init__(
        self,
        session: DebateSession,
        options: list[tuple[str, str, int]],
        on_rationale: Callable[[str], None],
    ) -> None:
        """A verdict in `session`; options are (letter, text, index) in the order of the listing."""
        super().__init__()
        self._session = session
        self._item = session.item
        self._options = options
        self._on_rationale = on_rationale

    def compose(self) -> ComposeResult:
        """The judgment to be sent, the rationale, anything missing, the keys."""
        with Vertical(classes="dialog"):
            yield VerticalScroll(Static(id="verdict"), id="decided", can_focus=False)
            yield Static(Text("Why? What was it that decided?", style="bold"))
            yield TextArea(self._item.acts.work.draft.rationale, id="rationale")
            yield Static(id="missing")
            yield Static(classes="keys")

    def on_mount(self) -> None:
        """Write the rationale at once."""
        self.query_one(TextArea).focus()
        self._show()

    def _show(self) -> None:
        draft = self._item.acts.work.draft
        whole = Text("Your judgment: ")
        whole.append(NAME_OF_VERDICT[draft.verdict], style="bold reverse")
        if draft.verdict is Verdict.DECIDED and draft.probs is not None:
            for label, text, index in self._options:
                whole.append(f"\n  {label} {draft.probs[index]:4.0%}  ")
                words = " ".join(text.split())
                is_long = len(words) > MOST_CHARS
                whole.append_text(rich_text(words[: MOST_CHARS - 1] + "…" if is_long else words))
        number = len(draft.leaned_on)
        quotes = "1 quote" if number == 1 else f"{number or 'no'} quotes"
        if any(turn.quotes for turn in self._item.turns()):
            whole.append(f"\nYou lean on {quotes} of the debate.", style="dim")
        self.query_one("#verdict", Static).update(whole)
        refusal = self._session.missing()
        said = "" if refusal is None else refusal.words
        belief = self._session.missing(need_rationale=False) is not None
        if belief:
            said += (
                " Esc goes back to the belief, where arrows and digits set it; here Ctrl+T says "
                "that it is a tie, Ctrl+N that it cannot be told."
            )
        self.query_one("#missing", Static).update(Text(said, style="bold red"))
        sends = "" if belief else "Ctrl+S sends · "
        verdicts = "Ctrl+T/F8 tie · Ctrl+N/F9 cannot tell · Ctrl+B/F2 as believed"
        keys = f"{sends}Esc goes back, the draft is kept\n{verdicts}"
        self.query_one(".keys", Static).update(Text(keys))

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Keep the draft."""
        self._on_rationale(event.text_area.text)
        self._show()

    def action_verdict(self, verdict: str) -> None:
        """Decide, or say why not."""
        self._session.decide(Verdict(verdict))
        self._show()

    def action_send(self) -> None:
        """Send it, if nothing is missing."""
        self._on_rationale(self.query_one(TextArea).text)
        if self._session.missing() is not None:
            self._show()
            self.app.bell()
            return
        self.dismiss(True)

    def action_leave(self) -> None:
        """Back to the debate; the draft is kept."""
        self.dismiss(False)
