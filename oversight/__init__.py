"""oversight: debates, consultancies and critiques between models, judged, and trained on.

    import oversight as ov

    debates = ov.debate("world", protocol="debate")
    print(ov.report(debates))

`oversight.api` says what there is. Nothing of it is imported before it is asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False
"""True to type checkers: `typing` would take as long as the rest."""

if TYPE_CHECKING:
    from typing import Any

    from oversight import datasets, preferences, train
    from oversight.api import Transcripts, debate, debate_async, judge, judge_async, report

__version__: str
__all__ = [
    "Transcripts",
    "__version__",
    "datasets",
    "debate",
    "debate_async",
    "judge",
    "judge_async",
    "preferences",
    "report",
    "train",
]

PACKAGES = ("datasets", "preferences", "train")


def __getattr__(name: str) -> Any:
    """The version, or what `__all__` lists, looked up when it is asked for.

    To import what finds it takes as long as the rest of a start, and Ctrl-C in that time would be
    a traceback: `oversight.cli` can take it only after this file.
    """
    if name in __all__ and name != "__version__":
        from importlib import import_module

        is_package = name in PACKAGES
        return (
            import_module(f"oversight.{name}")
            if is_package
            else getattr(import_module("oversight.api"), name)
        )
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("oversight")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"
