"""Inspect's logs for tests: written from a store, or made as another evaluation's."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from oversight.interop.base import ImportedDebate
from oversight.interop.inspect import Config, write
from oversight.store import Store
from oversight.types import (
    PromptRecord,
    Transcript,
)


def records_of(item: object) -> tuple[Any, ...]:
    assert isinstance(item, ImportedDebate), item
    return item.records


def all_of(transcript: Transcript) -> list[Any]:
    outcome = [] if transcript.outcome is None else [transcript.outcome]
    own = [transcript.question, transcript.debate, *transcript.turns, *transcript.judgments]
    return [*own, *transcript.ratings, *outcome]


def written(store: Store, path: Path) -> Path:
    def prompt_of(id_: str, num: int | None) -> PromptRecord:
        return store.prompt(id_, num_tokens=num)

    list(write(store.transcripts(complete=None), path, Config(), prompt_of))
    return path


def contents(store: Store) -> list[Any]:
    found = [each for t in store.transcripts(complete=None) for each in all_of(t)]
    ids = {s.prompt_id for each in found for s in getattr(each, "samples", ())}
    return found + [store.prompt(id_) for id_ in sorted(ids)]


def evaluation(**changes: Any) -> dict[str, Any]:
    spec = {
        "eval_id": "e1",
        "task": "arith",
        "created": "2026-02-03T04:05:06+00:00",
        "model": "acme/large",
        "dataset": {"name": "sums"},
        "config": {},
    }
    plan = {"name": "plan", "steps": [{"solver": "generate"}], "config": {}}
    return {"version": 2, "status": "success", "eval": spec, "plan": plan} | changes


def answered(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A sample as Inspect writes it, of an open question."""
    message = {"role": "assistant", "content": "It is 4.", "source": "generate"}
    sample: dict[str, Any] = {
        "id": number,
        "epoch": 1,
        "input": "What is 2 + 2?",
        "target": "4",
        "messages": [{"role": "user", "content": "What is 2 + 2?"}, message],
        "output": {
            "model": "large-1",
            "choices": [{"message": message, "stop_reason": "stop"}],
            "usage": {"input_tokens": 9, "output_tokens": 4, "input_tokens_cache_read": 2},
            "time": 1.5,
        },
        "scores": {"match": {"value": "C", "answer": "4"}},
        "uuid": f"u{number}",
        "completed_at": "2026-02-03T04:05:09+00:00",
    }
    return sample | changes


def log_of(path: Path, samples: Iterable[dict[str, Any]], **changes: Any) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in samples:
            name = f"samples/{sample['id']}_epoch_{sample['epoch']}.json"
            archive.writestr(name, json.dumps(sample))
        archive.writestr("header.json", json.dumps(evaluation(**changes)))
    return path


def only(items: Iterable[object]) -> tuple[Any, ...]:
    [item] = items
    return records_of(item)


def of_kind(records: Iterable[object], kind: Any) -> list[Any]:
    return [each for each in records if isinstance(each, kind)]
