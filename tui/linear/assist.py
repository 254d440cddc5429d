"""The assistant line by line."""

from __future__ import annotations

from oversight.judging.assisting import Assistants, assist
from oversight.judging.desk import Item
from oversight.judging.draws import is_assisted
from oversight.judging.judgment import stated
from oversight.tui.linear.lines import Lines, Write
from oversight.tui.linear.text import indented, one_line, own_words
from oversight.tui.naming import named_by_seat
from oversight.tui.widgets.assistant import NAME_OF_HELP
from oversight.types import Help, HelpRequest, Turn


class LinearAssistant:
    """Asks the assistant of one item."""

    def __init__(self, assistants: Assistants, item: Item, write: Write) -> None:
        self._assistants = assistants
        self._item = item
        self._write = write

    async def ask(self, rest: str, shown: tuple[Turn, ...]) -> None:
        """Ask for help by its number, which further words may follow; without one, list it.

        Raises:
            OversightError: There is no agent of the assistant's name.
        """
        arm = self._item.acts.work.arm
        if arm is None or not is_assisted(arm):
            drawn = "as it was drawn for the study" if arm else "none is described in a study file"
            self._write(f"This item comes without an assistant: {drawn}.")
            return
        able = self._assistants.kinds_of_help(arm)
        number, _, text = rest.partition(" ")
        if not (number.isdecimal() and 1 <= int(number) <= len(able)):
            self._write("What for? assist and a number:")
            names = NAME_OF_HELP | {Help.CRITIQUE: "Criticise a turn: its number follows"}
            self._write("\n".join(f"{n}. {names[each]}" for n, each in enumerate(able, 1)))
            return
        request = self._request(able[int(number) - 1], text.strip(), shown)
        if request is not None:
            self._write("The assistant:")
            heard = Lines(lambda line: self._write(indented(own_words(line))))
            reason = await assist(self._assistants, self._item, arm, request, shown, heard.take)
            heard.end()
            said = self._item.acts.work.assistance[-1].text
            if note := named_by_seat(self._item.transcript.debate, [said]):
                self._write(note)
            self._write("The assistant has ended." if reason is None else one_line(reason))

    def _request(self, chosen: Help, text: str, shown: tuple[Turn, ...]) -> HelpRequest | None:
        if chosen in (Help.CHECK, Help.FREE) and not text:
            self._write("Say what: your words follow the number.")
        elif chosen is Help.CRITIQUE:
            if text.isdecimal() and 1 <= int(text) <= len(shown):
                return HelpRequest(chosen, turn=shown[int(text) - 1])
            self._write("Which turn? Its number follows.")
        elif chosen is Help.AGAINST:
            probs = self._item.acts.work.draft.probs
            if probs is not None:
                return HelpRequest(chosen, belief=stated(probs))
            self._write("You have said no belief yet that it could argue against.")
        else:
            return HelpRequest(chosen, text if chosen in (Help.CHECK, Help.FREE) else "")
        return None
