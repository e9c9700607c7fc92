"""The graph of a network's operations, by torch.export, and what its inputs are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.export.graph_signature import InputKind

from otbr_fast.errors import UnsupportedModelError
from otbr_fast.models.inputs import InputSpec

Example = Sequence[object] | Mapping[str, object]
"""What a network is called with: its arguments in order, or by name."""


@dataclass(frozen=True)
class Traced:
    """A network's operations.

    Parameters
    ----------
    module : GraphModule
        With the graph of ATen operations, none of them decomposed.
    parameters : dict of str to str
        Names of parameters and buffers that are floating point numbers and part of the state dict,
        by the names of their placeholders.
    constants : dict of str to Tensor
        Values of all other tensors of the network, by placeholder.
    shapes : dict of str to tuple
        Of the parameters and buffers, by name.
    aliases : dict of str to tuple of str
        Further names of parameters that are one tensor (tied weights), by the first name.
    """

    module: fx.GraphModule
    parameters: dict[str, str]
    constants: dict[str, torch.Tensor]
    shapes: dict[str, tuple[int, ...]]
    aliases: dict[str, tuple[str, ...]]


def example_input(model: nn.Module, inputs: InputSpec) -> tuple[torch.Tensor]:
    """Make two inputs of the middle of a network's range, of its own dtype and device."""
    middle = torch.full((2, *inputs.shape), inputs.low / 2 + inputs.high / 2)
    weight = next((p for p in model.parameters() if p.is_floating_point()), middle)
    return (inputs.normalize(middle).to(weight),)


def trace(model: nn.Module, example: Example) -> Traced:
    """Trace a network in eval mode; its own mode is as before afterwards.

    Raises
    ------
    UnsupportedModelError
        torch.export cannot trace it.
    """
    args, kwargs = ((), dict(example)) if isinstance(example, Mapping) else (tuple(example), None)
    with _in_eval_mode(model):
        try:
            program = torch.export.export(model, args, kwargs, strict=False)
        except Exception as error:  # tracing runs the model's own code, which may raise anything
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise UnsupportedModelError(
                f"{type(model).__name__} cannot be traced by torch.export ({reason}): its "
                "operations must not depend on the data, and the example input must be what it "
                "takes. Or describe its channels yourself, as `ChannelGraph` in YAML "
                "(`otbr-fast inspect --yaml` writes examples)."
            ) from error
    firsts, aliases = _tied(model)
    parameters: dict[str, str] = {}
    constants: dict[str, torch.Tensor] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    state = program.state_dict
    for spec in program.graph_signature.input_specs:
        placeholder, target = getattr(spec.arg, "name", None), spec.target
        if spec.kind is InputKind.USER_INPUT or placeholder is None or target is None:
            continue
        if target in state and state[target].is_floating_point():
            parameters[placeholder] = firsts.get(target, target)
            shapes[parameters[placeholder]] = tuple(state[target].shape)
        else:
            value = state[target] if target in state else program.constants[target]
            if isinstance(value, torch.Tensor):
                constants[placeholder] = value.detach().clone()
    return Traced(program.graph_module, parameters, constants, shapes, aliases)


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Set eval mode, and attention without torch's fused inference path, which hides its parts."""
    training = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        model.eval()
        with torch.enable_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in training.items():
            module.training = mode


def _tied(model: nn.Module) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Find names of one tensor: each name's first, and each first's others."""
    names: dict[int, list[str]] = {}
    for name, tensor in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), []).append(name)
    firsts = {name: group[0] for group in names.values() for name in group}
    return firsts, {group[0]: tuple(group[1:]) for group in names.values() if len(group) > 1}


def location(node: fx.Node) -> str:
    """Tell an operation and the module it is in, for people."""
    stack = node.meta.get("nn_module_stack") or {}
    path, kind = next(reversed(stack.values()), ("", ""))
    kind = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
    where = f"module '{path}' ({kind.rpartition('.')[2]})" if path else "the network itself"
    return f"operation '{node.target}' in {where}"
