"""Self-critique (Bai et al. 2022, arXiv:2212.08073): a response, what is wrong with it, a revision.

The responder sits at A and answers an open prompt, the critic at B criticises its answer, and
neither defends anything. Nothing is decided at the end.
"""

from __future__ import annotations

from oversight.graphs.running import machine
from oversight.types import Act

NUM_SPEAKERS = 0
NUM_RESPONDERS = 1
NUM_CRITICS = (0, 1)

build, serve = machine("self_critique", Act.RESPOND, Act.CRITIQUE, Act.REVISE, decides=False)
