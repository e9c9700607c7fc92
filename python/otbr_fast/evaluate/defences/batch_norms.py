"""Which batch norm belongs to which convolution: by the graph, and by the order of modules."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn

from otbr_fast.errors import UnsupportedModelError


@dataclass(frozen=True)
class NormedConv:
    """A convolution and a batch norm with weights and running statistics."""

    conv_name: str
    conv: nn.Conv2d
    norm_name: str
    norm: nn.BatchNorm2d


def own_norms(model: nn.Module) -> tuple[NormedConv, ...]:
    """Find the convolutions that have a batch norm of their own, by the network's graph.

    A batch norm is a convolution's own if nothing else reads what the convolution writes, and
    nothing lies between. In a pre-activation block, ``conv1`` is followed by ``bn2``, but
    ``conv2`` writes into the residual stream, of which the next block's ``bn1`` reads a sum of
    many convolutions. Neither ``conv2`` nor a stem nor a shortcut that writes into the stream has
    a batch norm of its own.

    Raises
    ------
    UnsupportedModelError
        torch.fx cannot trace the network.
    """
    try:
        nodes = fx.Tracer().trace(model).nodes
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        raise UnsupportedModelError(
            f"{type(model).__name__} cannot be traced by torch.fx ({error}), so its convolutions "
            "and batch norms cannot be paired; its layers' order must not depend on the data."
        ) from error
    called = [node.target for node in nodes if node.op == "call_module"]
    found = []
    for node in nodes:
        if node.op != "call_module" or len(node.users) != 1:
            continue
        (reader,) = node.users
        if reader.op != "call_module" or {called.count(n.target) for n in (node, reader)} != {1}:
            continue
        conv, norm = (model.get_submodule(str(n.target)) for n in (node, reader))
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and _is_fixed(norm):
            found.append(NormedConv(str(node.target), conv, str(reader.target), norm))
    return tuple(found)


def next_norms(model: nn.Module) -> tuple[NormedConv, ...]:
    """Give each batch norm the convolution that stands before it in the order of modules.

    As the published implementation of channel-Lipschitz pruning and BackdoorBench do. In a
    sequential network this is what `own_norms` finds. In a pre-activation one it gives ``conv2``,
    or the shortcut that stands behind it, to the next block's ``bn1``, whose channels are sums of
    which that convolution is one part. What has other numbers of channels is left out.
    """
    found = []
    before: tuple[str, nn.Conv2d] | None = None
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            before = name, module
        elif isinstance(module, nn.BatchNorm2d) and before is not None and _is_fixed(module):
            found.append(NormedConv(*before, name, module))
    return tuple(p for p in found if p.conv.out_channels == p.norm.num_features)


def _is_fixed(norm: nn.BatchNorm2d) -> bool:
    return norm.affine and norm.running_var is not None
