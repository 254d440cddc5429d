"""Trainers of our own: SFT, reward model, DPO, PPO and GRPO, from token-exact rows."""
