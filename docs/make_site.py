"""Hooks of mkdocs for the site: files outside of docs/ as pages of it, and the rest of the menu.

Pages of docs/ are written for a reader of the repository, too: they link to recipes, results and
pages elsewhere in it. Each file that a page leads to becomes a page of the site under
`repository/`, and the links are turned to it; pictures are copied. A page of docs/ that mkdocs.yml
does not name stands at the end of "How to".
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(?<!`)(!?\[(?:[^\[\]]|!?\[[^\]]*\]\([^)]*\))*\]\()([^)\s]+)(\))")
"""A link or a picture: what stands before its target, the target, and the bracket behind it."""
FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
OUTSIDE = "repository"
LANGUAGES = {".toml": "toml", ".py": "python", ".jsonl": "json", ".json": "json", ".txt": "text"}
MAX_CHARS = 100_000
"""Of a file that is shown; more of it stays in the repository."""


def markdown_pages() -> list[str]:
    """Paths of all pages of docs/ in the repository, `docs/…`."""
    found = (ROOT / "docs").rglob("*.md")
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def without_code(text: str) -> str:
    """The text without fenced blocks of code."""
    return FENCE.sub("", text)


def links(page: str) -> Iterator[tuple[str, str]]:
    """Path in the repository and anchor that each local link of a page leads to."""
    text = without_code((ROOT / page).read_text(encoding="utf-8"))
    for match in LINK.finditer(text):
        if "://" not in match[2] and not match[2].startswith("mailto:"):
            yield target(page, match[2])
        inner = match[1][match[1].index("[") + 1 :]
        for nested in LINK.finditer(inner):  # a picture that is a link
            if "://" not in nested[2]:
                yield target(page, nested[2])


def target(page: str, link: str) -> tuple[str, str]:
    """Path in the repository, and anchor, of a link on a page."""
    path, _, anchor = link.partition("#")
    return (
        posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
    ), anchor


def place(path: str) -> str:
    """Place of a file of the repository among the site's sources."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"{OUTSIDE}/{path}/index.md"
    is_copied = path.endswith((".md", ".png", ".svg"))
    return f"{OUTSIDE}/{path}" if is_copied else f"{OUTSIDE}/{path}.md"


def outside() -> list[str]:
    """Every file and folder outside of docs/ that pages lead to, directly or by one another."""
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(rf" {OUTSIDE}/(\S+\.md)", menu)
    found = dict.fromkeys(named)
    waiting = [*markdown_pages(), *named]
    while waiting:
        page = waiting.pop()
        for path, _ in links(page):
            if path.startswith("docs/") or path in found or not (ROOT / path).exists():
                continue
            found[path] = None
            if path.endswith(".md"):
                waiting.append(path)
    return sorted(found)


def shown(path: str) -> str:
    """The page that shows a text file, or the files of a folder."""
    if (ROOT / path).is_dir():
        files = sorted(each for each in (ROOT / path).iterdir() if each.suffix in LANGUAGES)
        return "\n".join([f"# {path}", "", *(_block(each) for each in files)])
    return "\n".join([f"# {path}", "", _block(ROOT / path, title=False)])


def _block(path: Path, *, title: bool = True) -> str:
    text = path.read_text(encoding="utf-8")
    if len(text) > MAX_CHARS:
        text = text[:MAX_CHARS] + "\n…"
    language = LANGUAGES.get(path.suffix, "text")
    head = f"## {path.name}\n\n" if title else ""
    return f"{head}``````{language}\n{text.rstrip()}\n``````\n"


def turned(page: str, text: str) -> str:
    """A page's text with its links turned to where their targets stand on the site."""
    here = posixpath.dirname(place(page))

    def turn(match: re.Match[str]) -> str:
        before, link, after = match.groups()
        if LINK.search(before[before.index("[") + 1 :]):
            start = before.index("[") + 1
            before = before[:start] + LINK.sub(turn, before[start:])
        if "://" in link or link.startswith(("#", "mailto:")):
            return before + link + after
        path, anchor = target(page, link)
        new = posixpath.relpath(place(path), here or ".")
        return before + new + (f"#{anchor}" if anchor else "") + after

    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(turn, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(turn, text[end:])])


# ----------------------------------------------------------------------------- what mkdocs calls


def on_config(config: Any) -> Any:
    """Pages that the menu does not name, at the end of "How to"."""
    named = set(re.findall(r"[\w/]+\.md", str(config["nav"])))
    rest = [place(page) for page in markdown_pages() if place(page) not in named]
    for section in config["nav"]:
        if "How to" in section:
            section["How to"] += rest
    return config


def on_files(files: Any, config: Any) -> Any:
    """The files outside of docs/ that pages lead to."""
    from mkdocs.structure.files import File, InclusionLevel

    for path in outside():
        if path.endswith((".png", ".svg")):
            made = File.generated(config, place(path), abs_src_path=str(ROOT / path))
        else:
            text = (
                (ROOT / path).read_text(encoding="utf-8") if path.endswith(".md") else shown(path)
            )
            made = File.generated(
                config, place(path), content=text, inclusion=InclusionLevel.NOT_IN_NAV
            )
        if files.get_file_from_path(made.src_uri) is None:
            files.append(made)
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """A page's text, its links turned."""
    uri = page.file.src_uri
    if uri.startswith(f"{OUTSIDE}/"):
        path = uri.removeprefix(f"{OUTSIDE}/")
        return turned(path, markdown) if (ROOT / path).exists() else markdown
    return turned(f"docs/{uri}", markdown)
