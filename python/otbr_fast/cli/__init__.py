"""The ``otbr-fast`` command; one module a subcommand, imported light: torch comes with the work."""

from __future__ import annotations

import typer

from otbr_fast.cli import (
    attack,
    bench,
    compare,
    demo,
    evaluate,
    fuse,
    info,
    inspect,
    repair,
    sweep,
    verdict,
)
from otbr_fast.cli.group import ErrorReportingGroup

app = typer.Typer(
    name="otbr-fast",
    cls=ErrorReportingGroup,
    help="Mitigate backdoors in neural networks by optimal transport, without any data.",
    epilog="Exit codes: 0 done, 1 refused or failed (the reason is on stderr), 2 wrong usage, "
    "3 (verdict only) a sign of a backdoor was found, 4 (verdict only) the classes are too few to "
    "tell, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
app.command("verdict")(verdict.command)
app.command("repair")(repair.command)
app.command("sweep")(sweep.command)
app.command("evaluate")(evaluate.command)
app.command("compare")(compare.command)
app.command("fuse")(fuse.command)
app.command("inspect")(inspect.command)
app.command("demo")(demo.command)
app.command("attack")(attack.command)
app.command("bench")(bench.command)
app.command("info")(info.command)


def main() -> None:
    """Run the ``otbr-fast`` command."""
    app()


__all__ = ["app", "main"]
