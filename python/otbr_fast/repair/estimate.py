"""What stage 2 will take, told before it starts: from shapes, and from how fast this machine is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import nn

from otbr_fast import ot
from otbr_fast.channels import ChannelGraph
from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair import costs
from otbr_fast.repair.blend import blend
from otbr_fast.repair.config import RepairConfig
from otbr_fast.repair.maps import NeuronMap
from otbr_fast.repair.stages import ChainStages, SpaceStages, Stages, stages_of

_SOLVER = (2.4e-6, 1.4)
"""Seconds of an exact transport among n neurons, c nᵖ: measured on one core of 2.6 GHz, where they
were 0.2 to 0.4 s for 4,096 neurons and 11 to 15 s for 65,536."""

_PACKED = 1 << 24  # entries that the distances hold besides their matrix, about


@dataclass(frozen=True)
class ProblemEstimate:
    """What the transports of one layer, or of one block of a space of channels, take.

    Parameters
    ----------
    name : str
        The layer or space.
    n_neurons, fan_in : int
        Its neurons, and the weights of one in all layers that write them.
    flops : float
        Multiplications and additions of its distances, for all γ.
    work_bytes : int
        Memory of its distances, while it is the one worked on.
    """

    name: str
    n_neurons: int
    fan_in: int
    flops: float
    work_bytes: int


@dataclass(frozen=True)
class Estimate:
    """What stage 2 takes: transports for each γ, and a fused network for each γ and λ.

    Parameters
    ----------
    problems : tuple of ProblemEstimate
        One for each layer or block of a space.
    n_results : int
        Fused networks.
    distance_seconds, solver_seconds, weight_seconds : float
        On the threads asked for, if nothing else runs: distances between neurons, at the rate
        that a small matrix was just measured to have; exact transports, by a power of the number
        of neurons; fused weights, at a measured rate.
    network_bytes : int
        The network's weights.
    n_networks : int
        Networks held together: the one that came and a fused one, and where there are several of
        these the one before, or the best so far.
    peak_bytes : int
        Those networks and the work on the widest problem.
    """

    problems: tuple[ProblemEstimate, ...]
    n_results: int
    distance_seconds: float
    solver_seconds: float
    weight_seconds: float
    network_bytes: int
    n_networks: int
    peak_bytes: int

    @property
    def seconds(self) -> float:
        """All three together."""
        return self.distance_seconds + self.solver_seconds + self.weight_seconds

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {**asdict(self), "seconds": self.seconds}


def estimate(
    model: nn.Module,
    inputs: InputSpec,
    config: RepairConfig,
    n_gammas: int,
    n_lambdas: int,
    channels: ChannelGraph | None = None,
) -> Estimate:
    """Estimate stage 2 for a network, from the shapes of its weights.

    The stages before and after are not counted: evidence, unlearning, recalibration, distillation.

    Parameters
    ----------
    model : nn.Module
        The network; it is traced, not changed.
    inputs : InputSpec
        Shape of its input.
    config : RepairConfig
        ``mode`` and ``n_threads`` are used.
    n_gammas, n_lambdas : int
        How many γ, and λ for each, are tried.
    channels : ChannelGraph, optional
        Its channels, as `repair` takes them.

    Raises
    ------
    UnsupportedModelError
        The network's architecture cannot be handled.
    """
    published = config.mode == "paper"
    stages = stages_of(model, inputs, config, channels)
    problems = tuple(
        _problem(name, n, fan_in, n_gammas, published) for name, n, fan_in in _shapes(model, stages)
    )
    n_threads = config.n_threads
    factor, power = _SOLVER
    network = sum(tensor.nbytes for tensor in model.state_dict().values())
    work = max((problem.work_bytes for problem in problems), default=0)
    n_results = n_gammas * n_lambdas
    n_networks = 2 if n_results == 1 else 3
    return Estimate(
        problems=problems,
        n_results=n_results,
        distance_seconds=sum(p.flops for p in problems) / _distance_rate(n_threads),
        solver_seconds=n_gammas * sum(factor * p.n_neurons**power for p in problems),
        weight_seconds=n_results * network / _weight_rate(n_threads),
        network_bytes=network,
        n_networks=n_networks,
        peak_bytes=n_networks * network + work,
    )


def _shapes(model: nn.Module, stages: Stages) -> list[tuple[str, int, int]]:
    """Return names, numbers of neurons and fan-ins of all transport problems."""
    if isinstance(stages, ChainStages):
        return [
            (layer.name, layer.out_channels, layer.in_channels * math.prod(layer.kernel_size))
            for layer in stages.chain.layers
        ]
    assert isinstance(stages, SpaceStages)  # there are no others
    state = model.state_dict()
    found = []
    for space in stages.spaces:
        fan_in = sum(state[axis.tensor].numel() // space.size for axis in space.writers)
        found += [(space.name, len(members), fan_in) for members in space.members()]
    return found


def _problem(name: str, n: int, fan_in: int, n_gammas: int, published: bool) -> ProblemEstimate:
    """Estimate one problem. Half of a symmetric matrix is computed; a quarter of one for each γ."""
    size = 8 if published else 4
    matrix = n * n * size
    if published:  # nothing is shared
        return ProblemEstimate(name, n, fan_in, 2.0 * n_gammas * n * n * fan_in, matrix)
    if matrix <= costs.MOST_KEPT:
        return ProblemEstimate(name, n, fan_in, 1.0 * n * n * fan_in, matrix * 5 // 4)
    return ProblemEstimate(name, n, fan_in, n_gammas * 0.5 * n * n * fan_in, matrix // 4)


def _distance_rate(n_threads: int | None) -> float:
    """Measure how many multiplications and additions a second distances make."""
    n, d = 512, 4096
    weights = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    return n * n * d / _least_seconds(lambda: ot.cost_matrix(weights, n_threads=n_threads))


def _weight_rate(n_threads: int | None) -> float:
    """Measure how many bytes of weights a second are fused, of neurons that take two others."""
    n, q = 768, 9
    weight = np.zeros((n, n, q), dtype=np.float32)
    sources = np.random.default_rng(0).integers(0, n, 2 * n, dtype=np.int32)
    starts = np.arange(0, 2 * n + 1, 2, dtype=np.int32)
    taken = NeuronMap(starts, sources, np.full(2 * n, 0.5))
    out = np.empty_like(weight)
    seconds = _least_seconds(
        lambda: blend(weight, weight, taken, taken, 0.5, out, n_threads=n_threads)
    )
    return weight.nbytes / seconds


def _least_seconds(work: Callable[[], object]) -> float:
    seconds = math.inf
    for _ in range(3):
        start = time.perf_counter()
        work()
        seconds = min(seconds, time.perf_counter() - start)
    return seconds
