from __future__ import annotations

import signal
import threading

import pytest

from oversight.train.runs.schedules import Interrupt


def test_a_first_signal_asks_and_a_second_one_acts() -> None:
    with Interrupt() as interrupt:
        assert not interrupt.asked()
        signal.raise_signal(signal.SIGINT)
        assert interrupt.asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_scheduler_may_ask_too() -> None:
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.asked()


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupt():
        pass
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_in_another_thread_nothing_is_caught() -> None:
    said: list[bool] = []

    def work() -> None:
        with Interrupt() as interrupt:
            said.append(interrupt.asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [False]


def test_leaving_tells_how_to_go_on() -> None:
    error = Interrupt().leave(12, "oversight train dpo a.toml --resume")
    assert error.exit_code == 130
    assert str(error) == "stopped after step 12; go on with: oversight train dpo a.toml --resume"
