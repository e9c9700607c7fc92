"""``otbr-fast inspect``: what a file holds and what a repair would touch."""

from __future__ import annotations

from typing import Any

import typer

from otbr_fast.cli import common
from otbr_fast.cli.output import print_json
from otbr_fast.cli.subject import ModelOptions, Network, Subject, open_network


def command(
    model: common.Model,
    arch: common.Arch = None,
    input_shape: common.InputShape = None,
    input_range: common.InputRange = None,
    mean: common.Mean = None,
    std: common.Std = None,
    num_classes: common.NumClasses = None,
    config: common.Config = None,
    json: common.Json = False,
) -> None:
    """Show a network's architecture, input, hash, and the layers that a repair would work on."""
    network = open_network(
        model, ModelOptions(arch, input_shape, input_range, mean, std, num_classes)
    )
    facts = _facts(network)
    if json:
        print_json(facts)
    else:
        _show(facts)


def _facts(network: Network) -> dict[str, Any]:
    from dataclasses import asdict

    from otbr_fast.models import state_dict_hash
    from otbr_fast.repair import conv_chain

    record = network.checkpoint.record
    chain = conv_chain(network.model)
    return {
        "path": str(network.checkpoint.path),
        "file_sha256": network.checkpoint.sha256,
        "weights_sha256": state_dict_hash(network.model.state_dict()),
        "parameters": sum(parameter.numel() for parameter in network.model.parameters()),
        **_description(network),
        "poisoned_images": None if record is None else len(record.poisoned),
        "neurons": chain.n_neurons,
        **asdict(chain),
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
        if name not in ("layers", "shortcuts"):
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


def _told(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items() if item is not None)
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "-" if value is None else str(value)
