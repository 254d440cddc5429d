"""Constitutional AI on prompts whose harm a rule decides: both stages, controls, and the measure.

settings   what is asked, of which model, by which constitution, trained how
stages     the plan as jobs: critiques and revisions, SFT, feedback, DPO, PPO, GRPO, and arms
rewards    the frozen model's critiques, or the data set's rule, as a source of reward
results    what all of it came to: rates of harm and help by arm, words and the picture
"""

from pathlib import Path

RECIPE = Path(__file__).with_name("constitutional_sl.toml")
"""The first stage, as it ships with the package."""
