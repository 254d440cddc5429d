"""Prompts and dialogues as a chat template writes them, and the token ids that come of it.

`prompt_ids` encodes what an engine is asked, `turns` what a trainer learns from. Neither lets the
words of a message become a control token. Here stand the forms of a prompt that need no tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, JsonValue

from oversight.types import Message, Prompt

OWN_ARGS = frozenset(
    {
        *("conversation", "conversations", "messages", "chat_template", "add_generation_prompt"),
        *("continue_final_message", "tokenize", "padding", "truncation", "max_length"),
        *("return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"),
    }
)
"""Values that whoever renders a prompt gives to the chat template, or to transformers."""


def checked_template_args(args: Mapping[str, Any]) -> None:
    """Refuse values for a chat template that are not a user's to give.

    Raises:
        ValueError: It names them.
    """
    if taken := sorted(OWN_ARGS & args.keys()):
        raise ValueError(
            f"{', '.join(taken)} is set for each prompt and cannot be set here: name values that "
            "the chat template reads, such as enable_thinking"
        )


def _taken(args: dict[str, JsonValue]) -> dict[str, JsonValue]:
    checked_template_args(args)
    return args


TemplateArgs = Annotated[dict[str, JsonValue], AfterValidator(_taken)]
"""A setting of further values for a chat template."""


def plain_text(prompt: Prompt) -> str:
    """The prompt as one text to be continued, for models and servers without a chat template.

    A single message is its content as it stands; several are labelled by role,
    and the label of the answer follows them.
    """
    if len(prompt.messages) == 1:
        return prompt.messages[0].content
    turns = [f"{message.role.capitalize()}: {message.content}" for message in prompt.messages]
    return "\n\n".join([*turns, "Assistant:"])


def fold_system(prompt: Prompt) -> Prompt:
    """The same prompt with system messages put before the next user message's content."""
    messages: list[Message] = []
    held: tuple[str, ...] = ()
    for message in prompt.messages:
        if message.role == "system":
            held += (*message.parts, "\n\n")
        elif message.role == "user" and held:
            messages.append(Message(role="user", parts=held + message.parts))
            held = ()
        else:
            messages.append(message)
    if held:
        messages.append(Message(role="user", parts=held[:-1]))
    return Prompt(messages=tuple(messages))


def alternate_roles(prompt: Prompt) -> Prompt:
    """The same prompt with messages of one role that follow each other made one."""
    messages: list[Message] = []
    for message in prompt.messages:
        parts = message.parts
        if messages and messages[-1].role == message.role:
            parts = (*messages.pop().parts, "\n\n", *parts)
        messages.append(Message(role=message.role, parts=parts))
    return Prompt(messages=tuple(messages))
