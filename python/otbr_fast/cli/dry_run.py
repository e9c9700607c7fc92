"""What a repair or a sweep will take, shown instead of done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otbr_fast.cli.output import print_json, print_text
from otbr_fast.cli.subject import Subject

if TYPE_CHECKING:
    from otbr_fast.channels import ChannelGraph
    from otbr_fast.repair import RepairConfig


def show_estimate(
    subject: Subject,
    settings: RepairConfig,
    channels: ChannelGraph | None,
    n_gammas: int,
    n_lambdas: int,
    *,
    json: bool,
) -> None:
    """Print what stage 2 takes in time and memory. Nothing is computed of the network."""
    from otbr_fast.repair.estimate import estimate

    found = estimate(subject.model, subject.inputs, settings, n_gammas, n_lambdas, channels)
    if json:
        print_json(found.to_dict())
        return
    widest = max(found.problems, key=lambda problem: problem.work_bytes)
    print_text(
        f"Stage 2 for {n_gammas} γ, {found.n_results} fused networks: about {found.seconds:.2g} s "
        f"({found.distance_seconds:.2g} s for distances, {found.solver_seconds:.2g} s for exact "
        f"transports, {found.weight_seconds:.2g} s for weights) and {_size(found.peak_bytes)} of "
        "memory.",
        f"The network has {_size(found.network_bytes)}; {found.n_networks} of its size are held "
        f"together, it and what is made of it. The widest of {len(found.problems)} transports, "
        f"'{widest.name}', has {widest.n_neurons} neurons of fan-in {widest.fan_in} and takes "
        f"{_size(widest.work_bytes)} more.",
        "Told from shapes and rates measured just now, for a machine with nothing else to do. Not "
        "counted: what PyTorch itself takes, and the stages before and after (probes, unlearning, "
        "recalibration, distillation, measuring). Nothing was changed.",
    )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**27 else f"{n_bytes / 2**20:.1f} MiB"
