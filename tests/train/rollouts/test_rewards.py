"""Rewards from models, functions and rules; numbers that are none are refused."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oversight.errors import ConfigError, DataError
from oversight.train.experience_settings import RewardSettings
from oversight.train.rollouts.rewards import check_rewards, open_rewards, tried_rewards
from oversight.train.rollouts.types import RewardSource, SampledResponse
from oversight.train.types import PromptExample


@pytest.fixture(scope="module")
def tokenizer(chat_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(chat_model)


def response(tokenizer: Any, text: str) -> SampledResponse:
    ids = np.array([*tokenizer(text)["input_ids"], tokenizer.eos_token_id])
    return SampledResponse(ids, np.zeros(len(ids), dtype=np.float32), finished=True)


@pytest.fixture
def asked(tokenizer: Any) -> tuple[list[PromptExample], list[list[SampledResponse]]]:
    examples = [
        PromptExample("k", np.array([7, 8, 9]), {"answer": "kitchen"}),
        PromptExample("n", np.array([7, 8]), {"answer": "noon"}),
    ]
    texts = [["in the Kitchen", "at noon"], [" NOON ", "the judge"]]
    return examples, [[response(tokenizer, text) for text in group] for group in texts]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [[1, 0], [1, 0]]),
        ({"ignore_case": False}, [[0, 0], [0, 0]]),
        ({"how": "equals"}, [[0, 0], [1, 0]]),
        ({"how": "regex"}, [[1, 0], [1, 0]]),
    ],
)
def test_a_response_that_matches_is_worth_one(
    tokenizer: Any, asked: Any, changes: dict[str, Any], expected: list[list[float]]
) -> None:
    source = open_rewards(RewardSettings(source="matches", **changes), tokenizer)
    assert isinstance(source, RewardSource)
    assert source.score(*asked) == expected


def test_a_field_that_is_missing_is_refused(tokenizer: Any, asked: Any) -> None:
    source = open_rewards(RewardSettings(source="matches", field="label"), tokenizer)
    with pytest.raises(DataError, match=r"row 'k': reward\.field = 'label' is missing"):
        source.score(*asked)


def test_length_is_worth_most_at_its_target(tokenizer: Any, asked: Any) -> None:
    size = len(asked[1][0][0].token_ids)
    source = open_rewards(RewardSettings(source="length", target_tokens=size), tokenizer)
    scores = source.score(*asked)
    assert scores[0][0] == 1.0
    assert max(scores[0][1], *scores[1]) < 1.0


def count_blanks(texts: list[str], fields: list[dict[str, object]]) -> list[float]:
    assert [each["id"] for each in fields] == ["k", "k", "n", "n"]
    assert fields[0]["answer"] == "kitchen"
    return [float(text.count(" ")) for text in texts]


def one_is_nan(texts: list[str], fields: list[dict[str, object]]) -> list[float]:
    return [1.0, 1.0, 1.0, float("nan")]


def too_few(texts: list[str], fields: list[dict[str, object]]) -> list[float]:
    return [1.0]


@pytest.fixture
def this_module(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "my_rewards", sys.modules[__name__])
    return "my_rewards"


def test_a_function_gets_texts_without_special_tokens_and_their_fields(
    tokenizer: Any, asked: Any, this_module: str
) -> None:
    settings = RewardSettings(source="function", function=f"{this_module}:count_blanks")
    assert open_rewards(settings, tokenizer).score(*asked) == [[2, 1], [2, 1]]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("one_is_nan", "row 'n#1': reward 'my_rewards:one_is_nan' is nan"),
        ("too_few", "gave 1 numbers for 4 responses"),
    ],
)
def test_numbers_that_are_none_are_refused(
    tokenizer: Any, asked: Any, this_module: str, name: str, reason: str
) -> None:
    settings = RewardSettings(source="function", function=f"{this_module}:{name}")
    with pytest.raises(DataError, match=reason):
        open_rewards(settings, tokenizer).score(*asked)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_colon", "write it as 'package.module:function'"),
        ("no_such_module_here:f", "cannot be imported"),
        ("oversight.errors:nothing", "has no function 'nothing'"),
    ],
)
def test_functions_that_are_not_there_are_refused(path: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        open_rewards(RewardSettings(source="function", function=path), None)


def save_reward_model(folder: Path, tokenizer: Any, seed: int = 0, **changes: Any) -> str:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        **{"num_labels": 1, **changes},
    )
    model: Any = LlamaForSequenceClassification(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def alone(folder: str, example: PromptExample, sampled: SampledResponse) -> float:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = torch.from_numpy(np.concatenate([example.prompt_ids, sampled.token_ids]))[None]
    with torch.no_grad():
        return float(model(input_ids=ids).logits[0, 0])


def test_reward_models_score_rows_as_alone_and_tell_their_disagreement(
    tokenizer: Any, asked: Any, tmp_path: Path
) -> None:
    folders = tuple(save_reward_model(tmp_path / str(i), tokenizer, seed=i) for i in range(3))
    plain = open_rewards(RewardSettings(models=folders[:1]), tokenizer)
    examples, groups = asked
    expected = np.array(
        [
            [
                [alone(folder, e, s) for s in group]
                for e, group in zip(examples, groups, strict=True)
            ]
            for folder in folders
        ]
    )
    np.testing.assert_allclose(plain.score(*asked), expected[0], atol=1e-6)
    assert plain.metrics == {}
    careful = RewardSettings(models=folders, disagreement_penalty=2.0)
    ensemble = open_rewards(careful, tokenizer)
    spread = expected.std(axis=0)
    np.testing.assert_allclose(
        ensemble.score(*asked), expected.mean(axis=0) - 2.0 * spread, atol=1e-6
    )
    assert ensemble.metrics["reward/disagreement"] == pytest.approx(spread.mean(), rel=1e-5)


REWARD_KINDS: dict[str, dict[str, Any]] = {
    "JambaConfig": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_key_value_heads": 2,
        "num_experts": 2,
        "mamba_d_state": 4,
        "use_mamba_kernels": False,
    },
    "BertConfig": {},
}


@pytest.mark.parametrize("kind", sorted(REWARD_KINDS))
def test_rewards_of_models_that_no_trie_can_score_are_their_own(
    kind: str, tokenizer: Any, asked: Any, tmp_path: Path
) -> None:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, kind)(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_labels=1,
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id,
        **REWARD_KINDS[kind],
    )
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    examples, groups = asked
    expected = [
        [alone(str(tmp_path), example, sampled) for sampled in group]
        for example, group in zip(examples, groups, strict=True)
    ]
    given = open_rewards(RewardSettings(models=(str(tmp_path),)), tokenizer).score(*asked)
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_a_reward_is_read_where_transformers_reads_it_though_the_row_ends_with_padding(
    tokenizer: Any, asked: Any, tmp_path: Path
) -> None:
    folder = save_reward_model(tmp_path, tokenizer)
    examples, groups = asked
    sampled = groups[0][0]
    padded = replace(sampled, token_ids=np.append(sampled.token_ids, [tokenizer.pad_token_id] * 2))
    source = open_rewards(RewardSettings(models=(folder,)), tokenizer)
    given = source.score(examples[:1], [[padded]])
    assert given[0][0] == pytest.approx(alone(folder, examples[0], padded), abs=1e-6)


def test_models_that_give_no_reward_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    def refused(folder: str, reason: str) -> None:
        with pytest.raises(ConfigError, match=reason):
            open_rewards(RewardSettings(models=(folder,)), tokenizer)

    refused(str(tmp_path / "nowhere"), "no folder of a saved model")
    refused(save_reward_model(tmp_path / "two", tokenizer, num_labels=2), "it gives 2 labels")
    causal = "the weight 'score.weight' is missing, so it is no reward model"
    one_label = save_reward_model(tmp_path / "causal", tokenizer)
    weights = load_file(tmp_path / "causal" / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, tmp_path / "causal" / "model.safetensors", metadata={"format": "pt"})
    refused(one_label, causal)
    other = copy.deepcopy(tokenizer)
    other.add_tokens(["<|new|>"])
    refused(save_reward_model(tmp_path / "other", other), "another vocabulary than the policy's")
    broken = tmp_path / "broken"
    save_reward_model(broken, tokenizer)
    file = broken / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused(str(broken), "cannot be read")


def test_settings_say_what_is_missing_without_loading_torch() -> None:
    with pytest.raises(ConfigError, match="needs models"):
        RewardSettings.parse({}, where="rewards")
    with pytest.raises(ConfigError, match="needs function"):
        RewardSettings.parse({"source": "function"}, where="rewards")
    program = (
        "import sys, oversight.train.rollouts.rewards, oversight.train.rollouts.types;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def function_in(folder: Path, body: str, head: str = "def f(texts, fields):") -> RewardSettings:
    """Settings that name the function f of a file of the user's."""
    file = folder / "mine.py"
    lines = "\n    ".join(body.splitlines())
    file.write_text(f"import numpy as np, torch\n{head}\n    {lines}\n")
    return RewardSettings(source="function", function=f"{file}:f")


GIVEN = {
    "a list": "[1, 0.5, 0, 0.25]",
    "a tuple": "(1, 0.5, 0, 0.25)",
    "an array": "np.array([1, 0.5, 0, 0.25])",
    "a half array": "np.array([1, 0.5, 0, 0.25], dtype=np.float16)",
    "numpy scalars": "[np.float32(1), np.float64(0.5), np.int8(0), np.float16(0.25)]",
    "a tensor": "torch.tensor([1, 0.5, 0, 0.25])",
    "a tensor in training": "torch.tensor([1, 0.5, 0, 0.25], requires_grad=True)",
    "a bfloat16 tensor": "torch.tensor([1, 0.5, 0, 0.25], dtype=torch.bfloat16)",
    "scalar tensors": "[torch.tensor(1.0), torch.tensor(0.5), torch.tensor(0), np.array(0.25)]",
}


@pytest.mark.parametrize("kind", GIVEN)
def test_numbers_are_taken_from_whatever_holds_them(
    tokenizer: Any, asked: Any, tmp_path: Path, kind: str
) -> None:
    source = open_rewards(function_in(tmp_path, f"return {GIVEN[kind]}"), tokenizer)
    found = source.score(*asked)
    assert found == [[1.0, 0.5], [0.0, 0.25]]
    assert all(type(reward) is float for group in found for reward in group)


@pytest.mark.parametrize(
    "given",
    ["[True, False, False, True]", "np.array([1, 0, 0, 1]) > 0", "torch.tensor([1, 0, 0, 1]) > 0"],
)
def test_truth_values_are_numbers(tokenizer: Any, asked: Any, tmp_path: Path, given: str) -> None:
    source = open_rewards(function_in(tmp_path, f"return {given}"), tokenizer)
    assert source.score(*asked) == [[1.0, 0.0], [0.0, 1.0]]


NO_NUMBERS = {
    "pass": "gave None",
    "return (0.5 for _ in texts)": r"gave a generator.*return list\(\.\.\.\) of it",
    "return map(float, texts)": "gave a map",
    "return 0.5": "gave a float",
    "return 'abcd'": "gave a str, 'abcd'",
    "return {i: 0.5 for i in range(4)}": "gave a dict",
    "return {0.1, 0.2, 0.3, 0.4}": "gave a set",
    "return np.zeros((4, 1))": r"gave an ndarray of shape \(4, 1\)",
    "return torch.tensor(0.5)": r"gave a Tensor of shape \(\)",
    "async def g(): return [0.5] * 4\nreturn g()": "gave a coroutine.*write it with def",
    "return [0.5] * 3": "gave 3 numbers for 4 responses, of the rows 'k', 'n'",
    "return ['0.5'] * 4": r"row 'k#0': reward .* is '0\.5', and it has to be a finite number",
    "return [1.0, None, 1.0, 1.0]": "row 'k#1': reward .* is None",
    "return torch.tensor([1.0, 1.0, float('inf'), 1.0])": "row 'n#0': reward .* is inf",
    "return [1.0, 1j, 1.0, 1.0]": "row 'k#1': reward .* is 1j",
    "return [1.0, 10**400, 1.0, 1.0]": "row 'k#1': reward .* is 1000",
    "return [[0.5]] * 4": r"row 'k#0': reward .* is \[0\.5\]",
}


@pytest.mark.parametrize("body", NO_NUMBERS)
def test_what_is_no_number_is_refused_with_function_and_row(
    tokenizer: Any, asked: Any, tmp_path: Path, body: str
) -> None:
    source = open_rewards(function_in(tmp_path, body), tokenizer)
    with pytest.raises(DataError, match=NO_NUMBERS[body]) as raised:
        source.score(*asked)
    assert f"{tmp_path / 'mine.py'}:f" in str(raised.value)
    assert "row" in str(raised.value)


def test_a_function_that_raises_is_named_with_its_line_and_the_row(
    tokenizer: Any, asked: Any, tmp_path: Path
) -> None:
    settings = function_in(tmp_path, "return [1 / text.count('N') for text in texts]")
    with pytest.raises(DataError) as raised:
        open_rewards(settings, tokenizer).score(*asked)
    message = str(raised.value)
    assert message.startswith(f"row 'k#0': reward '{tmp_path / 'mine.py'}:f' raised ")
    assert f"ZeroDivisionError: division by zero ({tmp_path / 'mine.py'}, line 3)" in message
    assert "'in the Kitchen'" in message


def test_a_function_that_raises_over_its_whole_call_is_named_with_its_rows(
    tokenizer: Any, asked: Any, tmp_path: Path
) -> None:
    settings = function_in(tmp_path, "raise SystemExit(len(texts))")
    with pytest.raises(DataError, match=r"row 'k#0': reward .* raised SystemExit: 1"):
        open_rewards(settings, tokenizer).score(*asked)
    body = "if len(texts) > 1:\n    raise RuntimeError('together')\nreturn [0.0]"
    with pytest.raises(DataError, match=r"row 'k#0' and others: .*RuntimeError: together.*with 4"):
        open_rewards(function_in(tmp_path, body), tokenizer).score(*asked)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ("async def f(texts, fields):", "it is async.*write it with def"),
        ("def f(texts):", "it is called with two arguments.*too many positional"),
        ("class f:\n  async def __call__(self, texts, fields): pass\nf = f()\nif 1:", "is async"),
    ],
)
def test_a_function_that_cannot_be_called_as_a_reward_is_refused_before_a_run(
    tokenizer: Any, tmp_path: Path, head: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        check_rewards(function_in(tmp_path, "pass", head), tokenizer, [])


def test_a_file_whose_code_fails_is_refused_with_the_line(tokenizer: Any, tmp_path: Path) -> None:
    settings = function_in(tmp_path, "pass", "1 / 0\ndef f(texts, fields):")
    with pytest.raises(ConfigError, match=r"cannot be imported \(ZeroDivisionError.*line 2\)"):
        check_rewards(settings, tokenizer, [])


def test_a_file_may_hold_dataclasses(tokenizer: Any, asked: Any, tmp_path: Path) -> None:
    head = "from __future__ import annotations\nimport dataclasses\n"
    head += "@dataclasses.dataclass\nclass Point:\n    x: int\ndef f(texts, fields):"
    settings = function_in(tmp_path, "return [Point(1).x] * len(texts)", head)
    file = tmp_path / "mine.py"
    file.write_text(file.read_text().removeprefix("import numpy as np, torch\n"))
    assert open_rewards(settings, tokenizer).score(*asked) == [[1.0, 1.0], [1.0, 1.0]]


def test_a_file_is_named_before_its_code_runs(
    tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = "import sys; print('ran', file=sys.stderr)\ndef f(texts, fields):"
    settings = function_in(tmp_path, "return [0.0] * len(texts)", head)
    check_rewards(settings, tokenizer, [])
    open_rewards(settings, tokenizer)
    said = capsys.readouterr().err.replace("\n", "")
    assert said.startswith(f"reward.function: importing {tmp_path / 'mine.py'}, whose code runs")
    assert said.index("importing") < said.index("ran")
    assert said.count("importing") == 1


def test_what_one_response_changes_of_its_fields_is_not_the_nexts(
    tokenizer: Any, asked: Any, tmp_path: Path
) -> None:
    settings = function_in(
        tmp_path, "return [len(f.setdefault('n', []) or f['n'].append(1) or []) for f in fields]"
    )
    assert open_rewards(settings, tokenizer).score(*asked) == [[0.0, 0.0], [0.0, 0.0]]


def test_a_trial_says_what_a_function_gives_for_dummy_responses(
    tokenizer: Any, asked: Any, tmp_path: Path
) -> None:
    settings = function_in(tmp_path, "return [len(text) / 8 for text in texts]")
    assert list(tried_rewards(settings, tokenizer, asked[0])) == [
        f"{tmp_path / 'mine.py'}:f gives row '{id}' 2.25 for 'This is a dry run.' and 0 for ''"
        for id in ("k", "n")
    ]


def test_a_pattern_that_is_none_is_refused_before_a_run(tokenizer: Any) -> None:
    rows = [PromptExample("bad", np.array([7]), {"answer": "(open"})]
    settings = RewardSettings(source="matches", how="regex")
    with pytest.raises(DataError, match=r"row 'bad': .*no regular expression"):
        check_rewards(settings, tokenizer, rows)


def test_a_function_is_given_what_was_said_and_the_thoughts_beside_it(tokenizer: Any) -> None:
    from oversight.train.rollouts.rewards import TextRewards

    heard: list[Any] = []

    def function(texts: list[str], fields: list[dict[str, object]]) -> list[float]:
        heard.extend(zip(texts, [each["thoughts"] for each in fields], strict=True))
        return [0.0] * len(texts)

    class Words:
        """Decodes to what was written."""

        eos_token_id = None

        def decode(self, ids: list[int], **kwargs: Any) -> str:
            return {1: "<think>a plan</think>The kitchen.", 2: "At noon.", 3: "<think>\n"}[ids[-1]]

    answers = [
        SampledResponse(np.array([i]), np.zeros(1, dtype=np.float32), finished=True) for i in (1, 2)
    ]
    example = PromptExample("k", np.array([2]), {})
    TextRewards(function, Words(), "f").score([example], [answers])
    assert heard == [("The kitchen.", "a plan"), ("At noon.", "")]
    heard.clear()
    opened = PromptExample("o", np.array([3]), {})
    TextRewards(function, Words(), "f").score([opened], [answers[1:]])
    assert heard == [("", "At noon.")]


def test_a_reward_model_reads_the_public_text_and_other_responses_by_their_ids() -> None:
    from oversight.chat.prompt_ids import AnswerDecoder

    class Words:
        eos_token_id = 9

        def decode(self, ids: list[int], **kwargs: Any) -> str:
            return {1: "<think>a plan</think>The kitchen.", 2: "At noon.", 3: "Go"}[ids[-1]]

        def __call__(self, text: str, **kwargs: Any) -> dict[str, list[int]]:
            assert text == "The kitchen."
            return {"input_ids": [5, 6]}

    prompt, thinks, speaks = np.array([3]), np.array([4, 1]), np.array([7, 2])
    divider = AnswerDecoder(Words())
    assert divider.public_ids(prompt, thinks, finished=True).tolist() == [5, 6, 9]
    assert divider.public_ids(prompt, thinks, finished=False).tolist() == [5, 6]
    assert divider.public_ids(prompt, speaks, finished=True) is speaks


SUMMED = {
    "matches": {"source": "matches"},
    "short": {"source": "length", "target_tokens": 1, "weight": 0.5},
    "watched": {"source": "length", "target_tokens": 2, "weight": 0.0},
}


def test_several_sources_are_added_by_weight_and_each_has_its_mean(
    tokenizer: Any, asked: Any
) -> None:
    settings = RewardSettings.parse({"source": "sum", "parts": SUMMED})
    source = open_rewards(settings, tokenizer)
    own = {
        name: open_rewards(
            RewardSettings(**{k: v for k, v in each.items() if k != "weight"}), tokenizer
        )
        for name, each in SUMMED.items()
    }
    alone = {name: np.array(each.score(*asked)) for name, each in own.items()}
    assert np.allclose(source.score(*asked), alone["matches"] + 0.5 * alone["short"])
    assert source.metrics == {
        f"rewards/{name}": pytest.approx(v.mean()) for name, v in alone.items()
    }
    assert isinstance(source, RewardSource)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "source = 'sum' needs parts"),
        ({"a": {"source": "length", "weight": 0.0}}, "another weight than 0"),
        ({"a": {"source": "sum"}}, "stands in a sum"),
        ({"a.b": {"source": "length"}}, "give a name of letters, digits"),
        ({"a": {"source": "function"}}, r"reward\.parts\.a = .*needs function"),
    ],
)
def test_a_sum_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RewardSettings.parse({"source": "sum", "parts": given}, "reward")


def test_an_error_names_the_part_of_a_sum(tokenizer: Any, asked: Any) -> None:
    given = {"a": {"source": "function", "function": "nowhere.py:f"}}
    settings = RewardSettings.parse({"source": "sum", "parts": given})
    with pytest.raises(ConfigError, match=r"reward\.parts\.a\.function = 'nowhere\.py:f'"):
        check_rewards(settings, tokenizer, asked[0])
    given = {"a": {"source": "matches", "field": "wanted"}}
    settings = RewardSettings.parse({"source": "sum", "parts": given})
    with pytest.raises(DataError, match=r"row 'k': reward\.parts\.a\.field = 'wanted' is missing"):
        check_rewards(settings, tokenizer, asked[0])


def test_what_the_parts_of_a_sum_name_counts_by_its_content(tmp_path: Path) -> None:
    from oversight.models import contents_of

    code = tmp_path / "mine.py"
    code.write_text("def f(texts, rows):\n    return [0.0] * len(texts)\n")
    given = {"a": {"source": "function", "function": f"{code}:f"}}
    settings = RewardSettings.parse({"source": "sum", "parts": given})
    fields = RewardSettings.all_by_content()
    first = contents_of(settings.identity(), fields)
    assert list(first) == ["parts.a.function"]
    code.write_text("def f(texts, rows):\n    return [1.0] * len(texts)\n")
    assert contents_of(settings.identity(), fields) != first
