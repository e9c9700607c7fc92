"""Convolutions, linear layers, matrix products and attention, as sums of products."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import replace

from otbr_fast.channels.call import Call
from otbr_fast.channels.labels import Labelled, compact
from otbr_fast.channels.rules_contract import contract
from otbr_fast.channels.rules_joint import join
from otbr_fast.channels.rules_reduce import mix
from otbr_fast.channels.rules_shape import move


def split_axis(x: Labelled, dim: int, parts: int) -> Labelled:
    """Split an axis in two, of which the first has so many places."""
    labels = []
    for label in x.labels:
        shape = list(label.ids.shape)
        shape[dim : dim + 1] = [1, 1] if shape[dim] == 1 else [parts, -1]
        labels.append(replace(label, ids=compact(label.ids.reshape(shape))))
    shape = list(x.shape)
    shape[dim : dim + 1] = [parts, shape[dim] // parts]
    return Labelled(tuple(shape), tuple(labels), x.is_active)


def _linear(call: Call) -> Labelled:
    x = call.operand(0)
    batch = string.ascii_uppercase[: len(x.shape) - 1]
    made = contract(call.axes, x, call.operand(1), f"{batch}k,ok->{batch}o", call.why)
    return _biased(call, made, "bias", -1)


def _matmul(call: Call) -> Labelled:
    return _product(call, call.operand(0), call.operand(1))


def _addmm(call: Call) -> Labelled:
    made = _product(call, call.operand(1), call.operand(2))
    return join(call.axes, [made, call.operand(0)], call.why)[0]


def _product(call: Call, x: Labelled, y: Labelled) -> Labelled:
    batch = string.ascii_uppercase[: max(len(x.shape), len(y.shape), 2) - 2]
    one = batch[len(batch) - max(len(x.shape) - 2, 0) :] + ("ik" if len(x.shape) > 1 else "k")
    other = batch[len(batch) - max(len(y.shape) - 2, 0) :] + ("kj" if len(y.shape) > 1 else "k")
    kept = batch + "i" * (len(x.shape) > 1) + "j" * (len(y.shape) > 1)
    return contract(call.axes, x, y, f"{one},{other}->{kept}", call.why)


def _einsum(call: Call) -> Labelled | None:
    equation, operands = call.args[0], call.args[1]
    assert isinstance(equation, str)
    assert isinstance(operands, (list, tuple))
    equation = equation.replace(" ", "")
    inputs = equation.partition("->")[0].split(",")
    plain = "->" in equation and "." not in equation and len(inputs) == 2
    if not plain or any(len(set(letters)) != len(letters) for letters in inputs):
        return None
    x, y = (_operand(each) for each in operands)
    return contract(call.axes, x, y, equation, call.why)


def _operand(value: object) -> Labelled:
    assert isinstance(value, Labelled)
    return value


def _convolution(call: Call) -> Labelled:
    x, groups = call.operand(0), call.number("groups")
    is_transposed = "transpose" in call.name
    weight = call.axes.grouped(call.operand(1), groups)
    n_dims = len(x.shape) - 2
    place, kernel = string.ascii_uppercase[:n_dims], string.ascii_lowercase[-n_dims:]
    filters = "gco" if is_transposed else "goc"
    kept = "ngo"
    if _is_pointwise(call, weight, n_dims):
        kept += place
    made = contract(
        call.axes,
        split_axis(x, 1, groups),
        split_axis(weight, 0, groups),
        f"ngc{place},{filters}{kernel}->{kept}",
        call.why,
    )
    labels = []
    for label in made.labels:
        n, g, o, *places = label.ids.shape
        if g * o > 1:
            g, o = made.shape[1:3]
        merged = label.ids.expand(n, g, o, *places).flatten(1, 2)
        missing = [1] * (len(x.shape) - merged.ndim)
        ids = compact(merged.reshape(*merged.shape, *missing))
        labels.append(replace(label, ids=ids))
    return _biased(call, call.result(labels), "bias", 1)


def _is_pointwise(call: Call, weight: Labelled, n_dims: int) -> bool:
    """Tell whether a convolution treats each place by itself."""
    is_single = all(size == 1 for size in weight.shape[2:])
    return is_single and call.shape()[2:] == call.operand(0).shape[2:]


def _biased(call: Call, made: Labelled, name: str, dim: int) -> Labelled:
    made = Labelled(call.shape(), made.labels, call.is_active)
    if call.values.get(name) is None:
        return made
    bias = call.operand(name).placed(dim, len(made.shape))
    return join(call.axes, [made, bias], call.why)[0]


def _attention(call: Call) -> Labelled:
    """Label softmax(q kᵀ + mask) v."""
    q, k, v = (call.operand(i) for i in range(3))
    repeats = q.shape[-3] // k.shape[-3] if len(q.shape) > 2 else 1
    if call.values.get("enable_gqa") and repeats > 1:
        k, v = (_repeated(call, each, repeats) for each in (k, v))
    batch = string.ascii_uppercase[: len(q.shape) - 2]
    scores = contract(call.axes, q, k, f"{batch}td,{batch}sd->{batch}ts", call.why)
    if call.values.get("attn_mask") is not None:
        scores, _ = join(call.axes, [scores, call.operand("attn_mask")], call.why)
    mix(call.axes, scores, [-1])
    made = contract(call.axes, scores, v, f"{batch}ts,{batch}se->{batch}te", call.why)
    return call.result(made.labels)


def _repeated(call: Call, x: Labelled, times: int) -> Labelled:
    moved = move(call.axes, "repeat_interleave", (x, times, -3), {})
    shape = (*x.shape[:-3], x.shape[-3] * times, *x.shape[-2:])
    return Labelled(shape, tuple(moved[0] if moved else ()), x.is_active)


RULES: dict[str, Callable[[Call], object]] = {
    "linear": _linear,
    **dict.fromkeys(("matmul", "mm", "bmm"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm"), _addmm),
    "einsum": _einsum,
    **dict.fromkeys(
        [f"conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)], _convolution
    ),
    "scaled_dot_product_attention": _attention,
}
