"""What a finished circle leaves to look at: one page, pictures, and the numbers."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from oversight.evals.drawing import LIGHT, save_png
from oversight.evals.findings import share
from oversight.evals.page import Illustration, Page, write_page
from oversight.selfplay import words
from oversight.selfplay.pictures import draw_accuracy, draw_baselines, draw_curve
from oversight.selfplay.results import Results
from oversight.selfplay.settings import CircleSettings

TITLE = "The closed circle"


def write_all(circle: CircleSettings, results: Results) -> list[Path]:
    """Write report.html, accuracy.png, curve.png, baselines.png and results.json; their paths.

    Raises:
        ConfigError: A file cannot be written.
    """
    said = "; ".join(
        f"{words.name_of(arm.name)} {arm.arena or ''} {share(arm.share_right)}"
        for arm in results.arms
    )
    pictures = {
        "accuracy.png": Illustration("Accuracy", said, partial(draw_accuracy, results)),
        "baselines.png": Illustration("Baselines", said, partial(draw_baselines, results)),
    }
    if results.points:
        rated = "; ".join(f"{p.policy} {p.rating.value:+.0f}" for p in results.points)
        curve = Illustration("Persuasion and accuracy", rated, partial(draw_curve, results))
        pictures = {"accuracy.png": pictures["accuracy.png"], "curve.png": curve, **pictures}
    page = Page(
        title=TITLE,
        extent=words.extent(results),
        headlines=words.headlines(results),
        warnings=results.warnings,
        pictures=list(pictures.values()),
        tables=words.tables(results),
        methods=words.methods(circle),
    )
    write_page(page, circle.out / "report.html")
    for name, picture in pictures.items():
        save_png(picture.draw(LIGHT), circle.out / name)
    text = json.dumps(results.to_json(), indent=2) + "\n"
    (circle.out / "results.json").write_text(text, encoding="utf-8")
    return [circle.out / name for name in ("report.html", *pictures, "results.json")]
