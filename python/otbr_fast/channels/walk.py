"""Follow channels through a traced network, operation by operation."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import fx

from otbr_fast.channels.call import Call
from otbr_fast.channels.labels import Axes, Ids, Label, Labelled, tidy
from otbr_fast.channels.operations import apply_rule
from otbr_fast.channels.rules_shape import operands_of
from otbr_fast.channels.tracing import Traced, location

_CONTEXTS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
"""Operations that call a part of the graph, and where it stands among their arguments."""


@dataclass
class Found:
    """What a walk found: the parameters' axes, sums, and operations that are not understood."""

    axes: Axes = field(default_factory=lambda: Axes(Ids()))
    summed: set[int] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)


def walk(traced: Traced) -> Found:
    """Follow the channels of all parameters to the network's outputs."""
    found = Found()
    ids = found.axes.ids
    known: dict[str, Labelled] = {}
    inputs: list[object] = []
    for node in traced.module.graph.nodes:
        if node.op != "placeholder":
            continue
        if node.name in traced.parameters:
            name = traced.parameters[node.name]
            if name not in known:
                known[name] = found.axes.parameter(name, traced.shapes[name])
            inputs.append(known[name])
        elif node.name in traced.constants:
            inputs.append(traced.constants[node.name])
        else:
            inputs.append(_input(node.meta.get("val"), ids))
    for result in operands_of(_Walk(traced.module, found).run(inputs)):
        for label in result.labels:
            ids.fix(label.ids, "the network's output")
    for fed in operands_of(inputs):
        for label in fed.labels if fed.is_active else ():
            ids.fix(label.ids, "the network's input")
    return found


def _input(value: object, ids: Ids) -> object:
    """Label an input's channels, which are fixed in the end: so what reads them is known."""
    if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 1:
        channels = ids.fresh(value.shape[1]).view(1, -1, *[1] * (value.ndim - 2))
        return Labelled(tuple(value.shape), tidy(ids, [Label(channels)]))
    return _unlabelled(value)


def _unlabelled(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return Labelled(tuple(value.shape))
    if isinstance(value, (tuple, list)):
        return tuple(_unlabelled(each) for each in value)
    return value


class _Walk:
    """One pass over a graph, or over a part of it that is called as a whole."""

    def __init__(self, module: fx.GraphModule, found: Found) -> None:
        self.module, self.found = module, found
        self.values: dict[fx.Node, object] = {}

    def run(self, inputs: list[object]) -> object:
        waiting = iter(inputs)
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = next(waiting)
            elif node.op == "get_attr":
                self.values[node] = operator.attrgetter(str(node.target))(self.module)
            elif node.op == "output":
                return self._read(node.args[0])
            else:
                self.values[node] = self._call(node)
        return ()

    def _read(self, args: object) -> object:
        return fx.node.map_arg(args, self.values.__getitem__)  # type: ignore[arg-type, type-var]

    def _call(self, node: fx.Node) -> object:
        args, kwargs = self._read(node.args), self._read(node.kwargs)
        assert isinstance(args, tuple)
        assert isinstance(kwargs, Mapping)
        if node.target is operator.getitem:
            return args[0][args[1]]
        name = getattr(node.target, "__name__", str(node.target))
        if name in _CONTEXTS:
            part = args[_CONTEXTS[name]]
            return _Walk(part, self.found).run(list(args[_CONTEXTS[name] + 1 :]))
        assert callable(node.target)
        if not operands_of(args, kwargs):  # sizes, positions, masks: no channels, so compute them
            with torch.no_grad():
                return node.target(*args, **kwargs)
        call = Call(self.found.axes, node, args, dict(kwargs), location(node))
        result = apply_rule(call)
        if result is None:
            result = self._unknown(call)
        self.found.summed |= call.summed
        if call.is_inplace and isinstance(result, Labelled):
            self.values[node.args[0]] = result  # type: ignore[index]
        return result

    def _unknown(self, call: Call) -> object:
        """Fix all channels that an operation that is not understood reads."""
        ids = self.found.axes.ids
        labels = [la for operand in call.operands for la in tidy(ids, operand.labels)]
        for label in labels:
            ids.fix(label.ids, f"{call.where} is not understood")
            self.found.axes.note(label, "carried")
        if labels:
            self.found.unknown.append(call.where)
        return _unlabelled(call.node.meta.get("val"))
