"""The Parquet schema of each export layout; `layouts` makes the rows that fill it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from oversight.preferences.layouts import Layout

if TYPE_CHECKING:
    import pyarrow as pa


def schema(layout: Layout) -> pa.Schema:
    """The Parquet schema of a layout; it holds for zero rows as well."""
    import pyarrow as pa

    build: dict[Layout, Callable[[], list[tuple[str, Any]]]] = {
        "preference": _pair_fields,
        "kwise": _kwise_fields,
        "unpaired": _labelled_fields,
        "transcripts": _turn_fields,
    }
    return pa.schema(build[layout]())


def _about_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("prompt", _messages_type()),
        ("prompt_ids", pa.list_(pa.int64())),
    ]


def _origin_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [
        ("weight", pa.float64()),
        ("question_id", pa.string()),
        ("debate_id", pa.string()),
        ("protocol", pa.string()),
        ("judgment_ids", pa.list_(pa.string())),
        ("judges", pa.list_(pa.string())),
        ("num_unseen", pa.list_(pa.int64())),
        ("principle_id", pa.string()),
        ("rating_ids", pa.list_(pa.string())),
        ("constitution", pa.string()),
        ("principle_ids", pa.list_(pa.string())),
    ]


def _messages_type() -> Any:
    import pyarrow as pa

    return pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


def _pair_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    ids, logprobs = pa.list_(pa.int64()), pa.list_(pa.float64())
    return [
        *_about_fields(),
        ("chosen", _messages_type()),
        ("rejected", _messages_type()),
        ("chosen_ids", ids),
        ("rejected_ids", ids),
        ("chosen_logprobs", logprobs),
        ("rejected_logprobs", logprobs),
        ("chosen_score", pa.float64()),
        ("rejected_score", pa.float64()),
        ("soft_label", pa.float64()),
        *_origin_fields(),
        ("chosen_turn_id", pa.string()),
        ("rejected_turn_id", pa.string()),
    ]


def _kwise_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [
        *_about_fields(),
        ("completions", pa.list_(_messages_type())),
        ("ranks", pa.list_(pa.int64())),
        ("tie", pa.bool_()),
        ("completion_ids", pa.list_(pa.list_(pa.int64()))),
        ("completion_logprobs", pa.list_(pa.list_(pa.float64()))),
        ("scores", pa.list_(pa.float64())),
        ("soft_label", pa.float64()),
        *_origin_fields(),
        ("turn_ids", pa.list_(pa.string())),
    ]


def _labelled_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [
        ("id", pa.string()),
        ("prompt", _messages_type()),
        ("prompt_ids", pa.list_(pa.int64())),
        ("completion", _messages_type()),
        ("completion_ids", pa.list_(pa.int64())),
        ("completion_logprobs", pa.list_(pa.float64())),
        ("label", pa.bool_()),
        ("p", pa.float64()),
        *_origin_fields(),
        ("turn_id", pa.string()),
    ]


def _turn_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    text, whole, number = pa.string(), pa.int64(), pa.float64()
    return [
        ("debate_id", text),
        ("turn_id", text),
        ("step", whole),
        ("round", whole),
        ("seat", text),
        ("role", text),
        ("act", text),
        ("candidate", whole),
        ("chosen", pa.bool_()),
        ("score", number),
        ("text", text),
        ("reasoning", text),
        ("quotes", pa.list_(pa.struct([("text", text), ("status", text)]))),
        ("verdict", text),
        ("probs", pa.list_(number)),
        ("prompt_ids", pa.list_(text)),
        ("side", whole),
        ("question_id", text),
        ("dataset", text),
        ("question", text),
        ("options", pa.list_(text)),
        ("correct", whole),
        ("protocol", text),
        ("judges", pa.list_(text)),
        ("num_unseen", pa.list_(whole)),
        ("verdicts", pa.list_(text)),
        ("final_probs", pa.list_(pa.list_(number))),
    ]
