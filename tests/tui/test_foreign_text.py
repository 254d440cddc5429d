"""Foreign words reach a screen only through the sanitiser: a rule over the syntax of what shows.

In every module that shows something to a person, an expression that holds foreign words (an
attribute or parameter named in `FOREIGN`, an error that was caught, or a local name that was given
one of these) may stand in what is shown (arguments of `SHOWING`, attributes of `SHOWN`) only within
a call that makes it safe (`SAFE`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FOREIGN = _words(
    "text rationale source_text raw description question title name dataset protocol judge "
    "asked error answer reason trouble message stem row rows"
)
"""Attributes whose words somebody else wrote."""

SAFE = _words(
    "rich_text visible mark mark_unfinished one_line heading named_by_seat styled_excerpt "
    "excerpt_text options_of rows_of queue_line shown _plain _height own_words sent_lines len bool "
    "int float"
)
"""Calls whose result may be shown whatever goes in: they sanitise, or give no text."""

SHOWING = _words(
    "Static Label Text Option Segment Column Marked update append append_text add_row "
    "add_column add_columns notify write print echo secho write_line set_options"
)
"""Calls whose arguments a person sees."""

SHOWN = _words("border_title border_subtitle title sub_title tooltip placeholder")
"""Attributes of widgets that a person sees, some of which even read markup."""

ALLOWED: dict[tuple[str, str], str] = {
    (
        "tui/linear/lines.py",
        "text",
    ): "whatever is written was made safe where it was put together",
    ("tui/linear/queues.py", "words"): "the program's own choices",
    ("tui/marking.py", "text"): "a list of pieces; `put` is given only `_plain` words",
    ("tui/marking.py", "marked.text"): "a Marked is safe from its making on",
    ("tui/screens/dialogs.py", "self._title"): "the program's own words, see its callers",
    ("tui/widgets/panels.py", "room"): "a width",
    ("tui/widgets/panels.py", "each.name"): "a key of a list of places, not shown",
    ("tui/widgets/panels.py", "asked.name"): "a key of a list of places, not shown",
    ("tui/widgets/seen.py", "last"): "a number of letters",
    ("oversight/cli/options.py", "each"): "a whole number",
    ("oversight/cli/options.py", "row"): "printed as JSON, which escapes",
    ("oversight/cli/inspecting.py", "row"): "made safe by `show_table`",
    ("oversight/cli/listing.py", "about"): "kept in a list that is printed as JSON",
    ("oversight/cli/listing.py", "defaults"): "kept in a list that is printed as JSON",
    ("oversight/cli/ending.py", "message"): "a line of the program's own",
    ("oversight/cli/ending.py", "shown"): "made printable a line above",
    ("oversight/cli/report.py", "rows"): "written to a file, as data",
    ("oversight/cli/report.py", "built"): "figures, whose words `render_text` makes safe",
    ("oversight/cli/report.py", "path"): "a place that the user named",
    ("oversight/cli/options.py", "table"): "a table, judged by what its rows are given",
    ("oversight/cli/report.py", "shown"): "a table of the library's, filled with safe texts",
}
"""(module, expression) -> why it is safe as it is."""


def modules() -> list[Path]:
    """Files of the modules that show something."""
    found = sorted((ROOT / "tui").rglob("*.py"))
    return [*found, *sorted((ROOT / "oversight" / "cli").glob("*.py"))]


def violations(source: str) -> Iterator[tuple[int, str]]:
    """Line and expression of foreign words that are shown raw."""
    tree = ast.parse(source)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for function in [node for node in ast.walk(tree) if isinstance(node, functions)]:
        tainted = _tainted_names(function)
        for node in ast.walk(function):
            for shown in _shown_by(node):
                yield from _foreign(shown, tainted)


def _shown_by(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Call) and _shows(node.func):
        return [*node.args, *(keyword.value for keyword in node.keywords)]
    if isinstance(node, ast.Assign):
        attributes = [t.attr for t in node.targets if isinstance(t, ast.Attribute)]
        return [node.value] if SHOWN.intersection(attributes) else []
    return []


def _shows(function: ast.expr) -> bool:
    if isinstance(function, ast.Attribute):
        return function.attr.lstrip("_") in SHOWING  # a writer that an object keeps, as well
    return _name(function) in SHOWING


def _tainted_names(function: ast.FunctionDef | ast.AsyncFunctionDef) -> frozenset[str]:
    """Parameters, caught errors, and local names that were given foreign words."""
    taken = function.args
    found = {each.arg for each in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)}
    found &= FOREIGN
    for node in ast.walk(function):
        if isinstance(node, ast.ExceptHandler) and node.name:
            found.add(node.name)
    for node in ast.walk(function):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            value = node.value
        elif isinstance(node, ast.For | ast.comprehension):
            targets, value = [node.target], node.iter
        else:
            continue
        if value is not None and next(_foreign(value, frozenset(found)), None):
            found |= {t.id for t in targets if isinstance(t, ast.Name)}
    return frozenset(found)


def _foreign(node: ast.AST, tainted: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Foreign words within an expression that no safe call encloses, and that are its value."""
    if isinstance(node, ast.Call) and (_name(node.func) in SAFE | SHOWING or _is_json(node)):
        return  # a showing call within is looked at on its own
    if isinstance(node, ast.Call) and _name(node.func) == "map" and _name(node.args[0]) in SAFE:
        return
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        for part in (node.func.value, *node.args, *(k.value for k in node.keywords)):
            yield from _foreign(part, tainted)
        return  # its own name is a method's
    if isinstance(node, ast.Compare):
        return  # true or false
    if isinstance(node, ast.IfExp):
        yield from _foreign(node.body, tainted)
        yield from _foreign(node.orelse, tainted)
        return
    if isinstance(node, ast.Attribute):
        if node.attr.lstrip("_") in FOREIGN:
            yield node.lineno, ast.unparse(node)
        elif not isinstance(node.value, ast.Name):
            yield from _foreign(node.value, tainted)
        return
    if isinstance(node, ast.Name) and node.id in tainted:
        yield node.lineno, node.id
        return
    for child in ast.iter_child_nodes(node):
        yield from _foreign(child, tainted)


def _is_json(call: ast.Call) -> bool:
    """True if the call gives JSON, in which all but ASCII is escaped."""
    return _name(call.func) == "dumps" and all(k.arg != "ensure_ascii" for k in call.keywords)


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_foreign_words_are_shown_through_the_sanitiser(path: Path) -> None:
    place = str(path.relative_to(ROOT))
    found = [
        f"{place}:{line}: {what}"
        for line, what in violations(path.read_text())
        if (place, what) not in ALLOWED
    ]
    assert found == []


def test_every_exception_is_still_one() -> None:
    found = {
        (str(path.relative_to(ROOT)), what)
        for path in modules()
        for _, what in violations(path.read_text())
    }
    assert set(ALLOWED) <= found


PLANTED = {
    "an attribute": "def f(self, turn):\n    self.query_one(Static).update(turn.text)",
    "within other words": "def f(turn):\n    Text().append(f'says {turn.text}!')",
    "within a call that does not help": "def f(t):\n    Static(' '.join(t.question.split()))",
    "in a condition's branch": "def f(t):\n    print(t.title if t else '')",
    "a caught error": "def f():\n  try:\n    g()\n  except E as e:\n    self.notify(str(e))",
    "by a name": "def f(item):\n    words = item.rationale\n    write(words)",
    "by two names": "def f(i):\n    a = i.source_text\n    b = a.upper()\n    console.print(b)",
    "one of several": "def f(rows):\n    for row in rows:\n        table.add_row(*row)",
    "a parameter": "def f(title: str):\n    Label(title)",
    "a keyword": "def f(row):\n    table.add_row(name=row.dataset)",
    "a border": "def f(self, asked):\n    self.border_title = asked.dataset",
    "an own field": "def f(self):\n    Static(self._name)",
    "in async code": "async def f(turn):\n    log.write_line(turn.raw)",
    "JSON that keeps its characters": "def f(t):\n    echo(json.dumps(t.text, ensure_ascii=False))",
}

HARMLESS = {
    "sanitised": "def f(turn):\n    Static(rich_text(turn.text))",
    "sanitised within": "def f(t):\n    Text().append(f'says {visible(t.text)}!')",
    "sanitised one by one": "def f(row):\n    table.add_row(*map(rich_text, row))",
    "a number": "def f(t):\n    print(f'{len(t.text)} characters')",
    "a comparison": "def f(t):\n    Static('same' if t.text == '' else 'other')",
    "own words": "def f():\n    self.notify('Copied.')",
    "JSON": "def f(t):\n    echo(json.dumps(t.text))",
    "not shown": "def f(t):\n    store(t.text)",
    "by a name": "def f(t):\n    safe = visible(t.text)\n    print(safe)",
}


@pytest.mark.parametrize("source", PLANTED.values(), ids=PLANTED)
def test_what_is_shown_raw_is_found(source: str) -> None:
    assert list(violations(source))


@pytest.mark.parametrize("source", HARMLESS.values(), ids=HARMLESS)
def test_what_is_harmless_is_let_be(source: str) -> None:
    assert list(violations(source)) == []
