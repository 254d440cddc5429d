"""The documentation as a whole: its links, its reference, and the site that mkdocs builds."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

import oversight
from tests.docs.walking import ROOT, pages

SITE = runpy.run_path(str(ROOT / "docs" / "make_site.py"))
OTHER_PAGES = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
PYTHON = ROOT / ".venv-docs" / "bin" / "python"


@functools.cache
def anchors(page: str) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub and the site name them."""
    text = SITE["without_code"]((ROOT / page).read_text(encoding="utf-8"))
    found: dict[str, int] = {}
    made = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.MULTILINE):
        words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        number = found.get(slug, 0)
        found[slug] = number + 1
        made.add(f"{slug}_{number}" if number else slug)
    return frozenset(made)


@pytest.mark.parametrize("page", [*pages(), *OTHER_PAGES])
def test_every_link_and_anchor_of_a_page_leads_somewhere(page: str) -> None:
    for path, anchor in SITE["links"](page):
        assert (ROOT / path).exists(), f"{page}: there is no {path}"
        if anchor and path.endswith(".md"):
            assert anchor in anchors(path), f"{page}: {path} has no heading for #{anchor}"


def test_links_within_links_and_code_are_told_apart() -> None:
    text = "[![a](pictures/a.png)](b.md#c)\n\n```text\n[no](link.md)\n```\n[d](../e.toml)\n"
    turned = SITE["turned"]("docs/x.md", text)
    assert "[![a](pictures/a.png)](b.md#c)" in turned
    assert "[no](link.md)" in turned
    assert "[d](repository/e.toml.md)" in turned
    assert SITE["turned"]("ARCHITECTURE.md", "[x](docs/y.md#z)") == "[x](../y.md#z)"


def test_every_page_of_the_menu_is_there() -> None:
    named = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(named) > 25
    for page in named:
        outside = page.removeprefix("repository/")
        assert (ROOT / ("docs/" + page if outside == page else outside)).is_file(), page


def test_the_page_of_commands_is_what_the_program_says() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))
    written = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert written == made["page"](), "run: python docs/make_commands.py"


def referred() -> list[str]:
    """Every name that the reference is made from docstrings of."""
    return [
        name
        for page in REFERENCE
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
    ]


def imported(name: str) -> Any:
    """The module or the thing of this name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, last = name.rpartition(".")
        return getattr(importlib.import_module(module), last)


@pytest.mark.parametrize("name", referred())
def test_what_the_reference_names_is_there_and_says_what_it_is(name: str) -> None:
    found = imported(name)
    assert inspect.getdoc(found), name
    if inspect.ismodule(found):
        public = [
            each
            for key, each in vars(found).items()
            if not key.startswith("_")
            and (inspect.isclass(each) or inspect.isfunction(each))
            and each.__module__ == name
        ]
        assert public, f"{name}: nothing of it would be shown"


def test_the_reference_has_every_name_that_the_package_offers() -> None:
    shown = {name.rpartition(".")[2] for name in referred()}
    text = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    for name in oversight.__all__:
        if name != "__version__":
            assert name in shown or f"ov.{name}" in text, name


def test_the_reference_has_every_record() -> None:
    modules = {name for name in referred() if name.startswith("oversight.types.")}
    from oversight import types

    for name in types.__all__:
        if isinstance(getattr(types, name), str):
            continue  # a constant
        home = getattr(types, name).__module__
        assert home == "typing" or home in modules or not home.startswith("oversight."), name


def test_papers_stand_in_the_files_that_are_named_beside_them() -> None:
    text = (ROOT / "docs" / "explanations" / "papers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|.*\[(\d{4}\.\d{5})\]\(\S+/(\d{4}\.\d{5})\).*\| `(\S+)` \|$", text, re.M)
    assert len(rows) > 15
    for shown, linked, path in rows:
        assert shown == linked
        assert shown in (ROOT / path).read_text(encoding="utf-8"), (shown, path)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(not PYTHON.exists(), reason="needs .venv-docs (make docs)")
def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    built = subprocess.run(
        [PYTHON, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    made = sorted((tmp_path / "site").rglob("*.html"))
    assert len(made) > 40
    for page in made:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|link|img|iframe)[^>]+(?:src|href)="([^"]+)"', text)
        away = [each for each in loaded if re.match(r"(https?:)?//", each)]
        assert not away, (page, away)
    text = (tmp_path / "site" / "reference" / "python.html").read_text(encoding="utf-8")
    for name in ("oversight.api.debate", "oversight.api.Transcripts", "oversight.store.Store"):
        assert f'id="{name}"' in text
