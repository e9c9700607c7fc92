"""``otbr-fast inspect``: what a file holds and what a repair would touch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otbr_fast.cli import common
from otbr_fast.cli.output import print_json
from otbr_fast.cli.subject import ModelOptions, Network, Subject, open_network

if TYPE_CHECKING:
    from rich.table import Table

    from otbr_fast.channels import ChannelGraph, Space


def command(
    model: common.Model,
    arch: common.Arch = None,
    input_shape: common.InputShape = None,
    input_range: common.InputRange = None,
    mean: common.Mean = None,
    std: common.Std = None,
    num_classes: common.NumClasses = None,
    yaml: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yaml",
            help="Write the network's channels there, to look at or to correct; needs an input "
            "shape.",
            show_default="nothing is written",
        ),
    ] = None,
    overwrite: common.Overwrite = False,
    config: common.Config = None,
    json: common.Json = False,
) -> None:
    """Show a network's architecture, input, hash, and the channels that a repair would work on."""
    network = open_network(
        model, ModelOptions(arch, input_shape, input_range, mean, std, num_classes)
    )
    graph = _graph(network)
    if yaml is not None:
        _write(graph, yaml, overwrite)
    facts = _facts(network, graph)
    if json:
        print_json(facts)
    else:
        _show(facts)


def _graph(network: Network) -> ChannelGraph | None:
    """Follow the network's channels, if it is known what to feed it."""
    from otbr_fast.channels import channel_graph, example_input

    if not isinstance(network, Subject):
        return None
    return channel_graph(network.model, example_input(network.model, network.inputs))


def _write(graph: ChannelGraph | None, path: Path, overwrite: bool) -> None:
    from otbr_fast.io import write_channels

    if graph is None:
        raise typer.BadParameter(
            "the shape of the network's input is not known: give --input-shape.",
            param_hint="--yaml",
        )
    write_channels(graph, path, overwrite=overwrite)


def _facts(network: Network, graph: ChannelGraph | None) -> dict[str, Any]:
    from dataclasses import asdict

    from otbr_fast.models import state_dict_hash
    from otbr_fast.repair import conv_chain, transported_spaces

    checkpoint = network.checkpoint
    record = checkpoint.record
    chain = conv_chain(network.model)
    return {
        "path": str(checkpoint.path),
        "files": len(checkpoint.files),
        "file_sha256": checkpoint.sha256,
        "types": checkpoint.types(),
        "weights_sha256": state_dict_hash(network.model.state_dict()),
        "parameters": sum(parameter.numel() for parameter in network.model.parameters()),
        **_description(network),
        "poisoned_images": None if record is None else len(record.poisoned),
        "neurons": graph and sum(space.size for space in transported_spaces(graph)),
        **asdict(chain),
        "spaces": None if graph is None else [_space(space) for space in graph.spaces],
        "fixed": None if graph is None else [asdict(axis) for axis in graph.fixed],
    }


def _space(space: Space) -> dict[str, Any]:
    return {
        "name": space.name,
        "kind": space.kind,
        "size": space.size,
        "blocks": space.n_blocks,
        "writers": [str(axis) for axis in space.writers],
        "carried": [str(axis) for axis in space.carried],
        "readers": [str(axis) for axis in space.readers],
    }


def _description(network: Network) -> dict[str, Any]:
    """Return the keys of a model's description; ``None`` for what is not known."""
    from otbr_fast.io import ModelDescription

    if isinstance(network, Subject):
        return network.description().model_dump(mode="json")
    found = {"model_name": network.arch, "num_classes": network.num_classes}
    return {**dict.fromkeys(ModelDescription.model_fields), **found}


def _show(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    for name, value in facts.items():
        if name not in ("layers", "shortcuts", "spaces", "fixed"):
            typer.echo(f"{name.replace('_', ' '):<16} {_told(value)}")
    table = Table("layer", "out", "in", "kernel", "reads", header_style="bold")
    for layer in facts["layers"]:
        kernel = "x".join(map(str, layer["kernel_size"]))
        table.add_row(
            layer["name"],
            str(layer["out_channels"]),
            str(layer["in_channels"]),
            kernel,
            layer["reads"] or "the input",
        )
    Console().print(table)
    typer.echo(f"left untouched:  {', '.join(facts['shortcuts']) or 'no convolution'}")
    if facts["spaces"] is not None:
        Console().print(_spaces(facts["spaces"]))
        for axis in facts["fixed"]:
            typer.echo(f"left in place:   {axis['tensor']}[{axis['dim']}] ({axis['why']})")


def _spaces(spaces: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table("channels", "count", "blocks", "kind", "written by", "carried", "read by")
    for space in spaces:
        axes = (", ".join(space[role]) for role in ("writers", "carried", "readers"))
        table.add_row(space["name"], str(space["size"]), str(space["blocks"]), space["kind"], *axes)
    return table


def _told(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)
