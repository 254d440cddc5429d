"""Consultancy (Michael et al. 2023, arXiv:2311.08702): one side argues what it is assigned."""

from __future__ import annotations

from oversight.graphs.running import ARGUMENT, machine

NUM_SPEAKERS = 1

build, serve = machine("consultancy", *ARGUMENT)
