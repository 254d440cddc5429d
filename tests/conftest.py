"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from oversight import redaction

# Property tests judge what comes out; how fast, on a busy machine, is asked by tests of its own.
# The same examples each time, so that a change fails by what it changed; `make fuzz` draws others,
# and more of them.
settings.register_profile("oversight", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "oversight"))

# In the background of a script Ctrl-C is ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave libraries and tests, which never become garbage, out of all later collections.

    They are more than a million objects; a full collection through them takes a second, and one is
    due whenever a test makes many objects or a screen opens an item.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _secrets_of_one_test() -> Iterator[None]:
    """A password that one test registers is a word of another's message."""
    before = set(redaction._registered)
    yield
    redaction._registered.intersection_update(before)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("OVERSIGHT_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set OVERSIGHT_SHARED_DATA)")
    return folder
