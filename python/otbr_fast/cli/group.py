"""How the commands tell of errors and warnings: one block on stderr, no traceback."""

from __future__ import annotations

import re
import warnings
from typing import Any, TextIO

import typer
from typer.core import TyperGroup

from otbr_fast.errors import OtbrFastError, OutputExistsError

_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|ALLOC_FAILED|"
    r"Storage size calculation overflowed|bad_alloc",
    re.IGNORECASE,
)


class ErrorReportingGroup(TyperGroup):
    """Commands whose expected errors end in exit code 1 and a readable message; Ctrl-C in 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                typer.echo("otbr-fast: interrupted", err=True)
                raise typer.Exit(130) from None
            except BrokenPipeError:
                raise  # the reader of stdout went away: typer ends quietly
            except (OtbrFastError, OSError) as error:
                hint = " (--overwrite)" if isinstance(error, OutputExistsError) else ""
                typer.echo(f"otbr-fast: error: {error}{hint}", err=True)
                raise typer.Exit(1) from None
            except (MemoryError, RuntimeError) as error:
                if not _is_lack_of_memory(error):
                    raise
                typer.echo(f"otbr-fast: error: {_out_of_memory(error)}", err=True)
                raise typer.Exit(1) from None


def _is_lack_of_memory(error: Exception) -> bool:
    """Tell a lack of memory from other errors; torch's CPU side raises plain ones for it."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def _out_of_memory(error: Exception) -> str:
    told = (str(error) or type(error).__name__).splitlines()[0]
    return (
        f"out of memory ({told}). Use a smaller --batch-size or fewer images (--limit) where the "
        "command has them, another --device, or a machine with more memory."
    )


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show this package's own warnings; those of libraries are meant for programmers."""
    if category.__module__.startswith("otbr_fast."):
        typer.echo(f"otbr-fast: warning: {message}", err=True)
