"""Gradients by rows: every step is that with the whole gradient, bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oversight.train import optimizer as module
from oversight.train.distributed import World
from oversight.train.optimizer import build_optimizer, clip_gradients, gather_rows, keep_by_rows
from oversight.train.runs.state import RunState, read, write
from oversight.train.settings import OptimizerSettings

ALONE = World(0, 1, torch.device("cpu"))


class Model(torch.nn.Module):
    """Words to one number; its second matrix shares the embedding if it is tied."""

    def __init__(self, vocab: int, size: int, *, tied: bool = False) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(vocab, size)
        self.middle = torch.nn.Linear(size, size)
        self.head = torch.nn.Linear(size, vocab, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids_BT: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.middle(self.words(ids_BT)))).square().mean()


def pair(
    vocab: int, size: int, monkeypatch: pytest.MonkeyPatch, **kind: bool
) -> tuple[Model, Model]:
    """The same model twice: one whose embedding's gradient is whole, and one where it is not."""
    monkeypatch.setattr(module, "BY_ROWS_FROM", 1)
    monkeypatch.setattr(module, "PART_ELEMENTS", 3 * size)  # parts of three rows
    torch.manual_seed(0)
    whole = Model(vocab, size, **kind)
    by_rows = copy.deepcopy(whole)
    keep_by_rows([by_rows])
    return whole, by_rows


def steps_of(model: Model, batches: list[torch.Tensor], settings: OptimizerSettings) -> object:
    optimizer = build_optimizer([model], settings)
    for batch in batches:
        model(batch).backward()
        gather_rows(model.parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return optimizer


# A gradient of one place a word: there is no order in which it could be summed.
BATCHES = [torch.tensor([ids]) for ids in ([3, 8, 1], [8, 30], [0], [40, 3, 2, 9], [40])]


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("size", [16, 48, 7])  # of 7, the gradient stays whole
def test_steps_by_rows_are_those_of_whole_gradients_bit_for_bit(
    decay: float, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, by_rows = pair(41, size, monkeypatch)
    settings = OptimizerSettings(lr=3.3e-3, weight_decay=decay)
    ours, theirs = (steps_of(m, BATCHES, settings) for m in (by_rows, whole))
    for one, other in zip(by_rows.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)
        for key in ("step", "exp_avg", "exp_avg_sq"):
            assert torch.equal(ours.state[one][key], theirs.state[other][key])


def test_rows_that_no_step_has_met_decay_and_do_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, model = pair(41, 16, monkeypatch)
    before = model.words.weight.detach().clone()
    optimizer = steps_of(model, BATCHES[:1], OptimizerSettings(lr=1e-2, weight_decay=0.5))
    unmet = [i for i in range(41) if i not in (3, 8, 1)]
    assert torch.equal(model.words.weight[unmet], before[unmet] * (1 - 1e-2 * 0.5))
    assert not optimizer.state[model.words.weight]["exp_avg"][unmet].any()


def test_an_embedding_that_is_the_head_too_takes_the_same_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, tied = pair(41, 16, monkeypatch, tied=True)
    for model in (whole, tied):
        steps_of(model, BATCHES, OptimizerSettings(lr=1e-3))
    assert not tied.words.weight.grad
    torch.testing.assert_close(tied.words.weight, whole.words.weight, rtol=0, atol=1e-7)


def test_gradients_of_micro_batches_are_summed_by_row_and_clipped_with_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, by_rows = pair(41, 16, monkeypatch)
    for model in (whole, by_rows):
        for ids in ([3, 8, 3, 3], [8, 5, 3], [3, 1]):
            model(torch.tensor([ids])).backward()
            gather_rows(model.parameters())
    grad = by_rows.words.weight.grad
    assert grad is not None
    assert grad.is_sparse
    assert grad._nnz() == 4  # no row twice
    norms = [clip_gradients(model.parameters(), 1e-3) for model in (whole, by_rows)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    for one, other in zip(by_rows.parameters(), whole.parameters(), strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad.to_dense(), other.grad, rtol=1e-5, atol=1e-9)


def test_a_gradient_of_most_rows_is_made_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, by_rows = pair(8, 4, monkeypatch)
    batches = [torch.tensor([[0, 1, 2, 3, 4, 5]]), torch.tensor([[1]]), torch.tensor([[7, 0]])]
    by_rows(batches[0]).backward()
    gather_rows(by_rows.parameters())
    assert by_rows.words.weight.grad is not None
    assert not by_rows.words.weight.grad.is_sparse
    by_rows.zero_grad()
    for model in (whole, by_rows):  # whole, then by rows again
        steps_of(model, batches, OptimizerSettings(lr=1e-3))
    assert torch.equal(by_rows.words.weight, whole.words.weight)


def test_a_resumed_run_takes_the_steps_of_one_that_was_not_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, model = pair(41, 16, monkeypatch)
    settings = OptimizerSettings(lr=1e-3, weight_decay=0.1)
    resumed = copy.deepcopy(model)
    optimizer = steps_of(model, BATCHES[:3], settings)
    write(tmp_path, RunState(dict(model.named_parameters()), optimizer), ALONE)  # type: ignore[arg-type]
    again = build_optimizer([resumed], settings)
    read(tmp_path, 1, RunState(dict(resumed.named_parameters()), again), ALONE)
    for each, stepping in ((model, optimizer), (resumed, again)):
        for batch in BATCHES[3:]:
            each(batch).backward()
            gather_rows(each.parameters())
            stepping.step()  # type: ignore[attr-defined]
            each.zero_grad()
    for one, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_moments_of_words_that_no_step_has_met_take_no_memory() -> None:
    model = torch.nn.Embedding(1 << 15, 1024)  # 128 MiB, and as much for each moment
    keep_by_rows([model])
    optimizer = build_optimizer([model], OptimizerSettings())

    def resident() -> int:
        text = Path("/proc/self/status").read_text(encoding="ascii")
        return next(
            int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("VmRSS")
        )

    before = resident()
    for _ in range(2):
        model(torch.arange(0, 1 << 15, 512)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert resident() - before < 32 << 20


@given(st.integers(1, 9), st.integers(1, 4), st.floats(1e-6, 0.5), st.floats(0.0, 1.0))
def test_decay_before_a_step_is_the_decay_of_the_step(
    rows: int, size: int, rate: float, decay: float
) -> None:
    torch.manual_seed(rows * 41 + size)
    shape = (rows, size * module.LANES)
    weight = torch.randn(shape)
    moments = torch.randn(shape) * 1e-3, torch.rand(shape) * 1e-6
    grad = torch.randn(shape) * 1e-3
    found = []
    for before, within in ((1.0, decay), (1.0 - rate * decay, 0.0)):
        parts = [each.clone() for each in (weight, *moments)]
        torch._fused_adamw_(
            [parts[0].mul_(before)], [grad], [parts[1]], [parts[2]], [], [torch.tensor(4.0)],
            lr=rate, beta1=0.9, beta2=0.999, weight_decay=within, eps=1e-8, amsgrad=False,
            maximize=False,
        )  # fmt: skip
        found.append(parts[0])
    assert torch.equal(*found)
