"""Every recipe of the repository is a run that can be started."""

from __future__ import annotations

from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from oversight import constitutions, protocols, registry
from oversight.audits.preparing import JudgeAuditSettings
from oversight.cli.measure import load_suite
from oversight.cli.run import load_circle, load_loop
from oversight.config import RunSettings, load_recipe, override, read_toml
from oversight.experiments import constitutional, selfplay
from oversight.experiments.constitutional.settings import ConstitutionalSettings
from oversight.experiments.constitutional.stages import plan_jobs as plan_stages
from oversight.experiments.feedback_loop.stages import FeedbackLoop
from oversight.experiments.pixels import PixelSettings
from oversight.experiments.selfplay.jobs import plan_jobs
from oversight.experiments.whose_values import WhoseValuesSettings
from oversight.guard.preparing import GuardFileSettings
from oversight.jobs.writing import WritingSettings
from oversight.judging.settings import RatingSettings
from oversight.judging.tasks import load as load_task
from oversight.redteam.loop import LoopSettings
from oversight.redteam.preparing import RedTeamSettings
from oversight.redteam.training import AttackerTrainingSettings
from oversight.registry import load_named
from oversight.tournaments.playing import TournamentSettings
from oversight.train import reward

FOLDER = Path(__file__).parent.parent / "recipes"
CIRCLES = [FOLDER / "closed_circle.toml", *sorted(FOLDER.glob("selfplay/*.toml"))]
BATCHES = {FOLDER / "feedback.toml": RatingSettings, FOLDER / "propose.toml": WritingSettings}
STAGES = [FOLDER / "constitutional_sl.toml", FOLDER / "constitutional_rl.toml"]
FEEDBACK_LOOP = FOLDER / "feedback_loop.toml"
TOURNAMENT = FOLDER / "tournament.toml"
LOOP = FOLDER / "redteam_judge.toml"
RECIPES = sorted(
    set(FOLDER.glob("*.toml"))
    - {TOURNAMENT, LOOP, FEEDBACK_LOOP, *CIRCLES}
    - set(BATCHES)
    - set(STAGES)
)
TRAINING = sorted(FOLDER.glob("training/*.toml"))
OTHERS = {
    FOLDER / "audits" / "seedling.toml": JudgeAuditSettings,
    FOLDER / "guard" / "register.toml": GuardFileSettings,
    FOLDER / "guard" / "seedling.toml": GuardFileSettings,
    TOURNAMENT: TournamentSettings,
    FOLDER / "hh_rlhf" / "reward.toml": reward.Config,
    FOLDER / "pixels" / "pixel_debate.toml": PixelSettings,
    FOLDER / "redteam" / "policy.toml": RedTeamSettings,
    FOLDER / "redteam" / "judge.toml": RedTeamSettings,
    FOLDER / "redteam" / "attacker.toml": AttackerTrainingSettings,
    LOOP: LoopSettings,
}


SUITE = FOLDER / "measured" / "suite.toml"
VALUES = FOLDER / "panels" / "whose_values.toml"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_names_only_what_there_is(path: Path) -> None:
    settings = load_recipe(RunSettings, path, {})
    for name in settings.protocols:
        protocols.load(name)
    assert settings.dataset.dataset in registry.names("datasets")
    for role, actor in settings.cast().items():
        assert role in registry.load("agents", actor.agent).ROLES
        assert actor.engine is None or actor.engine in settings.engines
    for engine in settings.engines.values():
        registry.load("engines", engine.engine).Config.parse(engine.settings)
    described = path.read_text().splitlines()[0]
    assert described.startswith("# "), "a recipe begins by saying what it is for"


@pytest.mark.parametrize("path", BATCHES, ids=lambda path: path.stem)
def test_a_recipe_of_a_batch_job_names_only_what_there_is(path: Path) -> None:
    data = read_toml(path)
    task = data.pop("task", None)
    assert task is None or load_task(task).name == task
    settings = BATCHES[path].parse(data, where=path.name)
    for role, actor in settings.agents.items():
        module = registry.load("agents", actor.agent)
        assert role in module.ROLES
        config = module.Config.parse(actor.settings)
        if name := getattr(config, "constitution", None) or getattr(settings, "constitution", None):
            constitutions.load(name)
        assert actor.engine in settings.engines
    for engine in settings.engines.values():
        registry.load("engines", engine.engine).Config.parse(engine.settings)
    described = path.read_text().splitlines()
    assert described[0].startswith("# "), "a recipe begins by saying what it is for"
    assert f"oversight {path.stem} recipes/{path.name}" in described[1]


@pytest.mark.parametrize("path", CIRCLES, ids=lambda path: path.stem)
def test_a_circle_is_one(path: Path) -> None:
    circle = load_circle(path, {}, [], quick=False)
    assert plan_jobs(circle)
    if path.parent.name == "selfplay":
        assert circle.methods == (path.stem,)
    assert path.read_text().startswith("# "), "a recipe begins by saying what it is for"


def test_each_method_has_a_recipe_and_one_has_all() -> None:
    circle = load_circle(CIRCLES[0], {}, [], quick=False)
    assert sorted(circle.methods) == [path.stem for path in CIRCLES[1:]]
    assert circle.held_out_questions >= 500
    assert len(circle.seeds) >= 3
    short = load_circle(CIRCLES[0], {}, [], quick=True)
    assert short.methods == circle.methods
    assert short.held_out_questions < circle.held_out_questions


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_recipe_of_constitutional_ai_is_one_in_its_short_form_as_well(path: Path) -> None:
    whole, short = (load_constitutional(path, quick=quick) for quick in (False, True))
    assert len(whole.seeds) >= 3
    assert len(plan_stages(short)) < len(plan_stages(whole))
    assert short.held_out_prompts < whole.held_out_prompts
    assert path.read_text().startswith("# "), "a recipe begins by saying what it is for"


def test_the_second_stage_goes_on_with_what_the_first_one_made() -> None:
    first, second = (load_constitutional(path, quick=False) for path in STAGES)
    shared = set(first.model_fields_set) - first.incidental
    assert {name: getattr(first, name) for name in shared} == {
        name: getattr(second, name) for name in shared
    }
    assert first.out == second.out


def test_the_feedback_loop_is_one_in_its_short_form_as_well() -> None:
    whole, short = (load_loop(FEEDBACK_LOOP, {}, quick=quick) for quick in (False, True))
    assert len(whole.seeds) >= 3
    assert set(whole.arms) == set(short.arms) == {"users", "shuffled", "still"}
    assert len(FeedbackLoop(short).plan()) < len(FeedbackLoop(whole).plan())
    assert short.held_out_prompts < whole.held_out_prompts
    assert FEEDBACK_LOOP.read_text().startswith("# "), "a recipe begins by saying what it is for"


def load_constitutional(path: Path, *, quick: bool) -> ConstitutionalSettings:
    data = read_toml(path)
    assert data.pop("experiment") == "constitutional"
    return ConstitutionalSettings.parse(override(data, data["quick"]) if quick else data)


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_a_training_recipe_fits_the_trainer_of_its_name(path: Path) -> None:
    config = load_recipe(import_module(f"oversight.train.{path.stem}").Config, path, {})
    assert config.out == Path("runs") / path.stem
    assert path.read_text().startswith("# "), "a recipe begins by saying what it is for"


def test_the_recipe_for_judgments_fits_its_trainer() -> None:
    path = FOLDER / "judging" / "kto.toml"
    config = load_recipe(import_module("oversight.train.dpo").Config, path, {})
    assert config.loss == "kto"
    assert path.read_text().startswith("# ")


def test_every_recipe_is_of_a_kind_that_is_tested_here() -> None:
    known = {
        *RECIPES,
        *BATCHES,
        *STAGES,
        *CIRCLES,
        *TRAINING,
        FOLDER / "judging" / "kto.toml",
        SUITE,
        FEEDBACK_LOOP,
        VALUES,
        *OTHERS,
    }
    assert set(FOLDER.rglob("*.toml")) == known


def test_the_recipe_of_groups_and_their_values_fits_its_experiment() -> None:
    settings = load_recipe(WhoseValuesSettings, VALUES, {})
    assert len(settings.seeds) == 3


def test_the_suite_has_a_short_form_of_all_its_parts() -> None:
    whole, short = (load_suite(SUITE, {}, [], quick=quick) for quick in (False, True))
    assert whole.parts == short.parts
    assert len(whole.seeds) >= 3
    assert short.control.tasks < whole.control.tasks
    assert short.shift.items < whole.shift.items
    assert SUITE.read_text().startswith("# "), "a recipe begins by saying what it is for"


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_another_recipe_fits_its_command(path: Path) -> None:
    settings = load_recipe(OTHERS[path], path, {})
    assert any(getattr(settings, name, None) for name in ("out", "folder", "store"))


@pytest.mark.parametrize("place", [FOLDER.parent, Path("/")])
def test_the_reward_of_a_copied_recipe_is_found_from_anywhere(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copytree(FOLDER / "training", tmp_path / "mine")
    monkeypatch.chdir(place)
    config = load_recipe(
        import_module("oversight.train.grpo").Config, tmp_path / "mine" / "grpo.toml", {}
    )
    function = load_named(config.reward.function, "reward.function")
    assert function.__name__ == "from_source"
    assert Path(function.__code__.co_filename).parent == tmp_path / "mine"


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_a_training_recipes_loss_takes_its_options(path: Path) -> None:
    trainer = import_module(f"oversight.train.{path.stem}")
    if hasattr(trainer, "check_loss"):
        trainer.check_loss(load_recipe(trainer.Config, path, {}))


def test_each_trainer_has_a_recipe() -> None:
    assert [path.stem for path in TRAINING] == ["dpo", "grpo", "ppo", "reward", "sft"]


def test_the_reward_for_quotes_is_the_share_that_is_in_the_source() -> None:
    spec = spec_from_file_location("quotes", FOLDER / "training" / "quotes.py")
    assert spec is not None
    assert spec.loader is not None
    quotes = module_from_spec(spec)
    spec.loader.exec_module(quotes)
    source = {"prompt": "In week 3, the globe was moved. In week 4, it came back."}
    texts = [
        "Look: <quote>In week 4, it came back.</quote>",
        "Look: <quote>In week 4, it went up.</quote>",
        "<quote></quote> and no more",
        "In week 4, it came back.",
    ]
    assert quotes.from_source(texts, [source] * 4) == pytest.approx([1.0, 4 / 6, 0.0, 0.0])


@pytest.mark.parametrize("shipped", [selfplay.RECIPE, constitutional.RECIPE])
def test_recipes_of_experiments_are_those_that_ship(shipped: Path) -> None:
    assert (FOLDER / shipped.name).read_bytes() == shipped.read_bytes()


def test_recipes_that_are_copied_elsewhere_are_whole(tmp_path: Path) -> None:
    copied = tmp_path / "mine"
    copytree(FOLDER, copied, symlinks=True, ignore=ignore_patterns("results"))
    for path in FOLDER.rglob("*.toml"):
        assert (copied / path.relative_to(FOLDER)).read_bytes() == path.read_bytes()
