"""Prompt templates of agents as data: shown by name, and replaced by templates of a user's own.

An agent declares its templates (`AgentPrompts`), and its settings take others in their place
(`PromptedSettings.prompts`): a table of them by name, or the path of a TOML file that has a table
for each agent. They are checked as the settings are read, before anything runs, and compiled once.

A template of one's own is text with `{{ name }}` and `{% if name %}`, and nothing else of Jinja.
Words of others come into it as data alone, as into ours. A prompt still grows at its end: what
stands before the words that all read (the rules) has no variable, so that it is the same in every
call and a server's prefix cache holds.
"""

from __future__ import annotations

import logging
import operator
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from pydantic import Field, field_validator

from oversight import registry
from oversight.config import Settings, settings_of
from oversight.errors import PromptError
from oversight.registry import nearest, shortened
from oversight.text.prompts import Template, first_mark, parsed

logger = logging.getLogger("oversight.agents")
_KNOWN_NODES = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.If, nodes.Const),
    *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not),
)
"""Parts of Jinja that a template of one's own may have: text, variables, and conditions on them."""
_HOLE = re.compile(
    r"\{[A-Za-z_]\w*\}|\$\{\w+\}|%\(\w+\)[sd]|\{\{|\}\}|\{%|%\}|_{3,}|\b(?:TODO|FIXME|XXX)\b"
    r"|(?i:[\[<](?:insert|your|fill|placeholder)\b[^\]>\n]{0,60}[\]>])"
)
"""A place that was left to be filled in, in the text of a template."""


@dataclass(frozen=True, slots=True)
class AgentPrompt:
    """One prompt template of an agent, and what another in its place may and must use."""

    template: Template
    """The agent's own."""
    about: str
    """Its place in the prompt, in a sentence."""
    more: frozenset[str] = frozenset()
    """Variables that it is given beyond those that the agent's own uses."""
    needed: frozenset[str] = frozenset()
    """Variables without which the prompt says too little, or its answer cannot be read."""
    leads: bool = False
    """True if it stands before the words that all calls share: it can have no variable."""

    @property
    def variables(self) -> list[str]:
        """Names of the variables that it is given, in order."""
        return sorted(self.template.names | self.more)

    @property
    def text(self) -> str:
        """The agent's own, without the white space that joins it to what stands around it."""
        return self.template.source.strip()

    def own(self, text: str, name: str) -> Template:
        """A template of the user's in this one's place, joined to its surroundings as this is."""
        source = self.template.source
        before = source[: len(source) - len(source.lstrip())]
        after = source[len(source.rstrip()) :]
        return Template(f"{before}{text.strip()}{after}", name)


def leading(template: Template, about: str = "The system message.") -> AgentPrompt:
    """A template that stands before the words that all calls share."""
    return AgentPrompt(template, about, leads=True)


@dataclass(frozen=True, slots=True)
class AgentPrompts:
    """The prompt templates of an agent, by name."""

    agent: str = ""
    """Name of the agent's table in a prompt file."""
    prompts: Mapping[str, AgentPrompt] = field(default_factory=dict)

    def checked(self, given: Mapping[str, Any], file: str = "") -> dict[str, str]:
        """Those of `given` that differ from the agent's own, each checked.

        Args:
            given: Templates by name.
            file: The file that they stand in, for messages.

        Raises:
            PromptError: One line that names the template, its line and what is wrong.
        """
        if not self.prompts:
            raise PromptError("this agent has no prompt templates that could be replaced")
        found: dict[str, str] = {}
        for name, text in given.items():
            where = f"{file}: {self.agent}.{name}" if file else name
            if name not in self.prompts:
                hint = nearest(name, self.prompts)
                raise PromptError(f"{where}: there is no template of that name.{hint}")
            if not isinstance(text, str):
                raise PromptError(f"{where} = {text!r:.60}: give the template as text")
            own = self.prompts[name]
            if text.strip() != own.text:
                _check(own, text.strip(), where)
                found[name] = text.strip()
        return found

    def read(self, path: str) -> dict[str, str]:
        """The templates of this agent in a prompt file, all of which is checked.

        Raises:
            PromptError: The file is not there or no TOML, a table is no agent's, a template is
                wrong, or there is no table for this agent.
        """
        tables = read_file(path, self)
        if self.agent not in tables:
            has = ", ".join(f"[{each}]" for each in tables)
            raise PromptError(f"{path}: it has no table [{self.agent}]; it has {has}")
        return tables[self.agent]


class PromptedSettings(Settings):
    """Settings of an agent whose prompts can be replaced."""

    # Left out unless it is set: ids of debates with the agent's own prompts stay what they were.
    prompts: dict[str, str] = Field(default_factory=dict, exclude_if=operator.not_)
    """Prompt templates in place of the agent's own: a table of them by name, or the path of a TOML
    file with a table for each agent (`oversight prompts`)."""

    @classmethod
    def templates(cls) -> AgentPrompts:
        """The agent's own templates; none unless an agent declares some."""
        return AgentPrompts()

    @field_validator("prompts", mode="before")
    @classmethod
    def _read_prompts(cls, given: Any) -> dict[str, str]:
        if isinstance(given, str | Path):
            return cls.templates().read(str(given))
        if not isinstance(given, Mapping):
            raise ValueError("give a table of templates by name, or the path of a prompt file")
        return cls.templates().checked(given) if given else {}

    def template(self, name: str) -> Template:
        """The template of that name: the user's, or else the agent's own."""
        declared = self.templates()
        own = declared.prompts[name]
        if name not in self.prompts:
            return own.template
        return own.own(self.prompts[name], f"{declared.agent}.{name}")


def tell_unsent(config: PromptedSettings, name: str, advice: str) -> None:
    """Tell on the log that a template of the user's is never sent with these settings."""
    logger.warning("%s.prompts.%s is never sent: %s", config.templates().agent, name, advice)


def declared(agent: str) -> AgentPrompts:
    """The prompt templates of an agent, by its name or "file.py:Class"; it may have none.

    Raises:
        UnknownNameError: There is no agent of that name.
        ConfigError: A user's own cannot be used.
    """
    config = settings_of(registry.load("agents", agent), f"agent = {agent!r}")
    return config.templates() if issubclass(config, PromptedSettings) else AgentPrompts()


def read_file(path: str, asking: AgentPrompts | None = None) -> dict[str, dict[str, str]]:
    """The templates of a prompt file that differ from the agents' own, by agent, all checked.

    Args:
        path: A TOML file with a table for each agent.
        asking: Declared by the agent that reads it, which need not be a registered one.

    Raises:
        PromptError: One line that names the file, the template and its line, and what is wrong.
    """
    try:
        data = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise PromptError(f"prompt file {path!r}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also numbers too long, lists too deep
        raise PromptError(f"prompt file {path!r} is not TOML: {error}") from None
    if not data:
        raise PromptError(f"prompt file {path!r} is empty; `oversight prompts debater` shows one")
    if "dataset" in data or "agents" in data:
        raise PromptError(
            f"{path!r} is a recipe and no file of prompts; `oversight propose` runs a red team's"
        )
    found: dict[str, dict[str, str]] = {}
    for agent, table in data.items():
        own = asking if asking and asking.agent == agent else _of_table(agent, path)
        if not isinstance(table, dict):
            raise PromptError(f"{path}: {agent} = {table!r:.60}: give a table of templates by name")
        found[agent] = own.checked(table, path)
    return found


def _of_table(agent: str, path: str) -> AgentPrompts:
    """The templates of the agent that a prompt file has a table for."""
    names = registry.names("agents")
    own = declared(agent) if agent in names else AgentPrompts()
    if own.prompts:
        return own
    reason = "has no prompts" if agent in names else "is no agent"
    hint = "" if agent in names else nearest(agent, names)
    raise PromptError(
        f"{path}: {agent!r} {reason}; a prompt file has a table of templates for each agent, such "
        f"as [debater].{hint}"
    )


# --- what a template of one's own may be ---


def _check(own: AgentPrompt, text: str, where: str) -> None:
    """Refuse a template that could not be filled in, or leaves something out.

    Raises:
        PromptError: Says what, and where.
    """
    if not text:
        raise PromptError(f"{where}: it is empty; leave it out for the agent's own")
    try:
        tree = parsed(text)
    except jinja2.TemplateSyntaxError as error:
        raise PromptError(f"{where}, line {error.lineno}: {error.message}") from None
    for node in _walk(tree):
        at = f"{where}, line {node.lineno}"
        if not isinstance(node, _KNOWN_NODES):
            kind = type(node).__name__.lower()
            raise PromptError(
                f"{at}: {kind!r} of Jinja cannot stand in a prompt; write {{{{ name }}}}, and "
                "{% if name %} ... {% endif %}"
            )
        if isinstance(node, nodes.TemplateData):
            _check_text(node, where)
        elif isinstance(node, nodes.Name) and node.name not in own.variables:
            raise PromptError(f"{at}: {_unknown(own, node.name)}")
    used = {node.name for node in tree.find_all(nodes.Name)}
    if lacking := sorted(own.needed - used):
        missing = " and ".join(f"{{{{ {name} }}}}" for name in lacking)
        raise PromptError(f"{where}: {missing} must stand in it")


def _walk(tree: nodes.Node) -> Iterator[nodes.Node]:
    """All nodes of a template, each before those within it."""
    yield tree
    for child in tree.iter_child_nodes():
        yield from _walk(child)


def _check_text(node: nodes.TemplateData, where: str) -> None:
    """Refuse places left to be filled in, and marks of chat templates, in the text itself."""
    found = _HOLE.search(node.data)
    mark = None if found else first_mark(node.data)
    if found is None and mark is None:
        return
    start = found.start() if found else mark or 0
    line = node.lineno + node.data.count("\n", 0, start)
    if found:
        raise PromptError(
            f"{where}, line {line}: {found[0]!r} is a place left to be filled in; a variable is "
            "written {{ name }}"
        )
    shown = shortened(node.data[start:].partition("\n")[0], 20)
    raise PromptError(
        f"{where}, line {line}: {shown!r} could be read as a mark of a chat template; leave it out"
    )


def _unknown(own: AgentPrompt, name: str) -> str:
    if own.leads:
        return (
            f"{{{{ {name} }}}} cannot stand here: this comes before the words that all calls "
            "share, and is the same in each of them; what differs goes to the prompt's end"
        )
    if not own.variables:
        return f"unknown variable {name!r}; this template is given none"
    return f"unknown variable {name!r}.{nearest(name, own.variables)}"
