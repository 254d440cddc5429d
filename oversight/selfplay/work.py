"""What the pieces of a circle do, each in a folder of its own.

One that was killed goes on by itself: trainers from their checkpoint, debates from their store.
What a piece needs is imported when it begins: to plan a circle takes no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from oversight.selfplay.settings import Arena, CircleSettings
from oversight.selfplay.stages import START, Result, Stage, folder_of, model_of


def work(circle: CircleSettings, stage: Stage) -> Result:
    """Do the piece, or what is left of it; its result, JSON-plain."""
    folder = folder_of(circle, stage.name)
    folder.mkdir(parents=True, exist_ok=True)
    return _WORK[stage.kind](circle, stage, folder)


def _debates(circle: CircleSettings, stage: Stage, folder: Path) -> Result:
    """Debates to learn from, each speech the best of several where they are candidates."""
    from oversight.selfplay.debating import debate, questions, speaking
    from oversight.selfplay.games import BEST_OF_N, PROTOCOLS

    named = BEST_OF_N if stage.kind == "candidates" else PROTOCOLS
    asked = questions(circle, "train", circle.train_questions)
    speakers = speaking(circle, model_of(circle, stage.policy))
    store = folder / "debates.db"
    debate(circle, store, named[_arena(stage)], asked, speakers, circle.judge, seed=stage.seed)
    return {}


def _train_on_candidates(circle: CircleSettings, stage: Stage, folder: Path) -> Result:
    from oversight.selfplay import methods

    train = {
        "sft": methods.train_sft,
        "dpo": methods.train_dpo,
        "reward": methods.train_reward,
    }[stage.kind]
    store = folder_of(circle, stage.facts["candidates"]) / "debates.db"
    policy = model_of(circle, stage.policy)
    return {"rows": train(circle, policy, store, _arena(stage), folder, stage.seed)}


def _train_on_games(circle: CircleSettings, stage: Stage, folder: Path) -> Result:
    from oversight.selfplay import methods
    from oversight.selfplay.debating import questions
    from oversight.selfplay.games import games

    asked = questions(circle, "train", circle.train_questions)
    played = games(asked, _arena(stage), stage.seed)
    policy = model_of(circle, stage.policy)
    if stage.kind == "ppo":
        reward = folder_of(circle, stage.facts["reward"]) / "model"
        methods.train_ppo(circle, policy, reward, played, folder, stage.seed)
    else:
        methods.train_grpo(circle, policy, played, folder, stage.seed)
    return {}


def _train_judge(circle: CircleSettings, stage: Stage, folder: Path) -> Result:
    from oversight.selfplay import methods

    store = folder_of(circle, stage.needs[0]) / "debates.db"
    methods.train_judge(circle, store, folder, stage.seed)
    return {}


def _arm(circle: CircleSettings, stage: Stage, folder: Path) -> Result:
    from oversight.selfplay.debating import debate, questions, speaking, without_model
    from oversight.selfplay.games import BEST_OF_N, PROTOCOLS
    from oversight.selfplay.measuring import measure

    asked = questions(circle, "held_out", circle.held_out_questions)
    facts = stage.facts
    protocol = facts.get("protocol")
    if protocol is None:
        named = BEST_OF_N if facts.get("best_of_n") else PROTOCOLS
        protocol = named[_arena(stage)]
    speakers = (
        without_model(facts["agent"])
        if "agent" in facts
        else speaking(circle, model_of(circle, stage.policy))
    )
    judge = model_of(circle, facts["judge"]) if "judge" in facts else circle.judge
    store = folder / "debates.db"
    debate(
        circle,
        store,
        protocol,
        asked,
        speakers,
        judge,
        seed=stage.seed,
        swap=True,
        rationale=bool(facts.get("rationale")),
    )
    reference = circle.model if stage.policy != START else None
    return measure(store, reference)


def _crossplay(circle: CircleSettings, stage: Stage, folder: Path) -> Result:
    from oversight.selfplay.beliefs import BeliefReader
    from oversight.selfplay.crossplay import beliefs_in_first, speeches
    from oversight.selfplay.debating import questions
    from oversight.selfplay.games import games

    asked = questions(circle, "held_out", circle.crossplay_questions)
    arena = _arena(stage)
    played = games(asked, arena, stage.seed)
    said = {
        policy: speeches(model_of(circle, policy), played, circle.max_tokens, stage.seed)
        for policy in (START, *stage.needs)
    }
    return beliefs_in_first(BeliefReader(circle.judge), played, said, arena)


def _arena(stage: Stage) -> Arena:
    assert stage.arena is not None
    return stage.arena


_WORK: dict[str, Callable[[CircleSettings, Stage, Path], Result]] = {
    "candidates": _debates,
    "debates": _debates,
    "sft": _train_on_candidates,
    "dpo": _train_on_candidates,
    "reward": _train_on_candidates,
    "ppo": _train_on_games,
    "grpo": _train_on_games,
    "judge": _train_judge,
    "arm": _arm,
    "crossplay": _crossplay,
}
