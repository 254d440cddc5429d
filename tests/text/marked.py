"""Pairs of marks that models put around their thoughts, with a speech and a secret."""

from __future__ import annotations

SPEECH = "The ledger names the boathouse. Nothing else fits."


SECRET = "I defend the wrong option, which I must not show"


PAIRS = {
    "think": ("<think>", "</think>"),
    "capitals": ("<THINK>", "</THINK>"),
    "thinking": ("<thinking>", "</thinking>"),
    "thought": ("<thought>", "</thought>"),
    "reasoning": ("<reasoning>", "</reasoning>"),
    "scratchpad": ("<scratchpad>", "</scratchpad>"),
    "attributes": ('<thinking effort="low">', "</thinking>"),
    "seed": ("<seed:think>", "</seed:think>"),
    "minimax": ("<mm:think>", "</mm:think>"),
    "effort": ("<ifm|think_fast>", "</ifm|think_fast>"),
    "square": ("[THINK]", "[/THINK]"),
    "lozenge": ("◁think▷", "◁/think▷"),
    "command": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "sky": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "gemma": ("<|channel>thought\n", "<channel|>"),
    "kimi": ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    "harmony": (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "bare harmony": ("analysis", "assistantfinal"),
    "granite": ("Here is my thought process:", "Here is my response:"),
    "camel": ("<antThinking>", "</antThinking>"),
    "snake": ("<longcat_think>", "</longcat_think>"),
    "chain": ("<chain_of_thought>", "</chain_of_thought>"),
    "short": ("<cot>", "</cot>"),
    "plan": ("<plan>", "</plan>"),
    "spaced": ("< think >", "< / think >"),
    "full-width": ("＜think＞", "＜/think＞"),
    "full-width bars": ("<｜begin▁of▁thought｜>", "<｜end▁of▁thought｜>"),
    "colons": ("<|think:start|>", "<|think:end|>"),
    "solar": ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
    "escaped": ("&lt;think&gt;", "&lt;/think&gt;"),
    "backslashes": ("\\<think\\>", "\\</think\\>"),
}
