from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from oversight import constitutions, registry
from oversight.errors import ConfigError, UnknownNameError

GOOD = {"description": "For tests.", "principles": [{"id": "be-kind", "text": "Be kind."}]}


@pytest.mark.parametrize("name", registry.names("constitutions"))
def test_every_shipped_constitution_loads(name: str) -> None:
    loaded = constitutions.load(name)

    assert loaded.name == name
    assert len({principle.id for principle in loaded.principles}) == len(loaded.principles)


def test_principles_keep_their_order() -> None:
    ids = [p.id for p in constitutions.load("honest_debate").principles]

    assert ids[0] == "evidence-over-eloquence"
    assert len(ids) >= 5


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="honest_debate"):
        constitutions.load("honest_debat")


def test_a_repeated_id_names_file_and_key() -> None:
    twice = {**GOOD, "principles": [*GOOD["principles"], {"id": "be-kind", "text": "Again."}]}

    with pytest.raises(ConfigError, match=r"x\.toml: principles\.id = 'be-kind' stands 2 times"):
        constitutions.parse(twice, name="x", where="x.toml")


@pytest.mark.parametrize(
    ("principles", "named"),
    [
        ([{"id": "a", "text": "  "}], r"principles\.0\.text"),
        ([{"id": "a"}], r"principles\.0\.text"),
        ([{"id": "Not An Id", "text": "Text."}], r"principles\.0\.id"),
        ([{"id": "a", "text": "Text.", "wieght": 2}], r"wieght"),
        ([], r"principles"),
    ],
)
def test_a_broken_principle_names_file_and_key(principles: list[object], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"x\.toml: .*{named}"):
        constitutions.parse({**GOOD, "principles": principles}, name="x", where="x.toml")


def test_broken_toml_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("principles = [", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"broken\.toml' is not TOML"):
        constitutions.read(path)


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        constitutions.read(tmp_path / "absent.toml")


def test_a_missing_key_is_to_be_given_in_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "bare.toml"
    path.write_text('[[principles]]\nid = "a"\ntext = "Be kind."\n', encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        constitutions.read(path)
    assert str(caught.value) == (
        f"{path}: setting 'description' is missing; give it in the constitution file"
    )


def write(folder: Path, name: str, includes: list[str], *ids: str, text: str = "A rule.") -> Path:
    lines = ["description = 'For tests.'", f"includes = {includes}"]
    for id_ in ids:
        lines += ["[[principles]]", f"id = '{id_}'", f"text = '{text}'"]
    path = folder / f"{name}.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_included_principles_stand_before_its_own(tmp_path: Path) -> None:
    write(tmp_path, "base", [], "a", "b")

    read = constitutions.read(write(tmp_path, "mine", ["./base.toml", "judge_conduct"], "c"))

    ids = [each.id for each in read.principles]
    assert ids[:2] == ["a", "b"]
    assert ids[2] == "judge-by-what-was-shown"
    assert ids[-1] == "c"


def test_a_set_that_comes_by_two_ways_counts_once(tmp_path: Path) -> None:
    write(tmp_path, "base", [], "a")
    write(tmp_path, "left", ["base.toml"], "b")
    write(tmp_path, "right", ["base.toml"], "c")

    read = constitutions.read(write(tmp_path, "both", ["left.toml", "right.toml"]))

    assert [each.id for each in read.principles] == ["a", "b", "c"]


def test_a_set_that_includes_itself_names_the_circle(tmp_path: Path) -> None:
    write(tmp_path, "one", ["two.toml"], "a")
    write(tmp_path, "two", ["one.toml"], "b")

    with pytest.raises(ConfigError, match=r"itself: 'one.toml' includes 'two.toml' includes 'one"):
        constitutions.read(tmp_path / "one.toml")


def test_two_included_sets_with_one_id_and_other_words_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "left", [], "a", text="One thing.")
    write(tmp_path, "right", [], "a", text="Another thing.")

    with pytest.raises(ConfigError, match=r"both.toml: includes = 'right.toml': its principle 'a'"):
        constitutions.read(write(tmp_path, "both", ["left.toml", "right.toml"]))


def test_an_own_id_that_an_included_set_has_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "base", [], "a")

    with pytest.raises(ConfigError, match=r"mine.toml: principles.id = 'a' stands in an included"):
        constitutions.read(write(tmp_path, "mine", ["base.toml"], "a"))


@pytest.mark.parametrize("hole", ["{topic}", "{{ answer }}", "{}", "${NAME}", "%(x)s", "[[X]]"])
@pytest.mark.parametrize("field", ["text", "critique", "revision", "comparison"])
def test_a_hole_that_nothing_fills_is_refused(field: str, hole: str) -> None:
    principle = {"id": "a", "text": "A rule.", field: f"Look at {hole} closely."}

    with pytest.raises(ConfigError, match=rf"x\.toml: principles\.0\.{field} = .* is a hole"):
        constitutions.parse({**GOOD, "principles": [principle]}, name="x", where="x.toml")


@pytest.mark.parametrize(
    "text", ["Keep {a, b} as a set.", "Costs $5.", "100 % [of all].", "a << b"]
)
def test_braces_in_prose_are_no_hole(text: str) -> None:
    read = constitutions.parse(
        {**GOOD, "principles": [{"id": "a", "text": text}]}, name="x", where="x.toml"
    )

    assert read.principles[0].text == text


@pytest.mark.parametrize("weight", ["0", "-1", "inf", "nan"])
def test_a_weight_is_a_positive_number(tmp_path: Path, weight: str) -> None:
    path = write(tmp_path, "x", [], "a")
    path.write_text(path.read_text() + f"\nweight = {weight}", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"principles\.0\.weight"):
        constitutions.read(path)


def test_a_principle_is_drawn_as_often_as_its_weight_says() -> None:
    principles = [
        {"id": "often", "text": "A.", "weight": 3.0},
        {"id": "seldom", "text": "B.", "weight": 1.0},
    ]
    read = constitutions.parse({**GOOD, "principles": principles}, name="x", where="x.toml")
    rng = random.Random(0)

    drawn = Counter(read.draw(rng, 1)[0].id for _ in range(4_000))

    assert drawn["often"] / 4_000 == pytest.approx(0.75, abs=0.02)
    assert {each.id for each in read.draw(rng, 2)} == {"often", "seldom"}


def test_a_set_can_be_cut_down_by_tag_and_by_leaving_one_out() -> None:
    whole = constitutions.load("harmlessness")

    private = whole.select(tags=["privacy"])
    without = whole.select(without=["privacy-of-others"])

    assert {each.id for each in private.principles} == {
        "privacy-of-others",
        "no-secrets-without-right",
    }
    assert len(without.principles) == len(whole.principles) - 1
    assert without.fingerprint != whole.fingerprint


def test_an_unknown_tag_or_principle_names_the_nearest() -> None:
    whole = constitutions.load("harmlessness")

    with pytest.raises(ConfigError, match=r"tag 'privaci'\. Did you mean 'privacy'"):
        whole.select(tags=["privaci"])
    with pytest.raises(ConfigError, match=r"principle 'no-sermon'\. Did you mean 'no-sermons'"):
        whole.select(without=["no-sermon"])


def test_the_set_against_harm_covers_both_stages() -> None:
    whole = constitutions.load("harmlessness").principles

    assert sum(each.critique is not None and each.revision is not None for each in whole) >= 16
    assert sum(each.comparison is not None for each in whole) >= 16


def test_what_is_not_written_is_made_of_the_text() -> None:
    (principle,) = constitutions.parse(GOOD, name="x", where="x.toml").principles

    for said in (
        principle.critique_request,
        principle.revision_request,
        principle.comparison_question,
    ):
        assert "Be kind." in said
