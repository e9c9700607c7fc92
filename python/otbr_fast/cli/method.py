"""The method's settings from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from otbr_fast.cli.subject import checked

if TYPE_CHECKING:
    from otbr_fast.repair import RepairConfig


def make_config(**options: object) -> RepairConfig:
    """Return the settings of a repair; options that are ``None`` take their defaults.

    Raises
    ------
    typer.BadParameter
        A value is out of its range; the message names the option.
    """
    from otbr_fast.repair import RepairConfig

    given = {name: value for name, value in options.items() if value is not None}
    return checked(lambda: RepairConfig.model_validate(given))


def number_or_auto(text: str | None, option: str) -> float | str | None:
    """Read a number or the word auto; a usage error names the option."""
    if text is None or text == "auto":
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} should be a number or 'auto'", param_hint=option
        ) from None
