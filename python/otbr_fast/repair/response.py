"""How strongly each neuron answers to a probe: a ranking of neurons."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from otbr_fast.channels import Axis, Space
from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.models.precision import run, working_copy
from otbr_fast.repair.nwc import NeuronValues
from otbr_fast.repair.probe import Probe
from otbr_fast.repair.surrogates import Surrogates, images_at_once

_STD_FLOOR = 1e-6  # of the layer's largest: what does not vary at all must not divide by 0


def probe_response(
    model: nn.Module,
    inputs: InputSpec,
    spaces: Sequence[Space],
    surrogates: Surrogates,
    probes: Sequence[Probe],
    *,
    device: torch.device | str = "cpu",
) -> NeuronValues:
    """Measure each channel's change under probes, relative to its layer.

    For each output channel k of a layer, r_k = mean |a_k(x + d) − a_k(x)| / std a_k(x), over the
    places and the surrogates x of other classes than the probe d's, then divided by the median of
    its layer; a channel that several layers write is given their mean. It is the trigger-activated
    change of Zheng et al. (NeurIPS 2022), with a probe on surrogates in place of the trigger on
    data; what differs besides: the mean of absolute changes, not the norm of the mean change, and
    relative to the neuron's own deviation and to its layer, so that neurons of all layers can be
    ranked together.

    Parameters
    ----------
    model : nn.Module
        It is not changed.
    inputs : InputSpec
        Shape, range and normalisation of its input.
    spaces : sequence of Space
        The channels to look at, at the outputs of the convolutions and linear layers that write
        them.
    surrogates : Surrogates
        Where the probes were found.
    probes : sequence of Probe
        At least one; the responses to several are averaged.
    device : torch.device or str
        Where to compute, in bfloat16 if it has instructions for that.

    Returns
    -------
    dict of str to ndarray, shape (n_channels,)
        For each space, in the order given; finite and not negative. A layer in which more than half
        of the neurons do not answer at all is divided by the median of those that do. Channels
        that only other kinds of layers write, or layers whose weights are used without calling
        them (as `torch.nn.MultiheadAttention` does), are given 0.

    Raises
    ------
    RepairError
        There is no probe, or a response is not finite.
    """
    if not probes:
        raise RepairError("probes is empty: give at least one")
    net = working_copy(model, device)
    written = {space.name: _writers(net, space) for space in spaces}
    meters = {
        name: _Meter(net.get_submodule(name), axis.dim)
        for writers in written.values()
        for name, axis in writers.items()
    }
    responses = [_responses(net, inputs, meters, surrogates, probe) for probe in probes]
    called = responses[0]
    by_layer = {name: np.mean([each[name] for each in responses], axis=0) for name in called}
    return {space.name: _pooled(space, written[space.name], by_layer) for space in spaces}


def _writers(net: nn.Module, space: Space) -> dict[str, Axis]:
    """Return the layers whose outputs are a space's channels, by the modules' names."""
    found = {}
    for axis in space.writers:
        name, _, kind = axis.tensor.rpartition(".")
        module = net.get_submodule(name) if name else net
        if kind == "weight" and axis.groups == 1 and _channel_axis(module) == axis.dim:
            found[name] = axis
    return found


def _channel_axis(module: nn.Module) -> int | None:
    """Return the axis of a layer's weight that its output channels lie on."""
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return 1
    return 0 if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)) else None


def _pooled(space: Space, writers: dict[str, Axis], by_layer: NeuronValues) -> NDArray[np.float64]:
    """Average over the layers that write a channel, and over its places in them."""
    found = [
        by_layer[name][axis.entries].mean(axis=1)
        for name, axis in writers.items()
        if name in by_layer
    ]
    return np.mean(found, axis=0) if found else np.zeros(space.size)


@torch.no_grad()
def _responses(
    net: nn.Module,
    inputs: InputSpec,
    meters: dict[str, _Meter],
    surrogates: Surrogates,
    probe: Probe,
) -> NeuronValues:
    for meter in meters.values():
        meter.reset()
    images = surrogates.of_others(probe.target)
    for x in torch.split(images, images_at_once(inputs)):
        for is_probed, shown in ((False, x), (True, probe.apply(x, inputs))):
            for meter in meters.values():
                meter.is_probed = is_probed
            run(net, inputs, shown)
    relative = {}
    for name, meter in meters.items():
        if not meter.count:
            continue
        response = meter.response()
        if not np.isfinite(response).all():
            raise RepairError(
                f"the activations of layer '{name}' are not finite on surrogates: check the "
                f"network's weights, and its input range and normalisation ({inputs})"
            )
        answering = response[response > 0]
        middle = np.median(response) or (np.median(answering) if answering.size else 1.0)
        relative[name] = response / middle
    return relative


class _Meter:
    """Sums what a layer's channels do on batches, each shown plain and then probed.

    The two are no halves of one batch: which axis a layer has the images on, it alone knows.
    """

    def __init__(self, layer: nn.Module, axis: int) -> None:
        weight = layer.get_parameter("weight")
        self.n_channels = weight.shape[axis]
        self.dim = -1 if isinstance(layer, nn.Linear) else 1
        self.reset()
        layer.register_forward_hook(self._look)

    def reset(self) -> None:
        self.count = 0
        self.is_probed = False
        self.plain: deque[torch.Tensor] = deque()  # what calls put out that are still to be probed
        self.change, self.total, self.squares = torch.zeros(3, self.n_channels, dtype=torch.float64)

    def response(self) -> NDArray[np.float64]:
        """Return mean |a(x + d) − a(x)| / std a(x) of each channel."""
        mean = self.total / self.count
        std = (self.squares / self.count - mean.square()).clamp(min=0).sqrt()
        floor = float(std.max()) * _STD_FLOOR or 1.0
        response: NDArray[np.float64] = (self.change / self.count / std.clamp(min=floor)).numpy()
        return response

    def _look(self, layer: nn.Module, fed: object, out: torch.Tensor) -> None:
        values = out.movedim(self.dim, 0).flatten(1)
        if not self.is_probed:
            self.plain.append(values.clone())  # what comes after may write into the activation
            return
        plain, probed = self.plain.popleft().float(), values.float()
        self.count += plain[0].numel()
        for summed, values in (
            (self.change, (probed - plain).abs()),
            (self.total, plain),
            (self.squares, plain.square()),
        ):
            summed += values.sum(dim=1, dtype=torch.float64).cpu()
