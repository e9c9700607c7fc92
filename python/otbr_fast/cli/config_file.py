"""Config files: a command's settings under its options' names, read and written as YAML."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import typer
import yaml

_NOT_SETTINGS = frozenset({"config", "help"})
_OF_ONE_RUN = frozenset({"dry-run", "json", "overwrite"})  # asked for anew each time


def load_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make a file's settings the command's defaults; typer's eager callback of ``--config``.

    Raises
    ------
    typer.BadParameter
        The file cannot be read, or holds a key that is no option of the command.
    """
    if path is None:
        return None
    settings = read_config(path)
    parameters = {option: name for name, option in _options(ctx).items()}
    many = {parameter.name for parameter in ctx.command.params if parameter.nargs == -1}
    for key in settings:
        if key not in parameters:
            raise typer.BadParameter(_unknown(path, key, list(parameters)))
    ctx.default_map = {
        parameters[str(key)]: value if parameters[str(key)] in many else _as_typed(value)
        for key, value in settings.items()
        if value is not None
    }
    return path


def resolved_config(ctx: typer.Context, **found: object) -> dict[str, object]:
    """Return the settings that a command ran with, under its options' names.

    Parameters
    ----------
    ctx : typer.Context
        Of the running command.
    **found : object
        What was found out later (from the model's description, the method's defaults ...), under
        the names of the command's parameters; takes precedence.

    Returns
    -------
    dict
        Paths are absolute, so that the settings serve in any folder.
    """
    values = {**ctx.params, **found}
    return {
        option: _anywhere(value)
        for name, option in _options(ctx).items()
        if option not in _OF_ONE_RUN and (value := values.get(name)) is not None
    }


def config_text(settings: dict[str, object]) -> str:
    """Return settings as YAML that ``--config`` takes."""
    text: str = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return text


def _options(ctx: typer.Context) -> dict[str, str]:
    """Return the name in a config file of each parameter that may stand there."""
    named = {
        parameter.name: max(parameter.opts, key=len).lstrip("-")
        for parameter in ctx.command.params
        if parameter.name is not None
    }
    return {name: option for name, option in named.items() if option not in _NOT_SETTINGS}


def read_config(path: Path) -> dict[object, object]:
    """Return a file's settings; what is wrong with it is a `typer.BadParameter`."""
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a safe loader
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{path} cannot be read: {error}") from None
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise typer.BadParameter(f"{path} must hold lines of the form 'option: value'")
    return settings


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML's own would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for i, key in enumerate(keys):
            if key in keys[:i]:
                raise yaml.YAMLError(f"'{key}' is there twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def _anywhere(value: object) -> object:
    """Return a setting with its paths absolute."""
    if isinstance(value, (list, tuple)):
        return [_anywhere(part) for part in value]
    return str(value.absolute()) if isinstance(value, Path) else value


def _as_typed(value: object) -> object:
    """Return a YAML value as it would be typed on the command line: lists become "3,32,32"."""
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _unknown(path: Path, key: object, known: list[str]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}."
    return f"{path} has an unknown key '{key}'; {hint}"
