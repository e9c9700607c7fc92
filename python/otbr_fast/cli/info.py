"""``otbr-fast info``: versions, SIMD path, threads and build profile."""

from __future__ import annotations

import typer

from otbr_fast.cli import common
from otbr_fast.cli.output import print_json


def command(json: common.Json = False) -> None:
    """Show versions and how the compiled core works on this machine."""
    from otbr_fast import show_versions

    facts = show_versions()
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        typer.echo(f"{name:<14} {'not installed' if value is None else value}")
