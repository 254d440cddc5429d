"""Losses of reward models, on scalar rewards: pairs (B) or rankings of K responses (BK)."""
