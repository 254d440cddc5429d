"""Belief trajectories of real human judges, from the published debate files."""

import json
from collections import defaultdict

import pytest

from oversight.evals.calibration import BeliefPath, trajectory

KINDS = {(True, True): "human debate", (True, False): "human consultancy"}


def paths(folder):
    """Beliefs of the judge who ended the debate, by turn, of debates that the paper counts."""
    lines = (folder / "debates-metadata.jsonl").read_text().splitlines()
    metadata = {row["name"]: row for row in map(json.loads, lines)}
    found = defaultdict(list)
    for file in sorted((folder / "debates").glob("*.json")):
        about = metadata[file.stem]
        kind = KINDS.get((about["setting"]["isHuman"], about["setting"]["isDebate"]))
        record = json.loads(file.read_text())
        judged = [r["JudgeFeedback"] for r in record["rounds"] if "JudgeFeedback" in r]
        if kind is None or not about["includedInPaper"] or not judged[-1]["endDebate"]:
            continue
        setup = record["setup"]
        right = [judgment["distribution"][setup["correctAnswerIndex"]] for judgment in judged]
        story = next(iter(setup["sourceMaterial"].values()))["title"]
        found[kind].append(
            BeliefPath((story, setup["question"]), tuple(enumerate(right)), final=right[-1])
        )
    return found


@pytest.mark.parametrize("ended", ["present", "carried"])
def test_belief_rises_in_human_debates_and_hardly_in_consultancies(shared_data, ended):
    folder = shared_data / "nyu-debates"
    if not folder.is_dir():
        pytest.skip(f"no NYU debates at {folder}")
    curves = {kind: trajectory(each, ended) for kind, each in paths(folder).items()}
    for kind, points in sorted(curves.items()):
        shown = " ".join(
            f"{'end' if p.round is None else p.round}: {p.belief.value:.2f} "
            f"[{p.belief.low:.2f}, {p.belief.high:.2f}] n={p.belief.num}"
            for p in points
        )
        print(f"{kind} ({ended})  {shown}")
    debate = [p.belief.value for p in curves["human debate"]]
    consultancy = [p.belief.value for p in curves["human consultancy"]]
    assert debate[0] == pytest.approx(0.51, abs=0.04)
    assert consultancy[0] == pytest.approx(0.50, abs=0.06)
    assert debate[0] < debate[1] < debate[2]
    assert all(d >= c for d, c in zip(debate[:4], consultancy[:4], strict=True))
    assert debate[3] >= 0.65
    if ended == "present":
        for got, published in zip(debate, (0.51, 0.59, 0.70, 0.72), strict=False):
            assert got == pytest.approx(published, abs=0.06)
        for got, published in zip(consultancy, (0.50, 0.53, 0.54, 0.54), strict=False):
            assert got == pytest.approx(published, abs=0.06)
