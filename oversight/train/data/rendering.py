"""Which rendering a row's text gets: the chat template's, or the text as it stands."""

from __future__ import annotations

from typing import Any

from oversight.errors import ConfigError
from oversight.train.data.cells import BadRow
from oversight.train.data.messages import HH_ANSWER, read_dialogue
from oversight.train.data.records import Dialogue, Text, text_key
from oversight.train.data.settings import DataSettings
from oversight.train.data.turns import Messages, Stretch, Turns
from oversight.train.types import Ids
from oversight.types import Message

PROMPT_ENDS = "the prompt ends with a message of the assistant"


class Renderer:
    """Gives the ids of texts; those of equal prompts are made once and held once.

    Args:
        tokenizer: A transformers tokenizer.
        settings: Says when the chat template is used.

    Raises:
        ConfigError: The template is asked for and there is none.
    """

    def __init__(self, tokenizer: Any, settings: DataSettings) -> None:
        self._always = settings.template == "always"
        self.chat = Turns(tokenizer, settings.template == "never", settings.template_args)
        self.raw = Turns(tokenizer, plain=True)
        self._prompts: dict[str, Ids] = {}
        if self._always and self.chat.plain:
            raise ConfigError(
                "data.template = 'always': the tokenizer has no chat template; "
                "accepted here: auto, never"
            )

    @property
    def control_ids(self) -> frozenset[int]:
        """Ids that no text gives."""
        return self.chat.control_ids

    def prompt(self, text: Text) -> Ids:
        """The ids of a prompt.

        Raises:
            BadRow: The template refuses it, or its last message is the assistant's.
        """
        key = text_key(text)
        found = self._prompts.get(key)
        if found is None:
            turns, messages, _ = self._route(text)
            if messages[-1].role == "assistant":
                raise BadRow(PROMPT_ENDS)
            found = self._prompts[key] = turns.prompt(messages)
        return found

    def answer(self, prompt: Text, content: str) -> Ids:
        """The ids of an answer to `prompt`, ended by its end-of-turn token.

        Raises:
            BadRow: The template refuses it.
        """
        turns, messages, spaced = self._route(prompt)
        return turns.answer(messages, content, spaced)

    def whole(self, content: Text) -> list[Stretch]:
        """The stretches of a dialogue, or of a plain text: its first token is given.

        Raises:
            BadRow: The template refuses it, or it holds no turn of the assistant.
        """
        if isinstance(content, str):
            ids = self.raw.text(content)
            return [Stretch(ids[:1], False), Stretch(ids[1:], True)]
        return self.chat.dialogue(content)

    def _route(self, text: Text) -> tuple[Turns, Messages, bool]:
        """Who encodes it, as which messages, and whether a space goes before an answer."""
        if isinstance(text, Dialogue) and not self.chat.plain:
            return self.chat, read_dialogue(text.removesuffix(HH_ANSWER)), False
        if isinstance(text, str):
            turns = self.chat if self._always else self.raw
            return turns, (Message(role="user", parts=(text,)),), isinstance(text, Dialogue)
        return self.chat, text, len(text) > 1
