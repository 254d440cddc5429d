"""Token ids of a prompt, and the words of an answer from the ids that were sampled.

Message contents can never become control tokens. A prompt is rendered by the tokenizer's chat
template, or as plain text by `plain_text` where there is none, and encoded once, without a second
BOS. If that gives exactly the control tokens that the template itself wrote, those are the ids:
equal to `apply_chat_template(tokenize=True)`.

Otherwise a content holds the string of a control token. Then the template is
rendered with placeholders for the contents, control tokens are taken from the
template's own words only, and what stands between two of them (template and
contents together, so that merges across their border stay) is encoded with
control strings as ordinary text.

Of an answer special tokens are left out, but for those that mark thoughts: without them thought and
speech would run together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from oversight.chat import fold_system, plain_text
from oversight.errors import ConfigError, EngineRefusedError
from oversight.text.thoughts import MARK_TOKENS, DividedText, divide, opens_thought
from oversight.types import Message, Prompt

TokenIds = npt.NDArray[np.int64]
"""Token ids in a row, shape [T]."""

# Private-use characters: no template writes them, and contents are not in the text searched.
PLACEHOLDER = "\uf8f0{}\uf8f1"
PLACEHOLDER_PATTERN = re.compile("\uf8f0(\\d+)\uf8f1")
BYTE_TOKEN = re.compile("<0x[0-9A-Fa-f]{2}>")
TEMPLATE_ERRORS = (
    *(jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError),
    ArithmeticError,
)
"""Errors of a template that does not take what it is given."""
PROBE = "The key was in the kitchen. 12 o'clock?"


class ChatIds:
    """Encodes prompts and choices for one tokenizer.

    Args:
        tokenizer: A transformers tokenizer.
        plain: Use the plain rendering even if there is a chat template.
        template_args: Further values for the chat template.

    Raises:
        ConfigError: The tokenizer cannot encode ordinary text, or no chat template that is used
            reads one of `template_args`.
    """

    def __init__(
        self, tokenizer: Any, plain: bool = False, template_args: dict[str, Any] | None = None
    ) -> None:
        self._tokenizer = tokenizer
        self._plain = plain or not tokenizer.chat_template
        self._template_args = template_args or {}
        self._check_args()
        self._control = _control_tokens(tokenizer)
        strings = sorted(self._control, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, strings)) or r"(?!)")
        self._control_ids = set(self._control.values())
        self._check()
        self._bos = self._own_bos() if self._plain else ""
        self._lead = self._find_lead()

    def prompt_ids(self, prompt: Prompt) -> TokenIds:
        """The ids of a prompt, up to where the answer begins.

        Raises:
            EngineRefusedError: The chat template does not take these messages.
        """
        prompt, text = self._rendered(prompt)
        pieces = self._pieces(prompt, text)
        ids = self._encode(text)
        if self._controls(ids) != self._own_controls(pieces):
            ids = self._segmented(pieces)
        if not ids:
            raise EngineRefusedError("the prompt is empty: no message has any content")
        return np.asarray(ids, dtype=np.int64)

    def choice_ids(self, prompt: Prompt, choice: str) -> TokenIds:
        """The ids of a choice as the answer to `prompt`.

        Encoded behind the template's last words, as a tokenizer may write a word otherwise at
        the start of a text; behind a new line where that changes the ids of those words.
        """
        prompt, text = self._rendered(prompt)
        for lead in (self._pieces(prompt, text)[-1][1], "\n"):
            own = self._encode(lead)
            joined = self._encode(lead + choice)
            if joined[: len(own)] == own and not self._controls(joined[len(own) :]):
                return np.asarray(joined[len(own) :], dtype=np.int64)
        return np.asarray(self._ordinary(choice), dtype=np.int64)

    def _check_args(self) -> None:
        """See that each further value is read: one that is misspelt would change nothing."""
        template = "" if self._plain else str(self._tokenizer.chat_template)
        for name in self._template_args:
            if not re.search(rf"\b{re.escape(name)}\b", template):
                why = (
                    "no chat template is used, and none reads it"
                    if self._plain
                    else f"{self._tokenizer.name_or_path or 'this tokenizer'}'s reads no such value"
                )
                raise ConfigError(
                    f"{name} = {self._template_args[name]!r} for the chat template: {why}, so it "
                    "would change nothing; look for its spelling in the model's "
                    "chat_template.jinja, or leave it out"
                )

    def _check(self) -> None:
        """See that ordinary text can be encoded at all."""
        name, kind = self._tokenizer.name_or_path, type(self._tokenizer).__name__
        try:
            ids = self._encode(PROBE)
        except Exception as error:
            raise ConfigError(
                f"the tokenizer of {name!r} ({kind}) cannot encode {PROBE!r}: {error}"
            ) from error
        if not ids:
            raise ConfigError(
                f"the tokenizer of {name!r} ({kind}) encodes {PROBE!r} to nothing; save it with "
                "the model it belongs to and check by reloading"
            )

    def _rendered(self, prompt: Prompt) -> tuple[Prompt, str]:
        """The prompt as one text; system messages are folded if the template takes none."""
        try:
            return prompt, self._render(prompt)
        except TEMPLATE_ERRORS as error:
            folded = fold_system(prompt)
            if folded == prompt:
                raise EngineRefusedError(f"the chat template refused the prompt: {error}") from None
        try:
            return folded, self._render(folded)
        except TEMPLATE_ERRORS as error:
            raise EngineRefusedError(f"the chat template refused the prompt: {error}") from None

    def _render(self, prompt: Prompt) -> str:
        if self._plain:
            return self._bos + plain_text(prompt)
        rendered: str = self._tokenizer.apply_chat_template(
            prompt.chat(), tokenize=False, add_generation_prompt=True, **self._template_args
        )
        return rendered

    def _pieces(self, prompt: Prompt, text: str) -> list[tuple[bool, str]]:
        """The rendered text in pieces: (is a content, its text), a template piece last.

        A template may strip contents, which placeholders do not show: whichever of the contents
        as given and stripped gives the true rendering is taken.
        """
        holes = Prompt(
            messages=tuple(
                Message(role=message.role, parts=(PLACEHOLDER.format(i),))
                for i, message in enumerate(prompt.messages)
            )
        )
        parts = PLACEHOLDER_PATTERN.split(self._render(holes))
        contents = [message.content for message in prompt.messages]
        filled = [(bool(i % 2), contents[int(p)] if i % 2 else p) for i, p in enumerate(parts)]
        stripped = [(is_content, p.strip() if is_content else p) for is_content, p in filled]
        return stripped if "".join(p for _, p in stripped) == text else filled

    def _encode(self, text: str, ordinary: bool = False) -> list[int]:
        encoded = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=ordinary, verbose=False
        )
        ids: list[int] = encoded["input_ids"]
        return ids

    def _controls(self, ids: Sequence[int]) -> list[int]:
        return [i for i in ids if i in self._control_ids]

    def _own_controls(self, pieces: list[tuple[bool, str]]) -> list[int]:
        """Ids of the control tokens that the template itself wrote."""
        own = "\0".join(piece for is_content, piece in pieces if not is_content)
        return [self._control[found] for found in self._pattern.findall(own)]

    def _segmented(self, pieces: list[tuple[bool, str]]) -> list[int]:
        """Ids with control tokens from template pieces only."""
        ids: list[int] = []
        stretch = ""
        for is_content, piece in pieces:
            if is_content:
                stretch += piece
                continue
            position = 0
            for found in self._pattern.finditer(piece):
                ids += self._ordinary(stretch + piece[position : found.start()], first=not ids)
                ids.append(self._control[found.group()])
                stretch, position = "", found.end()
            stretch += piece[position:]
        return ids + self._ordinary(stretch, first=not ids)

    def _ordinary(self, text: str, first: bool = False) -> list[int]:
        """Ids of a text in which no control string counts as one."""
        if not text:
            return []
        ids = self._lead_encoded(text, first)
        if not self._controls(ids):
            return ids
        # The tokenizer knows the control string as a whole word as well, or has made one of other
        # letters: cut inside it, down to single characters if need be.
        if len(text) == 1:
            return [] if text in self._control else ids
        found = self._pattern.search(text)
        cut = found.start() + 1 if found and found.start() + 1 < len(text) else len(text) // 2
        return self._ordinary(text[:cut], first) + self._ordinary(text[cut:])

    def _lead_encoded(self, text: str, first: bool) -> list[int]:
        """Ids of a text that stands behind a control token, or first of all."""
        if first or not self._lead:
            return self._encode(text, ordinary=True)
        lead = self._encode(self._lead, ordinary=True)
        ids = self._encode(self._lead + text, ordinary=True)
        return ids[len(lead) :] if ids[: len(lead)] == lead else self._encode(text, ordinary=True)

    def _find_lead(self) -> str:
        """Returns text to put before another so that it is encoded as behind a control token.

        SentencePiece tokenizers write a space before the first word of a text, and many of
        them before the very first text only.
        """
        alone = self._encode("a", ordinary=True)
        for string, control_id in self._control.items():
            behind = self._encode(string + "a")
            if behind[:1] == [control_id]:
                return "" if behind[1:] == alone else "\n"
        return ""

    def _own_bos(self) -> str:
        """The BOS string, if this tokenizer begins every text with it."""
        ids = self._tokenizer(PROBE, verbose=False)["input_ids"]
        bos_id = self._tokenizer.bos_token_id
        return self._tokenizer.bos_token if bos_id is not None and ids[:1] == [bos_id] else ""


def _control_tokens(tokenizer: Any) -> dict[str, int]:
    """Strings that stand for control tokens: the special ones, and those the template writes.

    The unknown token is none, nor are the tokens of single bytes: ordinary text gives them.
    """
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    added = tokenizer.added_tokens_decoder.items()
    control = {str(token): int(i) for i, token in added if token.special or str(token) in template}
    control |= dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    control.pop(tokenizer.unk_token, None)
    return {
        string: i
        for string, i in control.items()
        if string and i != tokenizer.unk_token_id and not BYTE_TOKEN.fullmatch(string)
    }


REPLACEMENT = "\ufffd"
"""The character that decoding gives for bytes that are not, or not yet, a character."""
PROMPT_END_TOKENS = 24
"""Of a prompt: in so many a chat template opens a thought."""


class AnswerDecoder:
    """Decodes answers of one model, and divides them into speech and thoughts.

    Args:
        tokenizer: The model's.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        known = getattr(tokenizer, "added_tokens_decoder", {})
        names = {i: str(token) for i, token in known.items() if token.special}
        self._marks = {i: name for i, name in names.items() if MARK_TOKENS.match(name)}

    def text(self, token_ids: Sequence[int]) -> str:
        """The words of token ids, with the marks of thoughts among them."""
        found, begin = "", 0
        if self._marks:
            for place, token_id in enumerate(token_ids):
                if token_id in self._marks:
                    found += self._plain(token_ids[begin:place]) + self._marks[token_id]
                    begin = place + 1
        return found + self._plain(token_ids[begin:])

    def is_thinking(self, prompt_ids: TokenIds) -> bool:
        """True if a prompt ends within a thought, which the answer goes on with."""
        return opens_thought(self._tokenizer.decode(prompt_ids[-PROMPT_END_TOKENS:].tolist()))

    def said(self, prompt_ids: TokenIds, answer_ids: TokenIds) -> DividedText:
        """The public words of a whole answer and its thoughts.

        Bytes at its end that are no whole character are left off, as servers do.
        """
        written = self.text(answer_ids.tolist()).rstrip(REPLACEMENT)
        return divide(written, self.is_thinking(prompt_ids))

    def public_ids(self, prompt_ids: TokenIds, answer_ids: TokenIds, finished: bool) -> TokenIds:
        """The tokens of what an answer says: its own where it holds no thought."""
        said = self.said(prompt_ids, answer_ids)
        if not (said.thoughts or said.cut):
            return answer_ids
        ids = list(self._tokenizer(said.text, add_special_tokens=False)["input_ids"])
        end = self._tokenizer.eos_token_id
        if end is not None and (finished or not ids):
            ids.append(end)
        return np.array(ids, dtype=answer_ids.dtype)

    def _plain(self, token_ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(
            token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text
