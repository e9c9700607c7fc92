"""Follow the input through a network and note the convolutions on its main path."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import fx, nn

from otbr_fast.errors import UnsupportedModelError
from otbr_fast.repair import operations as ops

_REMEDY = (
    "Paper mode repairs only sequential and residual networks of plain Conv2d layers "
    "(`otbr_fast.repair.operations` lists what they may use); default mode has no such bounds."
)


def refusal(what: str, why: str) -> UnsupportedModelError:
    """Make the error for a part that cannot be handled: what it is, the reason, the remedy."""
    return UnsupportedModelError(f"{what}: {why}. {_REMEDY}")


@dataclass(frozen=True)
class Flow:
    """An activation: the convolutions behind it, in order, and whether it still has channels."""

    convs: tuple[str, ...] = ()
    has_channels: bool = True


@dataclass(frozen=True)
class Paths:
    """Names of the convolutions on the main path, in order, and of those on shortcuts."""

    main: tuple[str, ...]
    shortcuts: tuple[str, ...]


def trace_paths(model: nn.Module) -> Paths:
    """Find a network's main path and its shortcuts, by following its graph.

    Raises
    ------
    UnsupportedModelError
        If torch.fx cannot trace the network or the network does what a plan for one layer's
        neurons cannot be carried through.
    """
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:  # tracing runs the model's own code, which may raise anything
        raise refusal(
            f"{type(model).__name__} cannot be traced by torch.fx ({error})",
            "its layers' order must not depend on the data",
        ) from error
    return _Walk(model).follow(graph)


class _Walk:
    """One pass over a graph, in the order of computation. Sizes and numbers have no flow (None)."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.flows: dict[fx.Node, Flow | None] = {}
        self.shortcuts: dict[str, None] = {}  # a set that keeps the order
        self.called: set[nn.Module] = set()

    def follow(self, graph: fx.Graph) -> Paths:
        result: Flow | None = None
        for node in graph.nodes:
            if node.op == "output":
                result = self._output(node)
            else:
                self.flows[node] = self._step(node)
        main = result.convs if result is not None else ()
        return Paths(main, tuple(self.shortcuts))

    def _step(self, node: fx.Node) -> Flow | None:
        inputs = [flow for n in node.all_input_nodes if (flow := self.flows[n]) is not None]
        if node.op == "placeholder":
            return self._placeholder(node)
        if node.op == "get_attr":
            why = "a network may use its own tensors only through its modules"
            raise refusal(f"tensor '{node.target}'", why)
        if not inputs:
            self._check_number(node)
            return None
        if node.op == "call_module":
            return self._module(node, inputs)
        return self._operation(node, inputs)

    def _placeholder(self, node: fx.Node) -> Flow | None:
        if node.args:  # it has a default value
            return None
        if Flow() in self.flows.values():
            raise refusal(f"input '{node.target}'", "a network must have one input, an image")
        return Flow()

    def _check_number(self, node: fx.Node) -> None:
        known = node.op == "call_function" and node.target in ops.SIZE_FUNCTIONS
        if not known and node.op != "call_method":
            raise refusal(_describe(node), "this operation on sizes is not known")

    def _module(self, node: fx.Node, inputs: list[Flow]) -> Flow:
        name = str(node.target)
        module = self.model.get_submodule(name)
        what = f"module '{name}' ({type(module).__name__})"
        if len(inputs) > 1:
            raise refusal(what, "it reads several activations")
        (flow,) = inputs
        if type(module) is nn.Conv2d:
            return self._conv(name, what, module, flow)
        if type(module) in ops.CHANNELWISE_MODULES:
            return flow
        if type(module) in ops.FLATTENING_MODULES:
            return replace(flow, has_channels=False)
        raise refusal(what, ops.REASONS.get(type(module), "this kind of layer is not known"))

    def _conv(self, name: str, what: str, module: nn.Conv2d, flow: Flow) -> Flow:
        if module in self.called:
            raise refusal(what, "it is called more than once, so one plan cannot fit its input")
        if module.groups != 1:
            why = f"it has {module.groups} groups, and a plan would mix channels across groups"
            raise refusal(what, why)
        if not flow.has_channels:
            raise refusal(what, "it reads what was flattened or reshaped before")
        self.called.add(module)
        return replace(flow, convs=(*flow.convs, name))

    def _operation(self, node: fx.Node, inputs: list[Flow]) -> Flow | None:
        target = node.target
        is_method = node.op == "call_method"
        if target is getattr and node.args[1] in ops.SIZE_ATTRIBUTES:
            return None
        if is_method and target in ops.SIZE_METHODS:
            return None
        if target in (ops.ADDING_METHODS if is_method else ops.ADDING_FUNCTIONS):
            return inputs[0] if len(inputs) == 1 else self._add(node, *inputs)
        if len(inputs) == 1:
            if target in (ops.CHANNELWISE_METHODS if is_method else ops.CHANNELWISE_FUNCTIONS):
                return inputs[0]
            if target in (ops.FLATTENING_METHODS if is_method else ops.FLATTENING_FUNCTIONS):
                return replace(inputs[0], has_channels=False)
        raise refusal(_describe(node), ops.REASONS.get(target, "this operation is not known"))

    def _add(self, node: fx.Node, one: Flow, other: Flow) -> Flow:
        """Join two branches: the one with fewer convolutions of its own is the shortcut."""
        shared = 0
        for a, b in zip(one.convs, other.convs, strict=False):
            if a != b:
                break
            shared += 1
        short, long = sorted((one.convs[shared:], other.convs[shared:]), key=len)
        if short and len(short) == len(long):
            raise refusal(
                _describe(node),
                f"it adds two branches of equal length ({_names(long)} and {_names(short)}), so "
                "neither is a shortcut",
            )
        self.shortcuts.update(dict.fromkeys(short))
        convs = one.convs[:shared] + long
        return Flow(convs, has_channels=one.has_channels and other.has_channels)

    def _output(self, node: fx.Node) -> Flow:
        result = node.args[0]
        flow = self.flows[result] if isinstance(result, fx.Node) else None
        if flow is None:
            raise refusal("the network's output", "it must be one tensor of class scores")
        return flow


def _names(convs: tuple[str, ...]) -> str:
    return ", ".join(f"'{name}'" for name in convs)


def _describe(node: fx.Node) -> str:
    target = node.target if isinstance(node.target, str) else node.target.__name__
    return f"operation '{target}' (at '{node.name}')"
