"""oversight: debates, consultancies and critiques between models, judged, and trained on."""

from __future__ import annotations

__version__: str
__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """The version, looked up when it is asked for.

    To import what finds it takes as long as the rest of a start, and Ctrl-C in that time would be
    a traceback: `oversight.cli` can take it only after this file.
    """
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("oversight")
    except PackageNotFoundError:  # a source tree that was never installed
        return "0+unknown"
