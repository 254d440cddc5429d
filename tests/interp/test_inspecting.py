"""A stored debate is shown token by token as the model reads it, and pictures come out whole."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oversight.cli.main import run
from oversight.errors import ConfigError
from oversight.interp.contrasts import rows_of_store, store_examples
from oversight.interp.inspecting import (
    FeatureShown,
    InspectedAnswer,
    InspectedToken,
    answers_page,
    features_page,
    head_named,
    inspect_debate,
)
from oversight.interp.probes import FittedProbe
from oversight.interp.reading import SiteReader
from oversight.models import SEEDLING, resolve
from oversight.store import Store
from tests.reporting.conftest import make_question, run_scripted


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one debate of seedling's."""
    path = tmp_path_factory.mktemp("inspect") / "inside.db"
    words = "debate -d world --set dataset.settings.telling=plain --limit 1 --model seedling"
    given = [*words.split(), "--no-live", "--protocol", "debate_single_turn", "--store", str(path)]
    assert run(given) == 0
    return path


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(resolve(SEEDLING))


def test_rows_of_a_store_know_turn_seat_span_quotes_and_option(held: Path, tokenizer: Any) -> None:
    with Store.open(held, create=False) as store:
        rows = rows_of_store(store, tokenizer)
        (transcript,) = store.transcripts()
        examples = store_examples(store, tokenizer)
    speeches = [row for row in rows if row.labels["act"] == "speak"]
    turns = {turn.id: turn for turn in transcript.spoken()}
    for row in speeches:
        turn, (start, stop) = turns[row.labels["turn"]], row.labels["span"]
        written = [list(sample.token_ids) for sample in turn.samples]
        assert row.ids[start:stop].tolist() in written
        assert row.read.tolist() == list(range(start - 1, stop))
        assert row.labels["option"] == transcript.debate.orders.defended_by(turn.seat)
        right = row.labels["option"] == transcript.question.correct
        assert row.labels["defends_right"] is right
        for begin, end, status in row.labels["quotes"]:
            words = tokenizer.decode(row.ids[begin:end])
            assert any(q.text in words and q.status == status for q in turn.quotes)
    assert sorted(each.label for each in examples) == [False, True]
    assert len({each.pair for each in examples}) == 1


def test_tokens_are_shown_with_the_samplers_own_probabilities(held: Path, tokenizer: Any) -> None:
    reader = SiteReader.load(SEEDLING)
    width = reader.modules.config.hidden_size
    probe = FittedProbe("p", np.eye(width)[0], np.zeros(width), about={"site": "residual.2"})
    with Store.open(held, create=False) as store:
        (transcript,) = store.transcripts()
        answers = inspect_debate(
            store, transcript.debate.id, reader, tokenizer, probe=probe, attention="1.3"
        )
        with pytest.raises(ConfigError, match="a layer has heads 0 to 3"):
            inspect_debate(store, transcript.debate.id, reader, tokenizer, attention="1.4")
    turn = next(turn for turn in transcript.spoken() if turn.id == answers[0].turn)
    sample = turn.samples[0]
    assert sample.logprobs is not None
    shown = [token.logprob for token in answers[0].tokens]
    if sample.logprobs_temperature == 1.0:
        assert np.allclose(shown, sample.logprobs, atol=1e-3)
    assert len(shown) == len(sample.token_ids)
    token = answers[0].tokens[0]
    assert len(token.lens) == reader.modules.num_layers + 1
    assert token.score is not None
    assert len(token.attended) == 5
    assert 0 < sum(weight for _, weight in token.attended) <= 1 + 1e-6


def test_the_command_shows_a_debate_and_draws_it(
    held: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(held, create=False) as store:
        (id_,) = store.debate_ids()
    given = ["inspect", id_[:10], "--store", str(held), "--turn", "1"]
    page = tmp_path / "inside.html"
    drawn = ["--png", str(tmp_path / "png"), "--html", str(page), "--attention", "2.0"]
    assert run([*given, *drawn, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    html = page.read_text(encoding="utf-8")
    assert html.count('class="inside"') == html.count("aria-controls=") == len(answer["tokens"])
    assert html.count("The head 2.0 looks at") == len(answer["tokens"])
    assert "<h2>Answer 1: debater " in html
    assert "; right is " in html
    assert "http" not in html
    assert all(math.isfinite(token["logprob"]) for token in answer["tokens"])
    assert (tmp_path / "png" / "answer-1.png").stat().st_size > 5000
    assert run(["inspect", id_, "--store", str(held), "--json"]) == 0
    every = json.loads(capsys.readouterr().out)
    assert {each["purpose"] for each in every} >= {"speech", "belief"}
    judged = every[-1]
    assert (judged["role"], judged["purpose"], len(judged["tokens"])) == ("judge", "belief", 1)
    with Store.open(held, create=False) as store:
        ((sample,),) = [j.samples for t in store.transcripts() for j in t.judgments]
    assert judged["tokens"][0]["logprob"] == pytest.approx(sample.logprobs[0], abs=1e-3)
    assert run([*given, "--attention", "2.0"]) == 0
    widest = max(map(len, capsys.readouterr().out.splitlines()))
    assert widest <= 100
    for more, told in (
        (["--turn", "99"], "--turn 99: the debate has"),
        (["--attention", "two"], "write LAYER.HEAD"),
        (["--attention", "9.0"], "the model has pattern.0 to pattern.3"),
        (["--probe", str(held)], "holds no probe"),
        (["--html", str(tmp_path)], "--html"),
        (["--png", str(page)], "--png"),
        (["--model", "porter"], "another tokenizer"),
    ):
        assert run([*given, *more]) == 2
        said = capsys.readouterr().err
        assert told in said
        assert said.count("\n") == 1
    assert run(["inspect", "zz", "--store", str(held)]) != 0
    assert "no debate 'zz' (none begins so)" in capsys.readouterr().err


def test_a_png_is_a_file_of_one_answer_and_no_name_of_a_folder(
    held: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "i.png"
    given = ["inspect", "--store", str(held), "--png", str(place)]
    assert run(given) == 2
    said = capsys.readouterr().err
    assert f"--png {place}: each answer has a picture of its own; name a folder" in said
    assert not place.exists()
    assert run([*given, "--turn", "1"]) == 0
    assert place.read_bytes().startswith(b"\x89PNG")


def test_of_several_debates_one_has_to_be_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def hold() -> list[str]:
        with Store.open(path) as store:
            await run_scripted(store, [make_question(0)], ["debate", "consultancy"])
            return sorted(store.debate_ids())

    path = tmp_path / "two.db"
    ids = asyncio.run(hold())
    assert len(ids) == 2
    assert run(["inspect", "--store", str(path)]) == 2
    said = capsys.readouterr().err
    assert "holds 2 debates: name one, by its id or its beginning" in said
    assert "''" not in said
    with Store.open(tmp_path / "none.db"):
        pass
    assert run(["inspect", "--store", str(tmp_path / "none.db")]) == 2
    assert "holds no debate yet" in capsys.readouterr().err


HOSTILE = "</script><img src=x onerror=alert(1)>\u202e\x1b[31m\n"


def test_pages_escape_all_that_a_model_wrote_and_need_no_other_file() -> None:
    told = "<b>" * 900
    token = InspectedToken(
        HOSTILE, -0.1, ((HOSTILE, 0.5), ("b", 0.2)), -1.5, ((HOSTILE, 0.3), (told, 0.2))
    )
    plain = InspectedToken("yes", math.log(0.25), (("no", 0.5), ("yes", 0.25)))
    turns = [
        InspectedAnswer("t", HOSTILE, "debater", "speak", 0, False, (token, plain), (1,)),
        InspectedAnswer("t", "judge", "judge", "decide", None, None, (plain,), (), "belief"),
    ]
    feature = FeatureShown(7, 0.125, 0.75, (((HOSTILE, 0.0), ("place", 2.0)),))
    for page in (
        answers_page(HOSTILE, turns),
        features_page(HOSTILE, [feature], [HOSTILE]),
    ):
        assert "<img" not in page
        assert "\x1b" not in page
        assert "\u202e" not in page
        assert page.count("</script>") <= 1
        assert "http" not in page
        assert "src=" not in page.replace("&lt;img src=x", "")
    page = answers_page("Two answers", turns, [HOSTILE], HOSTILE)
    assert "<img" not in page
    assert page.count("&lt;b&gt;") < 20  # a long token is shown by its beginning
    assert page.count('<button type="button"') == page.count('class="inside"') == 3
    assert "Answer 2: judge, belief" in page
    assert "defends the wrong option" in page
    assert "probe -1.50" in page
    assert "probability 0.250" in page
    assert page.count("token plain quoted") == 1
    assert "Active at 12.5 % of the tokens; AUROC for the label 0.750." in features_page(
        "Features", [feature]
    )


def test_a_head_is_named_by_layer_and_number() -> None:
    assert head_named("2.0") == (2, 0)
    with pytest.raises(ConfigError, match=r"attention = '2': write LAYER\.HEAD"):
        head_named("2")
