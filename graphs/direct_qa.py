"""Direct judgment without any debate (Kenton et al. 2024, arXiv:2407.04622): naive or expert.

Whether the judge reads the source is the protocol's `judge_sees_source`.
"""

from __future__ import annotations

from oversight.graphs.running import machine

NUM_SPEAKERS = 0

build, serve = machine("direct_qa", protocol="naive")
