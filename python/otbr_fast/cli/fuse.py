"""``otbr-fast fuse``: one network of two, their channels matched by optimal transport."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otbr_fast.cli import common
from otbr_fast.cli.computing import limit_threads
from otbr_fast.cli.config_file import config_text, resolved_config
from otbr_fast.cli.output import print_json, print_text
from otbr_fast.cli.shards import require_safetensors, shard_bytes
from otbr_fast.cli.subject import ModelOptions, inputs_of, no_input_shape

if TYPE_CHECKING:
    from otbr_fast.channels import ChannelGraph
    from otbr_fast.io import Checkpoint, ModelDescription
    from otbr_fast.repair import SpaceTransport


def command(
    ctx: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The network whose channels are moved.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="The network that they are moved to.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="OUT.safetensors",
            help="The fused network, in TARGET's types; OUT.json and OUT.config.yaml go beside it.",
        ),
    ],
    lambda_: Annotated[
        float,
        typer.Option("--lambda", metavar="L", min=0, max=1, help="Share of SOURCE."),
    ] = 0.5,
    arch: common.Arch = None,
    input_shape: common.InputShape = None,
    threads: common.Threads = None,
    max_shard_size: common.MaxShardSize = None,
    overwrite: common.Overwrite = False,
    config: common.Config = None,
    json: common.Json = False,
) -> None:
    """Fuse two networks of one architecture, file to file and layer by layer.

    Neither network is ever held whole (.pt and .pth files are, as they are read), so both may be
    larger than the memory. Channels that mean the same may be in different orders: they are matched
    by exact optimal transport first.
    """
    from otbr_fast.io import check_absent, safetensors_paths, save_tensors
    from otbr_fast.io.shards import index_path
    from otbr_fast.repair import fused_tensors, match_spaces
    from otbr_fast.report import json_text, write_texts

    limit_threads(threads)
    require_safetensors(out)
    pair = _open(source, target, ModelOptions(arch, input_shape))
    one, other = pair.source.state_dict, pair.target.state_dict
    size = shard_bytes(max_shard_size, pair.target)
    files = safetensors_paths(other, out, size)
    beside = (out.with_suffix(".json"), out.with_suffix(".config.yaml"))
    check_absent([out, index_path(out), *files, *beside], overwrite)

    matched = match_spaces(one, other, pair.graph, threads)
    document = {
        **pair.description.model_dump(mode="json", exclude_none=True),
        "fusion": {
            "source_sha256": pair.source.sha256,
            "target_sha256": pair.target.sha256,
            "lambda": lambda_,
            "spaces": [_facts(transport) for transport in matched],
        },
    }
    fused = fused_tensors(one, other, matched, lambda_, n_threads=threads)
    save_tensors(fused, other, out, max_shard_bytes=size, overwrite=overwrite)
    used = resolved_config(ctx, arch=pair.description.model_name, out=out)
    write_texts({beside[0]: json_text(document), beside[1]: config_text(used)}, overwrite=overwrite)
    written = [str(path) for path in (*files, *beside)]
    if json:
        print_json({"written": written, **document})
        return
    print_text(
        f"Matched {sum(transport.space.size for transport in matched)} channels in {len(matched)} "
        f"spaces, transport cost {sum(transport.value for transport in matched):.6g}, and mixed "
        f"{lambda_:g} of {source} with {1 - lambda_:g} of {target}. Measure the result where you "
        "can (otbr-fast evaluate)."
    )
    for path in written:
        typer.echo(f"wrote {path}")


@dataclass(frozen=True)
class _Pair:
    """Two networks of one architecture, not read yet."""

    source: Checkpoint
    target: Checkpoint
    graph: ChannelGraph
    description: ModelDescription


def _open(source: Path, target: Path, options: ModelOptions) -> _Pair:
    """Open both, and follow the channels of a network of their shapes that has no weights."""
    from otbr_fast.channels import channel_graph, example_input
    from otbr_fast.errors import CheckpointError
    from otbr_fast.io import ModelDescription, load_checkpoint
    from otbr_fast.models import num_classes, require_fit

    pair = load_checkpoint(source), load_checkpoint(target)
    empty, name = pair[1].skeleton(options.arch)
    for checkpoint in pair:
        try:
            require_fit(empty, checkpoint.state_dict)
        except CheckpointError as error:
            raise CheckpointError(f"{checkpoint.path}: {error}") from None
    inputs = next(filter(None, (inputs_of(each, options) for each in reversed(pair))), None)
    if inputs is None:
        raise no_input_shape()
    description = ModelDescription(
        model_name=name,
        num_classes=num_classes(empty),
        input_shape=inputs.shape,
        input_range=(inputs.low, inputs.high),
        mean=inputs.mean,
        std=inputs.std,
    )
    graph = channel_graph(empty, example_input(empty, inputs))
    return _Pair(*pair, graph, description)


def _facts(transport: SpaceTransport) -> dict[str, object]:
    return {
        "name": transport.name,
        "channels": transport.space.size,
        "ot_cost": transport.value,
        "duality_gap": transport.duality_gap,
    }
