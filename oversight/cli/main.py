"""The command `oversight`: its subcommands, and how errors are shown."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from oversight import __version__, registry
from oversight.cli import ending
from oversight.cli.audit import audit
from oversight.cli.batch import answer, critique, feedback
from oversight.cli.constitution import constitution
from oversight.cli.debate import debate, pixels
from oversight.cli.diff import diff
from oversight.cli.ending import INTERRUPTS
from oversight.cli.guard import guard
from oversight.cli.importing import import_records
from oversight.cli.inspecting import inspect
from oversight.cli.listing import datasets, models, prompts, propose, protocols
from oversight.cli.options import INTERRUPTED, CommandLine
from oversight.cli.persons import judge
from oversight.cli.power import power
from oversight.cli.rate import rate
from oversight.cli.redteam import redteam
from oversight.cli.report import export, report
from oversight.cli.run import demo
from oversight.cli.run import run as run_recipe
from oversight.cli.runs import runs
from oversight.cli.store import show, store, view
from oversight.cli.tournament import tournament
from oversight.cli.train import plot, push, train
from oversight.errors import OversightError, TrainingInterrupted, lack
from oversight.redaction import register_login

FIRST_SPEAKS_S = 20.0
"""Seconds that all processes of a machine but the first wait before they report a failure."""

ANOTHER_PATH = "name another path, or one that you may write"
UNUSABLE = {
    errno.EACCES: ANOTHER_PATH,
    errno.EPERM: ANOTHER_PATH,
    errno.EROFS: ANOTHER_PATH,
    errno.ENOENT: "check the path",
    errno.EEXIST: "it is no folder; name another one",
    errno.ENOTDIR: "a part of it is no folder; check the path",
    errno.EISDIR: "it is a folder; name a file",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.ELOOP: "its links lead in a circle; check the path",
    errno.EFBIG: "raise the limit for the size of files (ulimit -f); what was kept is kept",
}
"""Faults of a path that a user named, each with what to do."""

GOING_ON = frozenset(
    {
        *("answer", "audit", "critique", "debate", "demo", "feedback", "import", "judge"),
        *("pixels", "propose", "push", "rate", "redteam", "run", "tournament"),
    }
)
"""Commands that keep what they did, so that the same command goes on. Others but `train` begin
anew."""

app = CommandLine(
    name="oversight",
    help="AI debate and scalable oversight: run debates, judge them, turn them into training data.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run")(run_recipe)
app.command("import")(import_records)
for command in (
    demo,
    debate,
    judge,
    rate,
    critique,
    feedback,
    answer,
    propose,
    prompts,
    view,
    show,
    inspect,
    diff,
    pixels,
    tournament,
    report,
    runs,
    export,
    plot,
    power,
    push,
    datasets,
    models,
    protocols,
):
    app.command()(command)
app.add_typer(train, name="train")
app.add_typer(store, name="store")
app.add_typer(constitution, name="constitution")
app.add_typer(audit, name="audit")
app.add_typer(redteam, name="redteam")
app.add_typer(guard, name="guard")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"oversight {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """AI debate and scalable oversight."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; errors are one line on stderr, without a traceback."""
    ending.install()
    code = run(list(sys.argv[1:] if args is None else args))
    unwritten = ending.flush_output(is_told=code != 0)
    INTERRUPTS.code = code = code or unwritten or 0
    sys.exit(code)


def run(args: list[str]) -> int:
    """The exit code of the command line `args`: 0, 1 (it failed), 2 (mend the input), 130."""
    INTERRUPTS.way_on = way_on(args)
    for each in args:
        if "://" in each:
            register_login(each)
    try:
        return _run(args)
    except KeyboardInterrupt:
        return _stopped()


def way_on(args: Sequence[str]) -> str:
    """The end of the sentence that tells of an interruption: how to go on, if something is kept."""
    command = next((each for each in args if not each.startswith("-")), "")
    if command in GOING_ON:
        return "; the same command goes on from what was kept"
    if command == "train" and "--dry-run" not in args:
        return "; with --resume the same command goes on from the last checkpoint"
    return ""


def _stopped() -> int:
    ending.show_cursor()
    return _say(f"stopped{INTERRUPTS.way_on}", INTERRUPTED)


def _run(args: list[str]) -> int:
    try:
        result = app(args, prog_name="oversight", standalone_mode=False)
    except OversightError as error:
        if error.is_told or is_said_by_first(error):
            return error.exit_code
        return _say(str(error), error.exit_code)
    except typer.Abort:
        return _stopped()
    except BrokenPipeError:
        ending.silence_output()  # its reader has gone: nothing to tell, nobody to tell it
        return 1
    except Exception as error:
        if (what := lack(error)) is not None:
            ending.say_plainly(what)  # no room may be left for more than that
            return 1
        if isinstance(error, OSError) and error.errno in UNUSABLE and error.filename:
            return _say(f"{error.filename}: {error.strerror}; {UNUSABLE[error.errno]}", 2)
        if not hasattr(error, "format_message"):
            raise
        if not str(error.format_message()):
            return 2  # no command was given, and its help has been printed
        return _say(_usage(error), 2)
    if result == INTERRUPTED:
        return _stopped()
    return result if isinstance(result, int) else 0


def is_said_by_first(error: OversightError) -> bool:
    """True if the first process of this machine certainly reports the same error.

    All processes of a run that was asked to stop end after the same step. One that has lost
    another may be the only one left; what it met stands behind its error.
    """
    asked = isinstance(error, TrainingInterrupted) and error.__context__ is None
    return asked and not _is_first_here()


def _is_first_here() -> bool:
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _say(message: str, code: int) -> int:
    if not _is_first_here():
        # A fault of all processes is told by the first, and torchrun ends the others meanwhile.
        time.sleep(FIRST_SPEAKS_S)
    from rich.console import Console

    from oversight.text.terminal import rich_text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(
        rich_text("oversight: " + " ".join(map(str.strip, message.split("\n"))), style="")
    )
    return code


def _usage(error: Any) -> str:
    """One line for a wrong option, command or value, with the nearest known name."""
    context = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    if option is not None and context is not None:
        known = [name for param in context.command.params for name in param.opts]
        hint = registry.nearest(option, known).split(" Known:")[0]
        if option == "--resume" and context.info_name in GOING_ON:
            hint = " The same command goes on by itself with what it did before."
        return f"no such option: {option}.{hint} See '{context.command_path} --help'."
    message: str = _in_words(error)
    place = "oversight" if context is None else context.command_path
    end = "" if message.endswith(("?", ".")) else "."
    return f"{message}{end} See '{place} --help'."


def _in_words(error: Any) -> str:
    """The error's message; where a value was refused, with the value and what is accepted."""
    from pydantic import ValidationError

    from oversight.config import in_words

    message: str = error.format_message()
    if not isinstance(error.__cause__, ValidationError):
        return message
    [first, *_] = error.__cause__.errors(include_url=False)
    place, said, refused = message.partition(": ")[0], in_words(first), repr(first["input"])
    return f"{place}: {said}" if refused in said else f"{place}: {refused}: {said}"


if __name__ == "__main__":
    main()
