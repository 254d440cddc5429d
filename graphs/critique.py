"""Critique (Saunders et al. 2022, arXiv:2206.05802): a consultancy that a critic helps to judge.

The critic sits at B, reads the source and defends nothing; the consultant
answers it with a revised speech. The judge reads all of it.
"""

from __future__ import annotations

from oversight.graphs.running import ARGUMENT, machine
from oversight.types import Act

NUM_SPEAKERS = 1
NUM_CRITICS = 1

build, serve = machine("critique", *ARGUMENT, Act.CRITIQUE, Act.REVISE)
