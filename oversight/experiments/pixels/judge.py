"""The judge: a classifier that sees a few pixels of an image, and where they are.

As in the paper it is trained beforehand, by supervised learning, on random pixels that are not
zero, as many as it will see in the games; it stays as it is while others play against it. The
paper's is a convolutional net, ours a perceptron of two hidden layers: what its first layer
makes of a set of pixels is a sum over them, which the search adds up pixel by pixel.

Letters of dimensions: B images, S sets of pixels, P pixels of an image, H hidden units, L labels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from oversight.errors import CheckpointError, FileError
from oversight.experiments.pixels.images import NUM_LABELS, Images
from oversight.experiments.pixels.settings import JudgeSettings
from oversight.files import whole_file
from oversight.ids import content_id

WEIGHT_DECAY = 1e-4

Progress = Callable[[int, int], None]
"""Takes the steps done and their number."""


class SparseJudge(nn.Module):
    """From some pixels of an image to logits over the labels."""

    def __init__(self, num_pixels: int, hidden: int) -> None:
        super().__init__()
        self.num_pixels = num_pixels
        self.first = nn.Linear(2 * num_pixels, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, NUM_LABELS)

    def forward(self, values_BP: Tensor, shown_BP: Tensor) -> Tensor:
        """Logits [B, L] from values in [0, 1] and a mask; values that are not shown count for
        nothing, whatever they are."""
        seen_BP = torch.where(shown_BP > 0, values_BP, 0.0)
        return self.read(self.first(torch.cat((seen_BP, shown_BP), dim=1)))

    def read(self, sums_SH: Tensor) -> Tensor:
        """Logits [S, L] from the sums of the first layer."""
        logits_SL: Tensor = self.last(torch.relu(self.second(torch.relu(sums_SH))))
        return logits_SL

    def parts(self, values_P: Tensor) -> Tensor:
        """Share of each pixel of an image, if shown, in the sums of the first layer: [P, H]."""
        value_HP, mask_HP = self.first.weight.chunk(2, dim=1)
        parts_PH: Tensor = (value_HP * values_P + mask_HP).T
        return parts_PH

    def fingerprint(self) -> str:
        """A short hash of all weights."""
        digest = hashlib.blake2b(digest_size=8)
        for weights in self.state_dict().values():
            digest.update(weights.numpy().tobytes())
        return digest.hexdigest()


def draw_masks(values_BP: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """A mask [B, P] of `pixels` random pixels of each image that are not zero."""
    keys_BP = torch.rand(values_BP.shape, generator=generator) + 1e-6
    chosen = torch.where(values_BP > 0, keys_BP, 0.0).topk(pixels, dim=1).indices
    return torch.zeros_like(values_BP).scatter_(1, chosen, 1.0)


def train_judge(
    images: Images,
    pixels: int,
    settings: JudgeSettings,
    seed: int,
    on_step: Progress | None = None,
) -> SparseJudge:
    """A judge trained on `pixels` random pixels of each of `images`.

    The random state of the caller is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = SparseJudge(images.values.shape[1], settings.hidden)
    generator = torch.Generator().manual_seed(seed)
    usable = images.with_pixels(pixels)
    values, labels = as_tensor(usable), torch.from_numpy(usable.labels)
    optimizer = torch.optim.AdamW(judge.parameters(), settings.rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    for step in range(settings.steps):
        rows = torch.randint(len(usable), (settings.batch,), generator=generator)
        mask_BP = draw_masks(values[rows], pixels, generator)
        loss = nn.functional.cross_entropy(judge(values[rows], mask_BP), labels[rows])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if on_step:
            on_step(step + 1, settings.steps)
    return judge.eval().requires_grad_(False)


def as_tensor(images: Images) -> Tensor:
    """Values [B, P] in [0, 1]."""
    return torch.from_numpy(images.values).float() / images.top


def obtain_judge(
    images: Images,
    pixels: int,
    settings: JudgeSettings,
    seed: int,
    folder: Path,
    on_step: Progress | None = None,
) -> SparseJudge:
    """The judge of these settings: read from `folder` if it is there, else trained and put there.

    Raises:
        CheckpointError: The file cannot be read or written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    about = [images.fingerprint(), pixels, settings.model_dump(mode="json"), seed]
    path = folder / f"judge{pixels}-{content_id('pixel judge', about)[:8]}.safetensors"
    try:
        if path.exists():
            judge = SparseJudge(images.values.shape[1], settings.hidden)
            judge.load_state_dict(load_file(path))
            return judge.eval().requires_grad_(False)
        judge = train_judge(images, pixels, settings, seed, on_step)
        with whole_file(path, "judge") as part:
            save_file(judge.state_dict(), part, {"about": json.dumps(about)})
    except (OSError, FileError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"judge {path}: {error}; delete it to train it anew") from error
    return judge
