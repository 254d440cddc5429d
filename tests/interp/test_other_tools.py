"""nnsight and transformer-lens read our models and rows as we do, and SAELens our autoencoder."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from oversight.interp.contrasts import world_examples, world_questions
from oversight.interp.planted import planted_features
from oversight.interp.sae import fit_sae
from oversight.models import SEEDLING, resolve

ROOT = Path(__file__).parents[2]


def recipe() -> Any:
    """The documented example."""
    path = ROOT / "recipes" / "interp" / "other_tools.py"
    spec = spec_from_file_location("other_tools", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("package", "function"),
    [("nnsight", "by_nnsight"), ("transformer_lens", "by_transformer_lens")],
)
def test_streams_are_the_same_plain_and_with_a_direction_added(package: str, function: str) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed: extra 'interp'")
    tokenizer = AutoTokenizer.from_pretrained(resolve(SEEDLING))
    ids = world_examples(tokenizer, world_questions(1))[0].ids
    direction = torch.from_numpy(np.random.default_rng(0).standard_normal(128)).float()
    example = recipe()
    states, changed = example.ours(SEEDLING, ids, direction)
    theirs, moved = getattr(example, function)(SEEDLING, ids, direction)
    assert states.shape == theirs.shape == (4, len(ids), 128)
    torch.testing.assert_close(theirs, states, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(moved, changed, rtol=1e-4, atol=1e-4)
    assert float((changed - states[-1]).abs().max()) > 0.1


@pytest.mark.filterwarnings("ignore")
def test_saelens_reads_the_file_and_codes_as_we_do(tmp_path: Path) -> None:
    sae_lens = pytest.importorskip("sae_lens", reason="sae-lens is not installed (docs say why)")
    states, _ = planted_features(500)
    sae = fit_sae(states, 64, 3, num_steps=100, hook="residual.2", model="seedling")
    sae.save(tmp_path)
    theirs: Any = sae_lens.SAE.load_from_disk(str(tmp_path))
    given = torch.from_numpy(states[:50])
    codes = theirs.encode(given)
    torch.testing.assert_close(codes, sae.code(given) * sae.scale, rtol=1e-4, atol=1e-4)
    made = sae.decode(sae.code(given))
    torch.testing.assert_close(theirs.decode(codes), made, rtol=1e-4, atol=1e-4)
    assert theirs.cfg.metadata.hook_name == "residual.2"
