"""`oversight train`, each trainer from a recipe; `plot`, its curves; `push`, its way to the hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import CommandLine, Commands, Json, places, set_option
from oversight.train.registered import Trainer, load, names, own_names, summary

if TYPE_CHECKING:
    from oversight.train.runs.hub import Shipment
    from oversight.train.settings import LoraSettings, TrainSettings


Recipe = Annotated[
    Path,
    typer.Argument(
        help="The run's TOML file; see recipes/training/.",
        show_default=False,
        autocompletion=places(".toml"),
    ),
]
Sets = Annotated[list[str] | None, set_option("batch_size=8")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The run's folder, in place of the recipe's `out`."),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in the folder, which has to be there.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Check everything, show the data, steps and memory; write nothing."
    ),
]


class Trainers(Commands):
    """The registered trainers, and one of the user's own as `file.py:function`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All trainers; those of other distributions are looked for when they are asked for, as
        that takes a fifth of the time of `oversight --help`."""
        return names()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a trainer, which is imported when it runs."""
        if ":" in cmd_name:
            said = f"Your own trainer, {cmd_name}."
        elif cmd_name not in self.commands and cmd_name in names():
            said = summary(cmd_name)
        else:
            return super().get_command(ctx, cmd_name)
        app = CommandLine(add_completion=False)
        app.command(cmd_name)(_command(cmd_name, said))
        return typer.main.get_command(app)


train = CommandLine(
    cls=Trainers,
    help="Train a model. Your own trainer is FILE.py:FUNCTION, in place of a name.",
    no_args_is_help=True,
)


def _command(trainer: str, said: str) -> Callable[..., None]:
    def command(
        recipe: Recipe,
        out: Out = None,
        sets: Sets = None,
        resume: Resume = False,
        dry_run: DryRun = False,
    ) -> None:
        _train(trainer, recipe, out, sets or [], resume, dry_run)

    command.__doc__ = (
        f"{said}\n\nCtrl-C finishes the step and saves it; the same command with "
        "--resume goes on, bit for bit. docs/training.md lists every setting."
    )
    return command


for _name in own_names():
    train.command(_name)(_command(_name, summary(_name)))


def is_first_process() -> bool:
    """True if this process prints; under torchrun only the first does."""
    return os.environ.get("RANK", "0") == "0"


def _train(
    trainer: str, recipe: Path, out: Path | None, sets: list[str], resume: bool, dry_run: bool
) -> None:
    from oversight.errors import TrainingInterrupted

    config = _settings(trainer, recipe, out, sets)  # before torch is loaded: a slip is told at once
    from oversight.train.distributed import leave
    from oversight.train.runs.folder import check_begun, check_finished, check_places, is_finished

    found = load(trainer)
    if resume:
        check_begun(config)
        check_finished(config)
    if dry_run:
        _dry_run(found, config, resume)
        return
    if not (resume and is_finished(config)):
        check_places(config, resume)
        try:
            found(config, resume=resume)
        except KeyboardInterrupt as stopped:
            if not str(stopped):  # before the run has begun: nothing to be said of it
                raise
            raise TrainingInterrupted(str(stopped)) from stopped
    leave()
    if is_first_process():
        _print_end(trainer, found, config)


def _settings(trainer: str, recipe: Path, out: Path | None, sets: list[str]) -> Any:
    """The run's settings: the recipe, with what the command line says in its place."""
    from oversight.config import chosen, override, read_toml
    from oversight.errors import ConfigError
    from oversight.train.experience_settings import SETTINGS_OF

    changes = chosen({"out": None if out is None else str(out)}, sets)
    data = override(read_toml(recipe), changes)
    if "out" not in data:
        raise ConfigError(f"{recipe}: no folder for the run; set out = 'runs/NAME', or give --out")
    settings = SETTINGS_OF.get(trainer) or load(trainer).settings
    try:
        return settings.parse(data)
    except ConfigError as error:
        raise ConfigError(f"{recipe}: {error}") from None


def _dry_run(trainer: Trainer, config: TrainSettings, resume: bool) -> None:
    from rich.console import Console

    from oversight.text.terminal import rich_text
    from oversight.train.plan import lines

    if is_first_process():
        console = Console(soft_wrap=True, highlight=False)
        for line in lines(trainer, config, resume=resume):
            console.print(rich_text(line))


def _print_end(name: str, trainer: Trainer, config: TrainSettings) -> None:
    """Print the model's folder, how the run went, and what to type next."""
    from rich.console import Console
    from rich.table import Table

    from oversight.text.terminal import rich_text
    from oversight.train.runs.curves import outcome
    from oversight.train.runs.folder import run_folders
    from oversight.train.runs.metrics import read_metrics

    console = Console(highlight=False, soft_wrap=True)
    runs = run_folders(config)
    for run in runs:
        table = Table("", "first", "last", "best", "at step", box=None, pad_edge=False)
        for row in outcome(read_metrics(run), name):
            table.add_row(*map(rich_text, row))
        console.print(rich_text(f"{run / 'model'}: the finished model"))
        console.print(table)
    for line in _next(trainer, runs, config.model.lora):
        console.print(rich_text(line))


def _next(trainer: Trainer, runs: list[Path], lora: LoraSettings | None) -> list[str]:
    import shlex

    plot = shlex.join(["oversight", "plot", *map(str, runs)])
    if lora is not None and not lora.merge:
        # Nothing here reads an adapter by itself.
        return [f"Next: {plot}", "      peft merges this adapter into its model: merge_and_unload"]
    if trainer.makes == "reward model":
        models = ", ".join(f'"{run / "model"}"' for run in runs)
        setting = shlex.quote(f"reward.models=[{models}]")
        use = f"oversight train ppo RECIPE.toml --set {setting}"
    else:
        use = shlex.join(["oversight", "debate", "--model", str(runs[0] / "model")])
    return [f"Next: {plot}", f"      {use}"]


def plot(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The PNG; curves.png in the first run's folder.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="Only this metric. May be repeated."),
    ] = None,
) -> None:
    """Draw loss, reward, KL and the like of one run, or of several over one another."""
    from oversight.files import check_place
    from oversight.train.runs.curves import plot as draw_plot

    target = out or runs[0] / "curves.png"
    if out is not None:
        check_place(out, "--out")
    draw_plot(runs, target, metric or ())
    typer.echo(f"{target} written", err=True)


def push(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A finished run or its model, or an export: a file, or a folder of them.",
            show_default=False,
            autocompletion=places(".parquet", ".jsonl"),
        ),
    ],
    repo: Annotated[
        str, typer.Option("--repo", metavar="OWNER/NAME", help="The repository on the hub.")
    ],
    private: Annotated[
        bool, typer.Option("--private/--public", help="Who may see a repository that is made.")
    ] = True,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, made where there is none.", show_default="main"),
    ] = None,
    message: Annotated[
        str | None,
        typer.Option("--message", "-m", help="Of the commit.", show_default="what is added"),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Also send files of this name that are left out otherwise: hidden ones, "
            "checkpoints, states of optimizers, logs. May be repeated.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and show what would be sent; send nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send a trained model or exported data with its card to the Hugging Face hub.

    The token is HF_TOKEN's, or that of `hf auth login`; HF_ENDPOINT names another hub. A model's
    card is the one of its run, that of data is made from its rows. Files that stand there already
    are not sent again: after an interruption, give the same command.
    """
    from oversight.train.runs.hub import check_token, shipment
    from oversight.train.runs.hub import push as send

    how: dict[str, Any] = {"private": private, "revision": revision, "message": message}
    goods = shipment(folder, repo, **how, include=include or ())
    if dry_run:
        _tell_shipment(goods, as_json=as_json)
        return
    check_token()
    pushed = send(goods)
    if as_json:
        document = {"url": pushed.url, "commit": pushed.commit, "changed": pushed.is_changed}
        typer.echo(json.dumps(_facts(goods) | document | {"others": pushed.others}, indent=2))
        return
    from oversight.text.numbers import count, memory

    num, size = len(goods.files), sum(each.size for each in goods.files)
    _say(
        f"{pushed.url}: {count(num, 'file')}, {memory(size)}"
        if pushed.is_changed
        else f"{pushed.url}: nothing has changed, {count(num, 'file')} stand there already"
    )
    if pushed.others:
        few = ", ".join(pushed.others[:3]) + (" …" if len(pushed.others) > 3 else "")
        _say(f"Left as they are, {count(len(pushed.others), 'file')} that are not here: {few}")


def _facts(goods: Shipment) -> dict[str, Any]:
    """The content of a shipment, JSON-plain."""
    return {
        "repo": goods.repo,
        "type": goods.kind,
        "private": goods.private,
        "revision": goods.revision or "main",
        "message": goods.message,
        "files": [{"name": each.name, "bytes": each.size} for each in goods.files],
        "left_out": list(goods.left_out),
    }


def _tell_shipment(goods: Shipment, *, as_json: bool) -> None:
    """Print what would be sent where, and the card."""
    from oversight.cli.options import show_table
    from oversight.text.numbers import memory
    from oversight.train.runs.hub import KINDS

    if as_json:
        typer.echo(json.dumps(_facts(goods) | {"card": goods.card}, indent=2))
        return
    seen = "private" if goods.private else "public"
    _say(f"{KINDS[goods.kind]} {goods.repo} ({seen}), branch {goods.revision or 'main'}")
    _say(f"Commit: {goods.message}")
    show_table("", ("file", "size"), [(e.name, memory(e.size)) for e in goods.files], False)
    if goods.left_out:
        _say(f"Left out (--include PATTERN sends them): {', '.join(goods.left_out)}")
    _say("")
    for line in goods.card.splitlines():
        _say(line)
    _say("")
    _say("Nothing was sent.")


def _say(line: str) -> None:
    from rich.console import Console

    from oversight.text.terminal import rich_text

    Console(highlight=False, soft_wrap=True).print(rich_text(line))
