"""Settings of the data: checked at once, and without a model library."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oversight.errors import ConfigError
from oversight.train.settings import DataSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pth": "x"}, "unknown setting 'data.pth'.*Did you mean 'path'"),
        ({"path": "a.jsonl", "store": "runs.db"}, "not both"),
        ({"eval_rows": 3, "eval_fraction": 0.1}, "not several"),
        ({"eval_fraction": 1.0}, "eval_fraction"),
        ({"max_length": 8, "max_prompt_length": 8}, "leave a response room"),
        ({"truncation": "left"}, "'drop', 'prompt_left' or 'response_right'"),
        ({"format": "csv"}, "data.format = 'csv'"),
    ],
)
def test_wrong_settings_say_what_is_accepted(settings, message):
    with pytest.raises(ConfigError, match=message):
        DataSettings.parse(settings, "data")


def test_one_path_or_several_are_the_same_kind_of_thing():
    assert DataSettings(path="a.jsonl").paths == ("a.jsonl",)
    assert DataSettings(path=("a.jsonl", "b.jsonl")).paths == ("a.jsonl", "b.jsonl")
    assert DataSettings().paths == DataSettings().eval_paths == ()


def test_settings_load_no_model_library():
    code = (
        "import sys; import oversight.train.settings; "
        "print([m for m in ('torch', 'transformers', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
