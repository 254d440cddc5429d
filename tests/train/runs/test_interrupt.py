from __future__ import annotations

import signal
import threading

import pytest

from oversight.train.runs.schedules import Interrupt

GO_ON = "oversight train dpo a.toml --resume"


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("step", "kept"), [(0, "no step is kept yet"), (7, "steps up to 7 are kept")]
)
def test_a_first_signal_asks_and_a_second_one_ends_the_run_and_says_what_is_kept(
    kind: signal.Signals, step: int, kept: str
) -> None:
    before = signal.getsignal(kind)
    with Interrupt(command=lambda: GO_ON) as interrupt:
        interrupt.kept = step
        assert not interrupt.asked()
        signal.raise_signal(kind)
        assert interrupt.asked()
        with pytest.raises(KeyboardInterrupt) as raised:
            signal.raise_signal(kind)
        assert str(raised.value) == f"stopped at once; {kept}; go on with: {GO_ON}"
        assert signal.getsignal(kind) == before


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
    error = Interrupt(command=lambda: GO_ON).leave(12)
    assert error.exit_code == 130
    assert str(error) == "stopped after step 12; go on with: oversight train dpo a.toml --resume"
