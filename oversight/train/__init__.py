"""Trainers of our own: SFT, reward model, DPO, PPO and GRPO, from token-exact rows.

Each trainer is a module with its settings and one loop:

    from oversight.train import dpo

    dpo.train(dpo.Config.parse({"out": "runs/dpo", "model": {...}, "data": {...}}))

`session` is what the loops share. `data` makes examples, `model` scores them,
`losses` takes scores, `rollouts` samples and `runs` keeps a run on disk.
"""
