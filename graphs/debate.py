"""Debate (Irving et al. 2018, arXiv:1805.00899): two sides argue, a judge decides."""

from __future__ import annotations

from oversight.graphs.running import ARGUMENT, machine

NUM_SPEAKERS = 2

build, serve = machine("debate", *ARGUMENT)
