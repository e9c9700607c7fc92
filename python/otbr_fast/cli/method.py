"""The method's settings from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otbr_fast.cli.subject import checked

if TYPE_CHECKING:
    from otbr_fast.repair import RepairConfig


def make_config(**options: object) -> RepairConfig:
    """Return the settings of a repair; options that are ``None`` take the paper's values.

    Raises
    ------
    typer.BadParameter
        A value is out of its range; the message names the option.
    """
    from otbr_fast.repair import RepairConfig

    given = {name: value for name, value in options.items() if value is not None}
    return checked(lambda: RepairConfig.model_validate(given))
