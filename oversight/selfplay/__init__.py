"""The closed circle: debates train debaters, whose debates are judged again, and it is measured.

settings   what a circle is: questions, protocols, methods, seeds, budgets
stages     the work in pieces, what each needs, and where each keeps its result
work       what the pieces do
running    the pieces on several processes, resumable wherever they were killed
games      one-round protocols outside a graph: prompts, and the judge's view of any speeches
beliefs    a frozen judge in this process, asked for its belief in many games at once
rewards    the judge's belief as a source of reward, the sides of a game paired
methods    expert iteration, DPO, reward model + PPO, GRPO: each from debates to a better policy
debating   debates of a policy through the graphs, into a store of their own
measuring  what is measured of one arm's debates: rulings one by one, and what they cost
crossplay  every policy against every other, for ratings
results    what all of it came to; words, pictures, page show it
"""

from pathlib import Path

RECIPE = Path(__file__).with_name("closed_circle.toml")
"""The circle that ships with the package."""
