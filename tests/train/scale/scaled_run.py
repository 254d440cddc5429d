"""Trains as a user's script does, several runs one after the other; started by `conftest.py`.

Argument: a JSON file with a list of {"trainer", "config", "resume"}.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from oversight.errors import OversightError


def main(spec: Path) -> int:
    if os.environ.get("WARNINGS_ARE_ERRORS"):
        import warnings

        warnings.simplefilter("error")
    for run in json.loads(spec.read_text()):
        if os.environ.get("RANKS_DIFFER") and os.environ["RANK"] == "1":
            run["config"]["seed"] = 1
        module: Any = importlib.import_module(f"oversight.train.{run['trainer']}")
        try:
            module.train(module.Config.parse(run["config"]), resume=run.get("resume", False))
        except OversightError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(Path(sys.argv[1])))
