"""The closed circle: debates train debaters, whose debates are judged again, and it is measured.

settings   what a circle is: questions, protocols, methods, seeds, budgets
jobs       the plan as jobs: each with its needs, its work, and its folder
facts      the record that each kind of job leaves for others and for the report
running    settings tried before anything runs; the jobs on several processes, resumable
games      debates of a policy through the graphs; one-round protocols outside a graph
rewards    a frozen judge's belief in many games at once, as a source of reward and for cross-play
methods    expert iteration, DPO, reward model + PPO, GRPO: each from debates to a better policy
results    what all of it came to; words and pictures show it
"""

from pathlib import Path

RECIPE = Path(__file__).with_name("closed_circle.toml")
"""The circle that ships with the package."""
