"""One operation of a traced network, with its operands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import fx

from otbr_fast.channels.labels import Axes, Label, Labelled
from otbr_fast.channels.rules_joint import join
from otbr_fast.channels.rules_shape import operands_of


@dataclass
class Call:
    """One operation of the graph.

    What does not depend on the input or a parameter is a number or tensor among the arguments.
    """

    axes: Axes
    node: fx.Node
    args: tuple[object, ...]
    kwargs: dict[str, object]
    where: str
    summed: frozenset[int] = frozenset()  # channels that several activations were added to

    @property
    def why(self) -> str:
        """The reason of what becomes fixed by this operation."""
        return f"meets what has no channels, at {self.where}"

    @cached_property
    def name(self) -> str:
        """The operation's name, without overload and the underscore of those that write."""
        name = str(self.node.target).removeprefix("aten.").partition(".")[0]
        return name.removesuffix("_") if self.is_inplace else name

    @cached_property
    def is_inplace(self) -> bool:
        """Whether it writes into its first operand."""
        schema = getattr(self.node.target, "_schema", None)
        return bool(schema and schema.is_mutable and schema.name.endswith("_"))

    @cached_property
    def values(self) -> dict[str, object]:
        """The arguments by the names that the operation's schema gives them."""
        schema = self.node.target._schema  # type: ignore[union-attr]
        found = {}
        for i, argument in enumerate(schema.arguments):
            default = argument.default_value if argument.has_default_value() else None
            found[argument.name] = self.get(i, argument.name, default)
        return found

    @cached_property
    def operands(self) -> list[Labelled]:
        """All labelled operands."""
        return operands_of(self.args, self.kwargs)

    @property
    def is_active(self) -> bool:
        """Whether the result depends on the network's input."""
        return any(operand.is_active for operand in self.operands)

    def shape(self, output: int = 0) -> tuple[int, ...]:
        """Return an output's shape."""
        value = self.node.meta["val"]
        value = value[output] if isinstance(value, (tuple, list)) else value
        return tuple(value.shape)

    def get(self, index: int, name: str, default: object = None) -> object:
        """Return an argument, given by place or by name."""
        if index < len(self.args):
            return self.args[index]
        return self.kwargs.get(name, default)

    def number(self, name: str) -> int:
        """Return an argument that is an integer."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def operand(self, which: int | str) -> Labelled:
        """Return an operand by place or name; a constant becomes one without labels."""
        value = self.values[which] if isinstance(which, str) else self.args[which]
        return value if isinstance(value, Labelled) else constant(value)

    def result(self, labels: Iterable[Label], output: int = 0) -> Labelled:
        """Make the result."""
        return Labelled(self.shape(output), tuple(labels), self.is_active)

    def joined(self, x: Labelled, others: Sequence[tuple[str, int | None]]) -> Labelled:
        """Join an operand with vectors that act along an axis (``None``: along the last ones)."""
        operands = [x]
        for name, dim in others:
            if self.values.get(name) is not None:
                other = self.operand(name)
                operands.append(other if dim is None else other.placed(dim, len(x.shape)))
        return join(self.axes, operands, self.why)[0]


def constant(value: object) -> Labelled:
    """Make an operand of a constant, and note along which axes it does not vary."""
    if not isinstance(value, torch.Tensor):
        return Labelled((), is_active=False)
    shape = tuple(value.shape)
    for d, size in enumerate(shape):
        if size > 1 and torch.equal(value.narrow(d, 0, 1).expand_as(value), value):
            value = value.narrow(d, 0, 1)
    return Labelled(shape, is_active=False, reach=tuple(value.shape))
