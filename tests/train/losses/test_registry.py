"""Losses by name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from oversight.errors import ConfigError
from oversight.train import losses
from oversight.train.losses import advantages
from oversight.train.losses.pairs import PairLogps

ESTIMATORS = (
    advantages.gae,
    advantages.group,
    advantages.reinforce_plus_plus,
    advantages.rloo,
    advantages.RoleBaseline,
)
FOLDER = Path(losses.__file__).parent


@pytest.mark.parametrize("family", sorted(losses.FAMILIES))
def test_every_name_of_a_family_is_registered_and_has_its_function(family):
    assert losses.names(family)
    for name in losses.names(family):
        loss = losses.load(family, name)
        assert (loss.name, loss.family) == (name, family)
        assert loss.loss.__name__ == name


@pytest.mark.parametrize("family", sorted(losses.FAMILIES))
def test_functions_without_a_decorator_are_no_losses(family):
    helpers = {"expected", "reduced", "clipped", "sft_term", "target_B", "log_odds"}
    assert not helpers & set(losses.names(family))


def test_all_that_is_registered_at_import_is_listed_and_nothing_else():
    modules = [import_module(f"oversight.train.losses.{path.stem}") for path in FOLDER.glob("*.py")]
    found = {value for module in modules for value in vars(module).values() if is_loss(value)}
    listed = {(family, name) for family in losses.FAMILIES for name in losses.names(family)}
    assert {(loss.family, loss.name) for loss in found} == listed


def is_loss(value):
    return isinstance(value, losses.Loss)


def test_the_issues_preference_losses_are_all_there():
    wanted = (
        "sigmoid robust hinge ipo length_normalised simpo orpo apo_zero apo_down nca_pair "
        "exo_pair rao_kupper davidson length_regularised"
    )
    assert set(wanted.split()) <= set(losses.names("preference"))


def test_listing_names_does_not_import_torch():
    code = (
        "import sys; from oversight.train import losses; losses.names('policy');"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_loss_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"loss.name = 'sigmoids'.*Did you mean 'sigmoid'"):
        losses.load("preference", "sigmoids", where="loss.name")


def test_a_helper_cannot_be_loaded_as_a_loss():
    with pytest.raises(ConfigError, match="no preference loss"):
        losses.load("preference", "pairs")


def test_an_unknown_family_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'policy'"):
        losses.names("policies")


def test_an_unknown_option_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"'dpo.betta'.*Did you mean 'beta'"):
        losses.bind("preference", "ipo", {"betta": 0.1}, where="dpo")


def test_bound_options_reach_the_loss():
    pair = PairLogps(torch.tensor([2.0]), torch.tensor([1.0]))
    bound = losses.bind("preference", "hinge", {"beta": 0.25})
    assert bound(pair, normalizer=1)[0].item() == pytest.approx(0.75)


@pytest.mark.parametrize("name", losses.names("preference"))
def test_start_value_takes_the_options_of_its_loss(name):
    options = losses.options("preference", name)
    losses.load("preference", name).start_value(**options)


def docstrings(path):
    """The docstrings of a file: its own and those of its classes, functions and fields."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield " ".join(str(node.value.value).split())


@pytest.mark.parametrize(
    ("family", "name"), [(family, n) for family in losses.FAMILIES for n in losses.names(family)]
)
def test_every_loss_names_its_paper_with_year_and_arxiv_number(family, name):
    says_its_paper(losses.load(family, name).loss)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_of_advantages_names_its_paper_with_year_and_arxiv_number(estimator):
    says_its_paper(estimator)


def says_its_paper(documented):
    text = " ".join(documented.__doc__.split())
    assert re.search(r"[A-Z][\w'’]+(?: et al\.)? (?:19|20)\d\d\b", text)
    assert re.search(r"\barXiv:\d{4}\.\d{5}\b", text)


def test_where_a_file_numbers_an_equation_it_says_of_what():
    for path in FOLDER.rglob("*.py"):
        text = " ".join(docstrings(path))
        if re.search(r"\beqs?\. \d", text, re.IGNORECASE):
            assert re.search(r"arXiv:\d|https?://", text), path
