"""The convolutions whose neurons are transported, as plain data: the seam for architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from otbr_fast.repair.trace import Paths, refusal, trace_paths
from otbr_fast.repair.weights import convolution


@dataclass(frozen=True)
class ConvLayer:
    """One convolution of the chain.

    Parameters
    ----------
    name : str
        The module's name in the model.
    out_channels, in_channels : int
        Its neurons, and the neurons it reads.
    kernel_size : (int, int)
        Height and width of its kernel.
    reads : str or None
        Name of the convolution before it, by whose plan its input channels are mixed.
    """

    name: str
    out_channels: int
    in_channels: int
    kernel_size: tuple[int, int]
    reads: str | None


@dataclass(frozen=True)
class ConvChain:
    """The main path's convolutions in order, and the shortcuts' convolutions, left untouched."""

    layers: tuple[ConvLayer, ...]
    shortcuts: tuple[str, ...]

    @property
    def n_neurons(self) -> int:
        """Neurons of all layers together: what γ is a fraction of."""
        return sum(layer.out_channels for layer in self.layers)

    def __str__(self) -> str:
        lines = [
            f"{layer.name}: {layer.in_channels} -> {layer.out_channels}, "
            f"kernel {layer.kernel_size[0]}x{layer.kernel_size[1]}"
            for layer in self.layers
        ]
        return "\n".join(
            [*lines, *(f"{name}: shortcut, left untouched" for name in self.shortcuts)]
        )


def conv_chain(model: nn.Module) -> ConvChain:
    """Find the convolutions that a repair works on.

    The network's graph is followed, not its names. For PreAct-ResNet18 the chain is what the
    published implementation takes: each ``Conv2d`` whose name lacks ``shortcut``, in the order of
    ``named_parameters``.

    Raises
    ------
    UnsupportedModelError
        If the network is not a sequential or residual chain of plain ``Conv2d`` layers; the
        message names the module or operation, the reason, and what can be done.
    """
    _refuse_computed_weights(model)
    paths = trace_paths(model)
    _check_coverage(model, paths)
    _refuse_shared_weights(model, (*paths.main, *paths.shortcuts))
    layers: list[ConvLayer] = []
    for name in paths.main:
        conv = convolution(model, name)
        before = layers[-1] if layers else None
        if before is not None and conv.in_channels != before.out_channels:
            raise refusal(
                f"module '{name}'",
                f"it reads {conv.in_channels} channels, but '{before.name}' before it makes "
                f"{before.out_channels}",
            )
        height, width = conv.kernel_size
        reads = before.name if before is not None else None
        layers.append(ConvLayer(name, conv.out_channels, conv.in_channels, (height, width), reads))
    return ConvChain(tuple(layers), paths.shortcuts)


def _refuse_computed_weights(model: nn.Module) -> None:
    for name, module in model.named_modules():
        parametrized = is_parametrized(module)
        hooked = isinstance(module, nn.Conv2d) and "weight" not in dict(
            module.named_parameters(recurse=False)
        )
        if parametrized or hooked:
            raise refusal(
                f"module '{name}' ({type(module).__name__})",
                "its weight is computed from other tensors (a parametrization, weight or spectral "
                "norm, or pruning mask); remove it first, keeping the computed weight",
            )


def _check_coverage(model: nn.Module, paths: Paths) -> None:
    """Each convolution must be either on the main path or on a shortcut."""
    main, shortcuts = set(paths.main), set(paths.shortcuts)
    both = [name for name in paths.main if name in shortcuts]
    if both:
        why = "it is on the main path of one addition and on the shortcut of another"
        raise refusal(f"module '{both[0]}'", why)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and name not in main | shortcuts:
            raise refusal(f"module '{name}'", "the network's output does not depend on it")
    if not main:
        raise refusal(type(model).__name__, "it has no convolution, so there is nothing to repair")


def _refuse_shared_weights(model: nn.Module, names: Sequence[str]) -> None:
    owner: dict[int, str] = {}
    for name in names:
        first = owner.setdefault(convolution(model, name).weight.data_ptr(), name)
        if first != name:
            raise refusal(
                f"modules '{first}' and '{name}'",
                "they share one weight, and each would need its own",
            )
