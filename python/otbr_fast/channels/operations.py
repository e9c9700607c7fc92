"""Which rule an ATen operation follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from otbr_fast.channels import rules_product as products
from otbr_fast.channels import rules_reduce as over
from otbr_fast.channels.call import Call, constant
from otbr_fast.channels.labels import Label, Labelled, tidy
from otbr_fast.channels.rules_joint import join
from otbr_fast.channels.rules_shape import COPYING, MOVING, move

Rule = Callable[[Call], object]
"""Labels an operation's results; returns ``None`` if it does not understand it after all."""

_POINTWISE = frozenset(
    {
        "hardswish", "hardsigmoid", "hardtanh", "relu6", "leaky_relu", "elu", "selu",
        "celu", "softplus", "mish", "silu", "gelu", "rsub", "clamp", "clip", "square",
        "threshold", "softsign", "log_sigmoid", "rrelu", "where", "masked_fill", "zero",
        "fill",
    }
)  # fmt: skip
"""Operations entry by entry to which torch gives no tag that says so."""
_SUMS = frozenset({"add", "sub", "rsub"})
_BLANK = frozenset(
    {
        "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones",
        "new_full", "new_empty",
    }
)  # fmt: skip
_JOINING = frozenset(
    {
        "cat", "concat", "stack", "hstack", "vstack",
    }
)  # fmt: skip
_CHECKS = ("_assert", "sym_constrain")


def apply_rule(call: Call) -> object:
    """Label what an operation makes; ``None`` if it is not understood."""
    name = call.name
    if name.startswith(_CHECKS):
        return ()
    rule = _RULES.get(name)
    if rule is not None:
        return rule(call)
    if name in COPYING:
        return call.result(tidy(call.axes.ids, call.operands[0].labels))
    if name in MOVING:
        return _moved(call)
    if name in _BLANK:
        return _blank(call)
    if name in _POINTWISE or torch.Tag.pointwise in getattr(call.node.target, "tags", ()):
        return _pointwise(call)
    return None


def _pointwise(call: Call) -> Labelled:
    operands = [
        arg if isinstance(arg, Labelled) else constant(arg)
        for arg in (*call.args, *call.kwargs.values())
        if isinstance(arg, (Labelled, torch.Tensor))
    ]
    result, call.summed = join(call.axes, operands, call.why, is_sum=call.name in _SUMS)
    return result


def _moved(call: Call) -> object:
    args, kwargs = call.args, call.kwargs
    if call.name in _JOINING:  # the tensors, constants among them
        parts = args[0]
        assert isinstance(parts, (list, tuple))
        joined = [part if isinstance(part, Labelled) else constant(part) for part in parts]
        args = (joined, *args[1:])
    outputs = move(call.axes, call.name, args, kwargs)
    value = call.node.meta["val"]
    if isinstance(value, (tuple, list)):
        outputs = outputs or [[] for _ in value]
        return tuple(call.result(labels, i) for i, labels in enumerate(outputs))
    result = call.result(outputs[0] if outputs else ())
    if call.name in ("expand", "expand_as"):
        source = call.operand(0).extent
        missing = len(result.shape) - len(source)
        result = Labelled(
            result.shape, result.labels, result.is_active, reach=(1,) * missing + source
        )
    return result


def _padded(call: Call) -> object:
    """Label what constants are laid around: along a channel's axis they are channels of their own.

    Along other axes, a constant is the same in all channels, so it is one of the channel's values.
    """
    if call.values.get("mode", "constant") != "constant":
        return _moved(call)
    x, widths = call.operand(0), call.args[1]
    assert isinstance(widths, (list, tuple))
    ndim = len(x.shape)
    labels = []
    for label in tidy(call.axes.ids, x.labels):
        own = [width if ndim - 1 - i // 2 in label.dims else 0 for i, width in enumerate(widths)]
        ids = torch.constant_pad_nd(label.ids, own, -1)
        missing = ids < 0
        ids[missing] = call.axes.ids.fresh(int(missing.sum()))
        labels.append(replace(label, ids=ids))
        call.axes.ids.sign(ids[missing])
        call.axes.ids.sign(ids)
    return call.result(labels)


def _blank(call: Call) -> object:
    """Make a tensor that takes only its shape from an operand."""
    template = call.args[0]
    assert isinstance(template, Labelled)
    dtype = call.node.meta["val"].dtype
    return call.node.target(  # type: ignore[operator]
        torch.empty(template.shape, dtype=dtype), *call.args[1:], **call.kwargs
    )


def _index(call: Call) -> Labelled | None:
    """Label x[i, j, ...]: by constants as it is; else only along axes that are not indexed."""
    x, indices = call.operand(0), call.args[1]
    assert isinstance(indices, (list, tuple))
    known = [i if isinstance(i, torch.Tensor) or i is None else _first(i) for i in indices]
    labels = list(tidy(call.axes.ids, x.labels))
    looked_up = {d for d, i in enumerate(indices) if isinstance(i, Labelled)}
    over.ordered(call.axes, x, looked_up, call.why)
    kept = Labelled(x.shape, tuple(la for la in labels if not la.dims & looked_up), x.is_active)
    moved = move(call.axes, "index", (kept, known), {})
    return call.result(moved[0] if moved else ())


def _first(index: object) -> torch.Tensor:
    """Stand in for an index that depends on the input, where all places are alike."""
    assert isinstance(index, Labelled)
    return torch.zeros(index.shape, dtype=torch.int64)


def _embedding(call: Call) -> Labelled:
    """Label the rows that are looked up: their entries are written, and the rows are fixed."""
    weight = call.operand(0)
    labels = over.ordered(call.axes, weight, [0], f"its rows are looked up, at {call.where}")
    for label in weight.labels:
        if 0 in label.dims:
            call.axes.note(label, "reader")
    ndim = len(call.shape())
    found = []
    for label in labels:
        call.axes.note(label, "writer")
        found.append(Label(label.ids.view([1] * (ndim - 1) + [-1])))
        call.summed |= frozenset(label.ids.ravel().tolist())
    return call.result(found)


def _softmax(call: Call) -> Labelled:
    return call.result(over.mix(call.axes, call.operand(0), [call.number("dim")]))


def _reduction(call: Call) -> Labelled:
    x = call.operand(0)
    dims = call.values.get("dim")
    if dims is None or dims == []:
        dims = range(len(x.shape))
    dims = [dims] if isinstance(dims, int) else list(dims)  # type: ignore[call-overload]
    keepdim = bool(call.values.get("keepdim", False))
    return call.result(over.reduce(call.axes, x, dims, keepdim))


def _cumulative(call: Call) -> Labelled:
    x = call.operand(0)
    return call.result(over.ordered(call.axes, x, [call.number("dim")], call.why))


def _pooled(call: Call) -> object:
    n_dims = int(call.name[call.name.index("d", -2 if call.name[-1] == "d" else 0) - 1])
    labels = over.pool(call.axes, call.operand(0), n_dims, call.shape(), call.why)
    if isinstance(call.node.meta["val"], (tuple, list)):
        return (call.result(labels), call.result((), 1))
    return call.result(labels)


def _batch_norm(call: Call) -> object:
    x, ndim = call.operand(0), len(call.operand(0).shape)
    if call.values.get("training") or call.values.get("running_mean") is None:
        over.mix(call.axes, x, [d for d in range(ndim) if d != 1])
    names = ("weight", "bias", "running_mean", "running_var")
    return call.joined(x, [(name, 1) for name in names])


def _instance_norm(call: Call) -> object:
    x = call.operand(0)
    over.mix(call.axes, x, range(2, len(x.shape)))
    names = ("weight", "bias", "running_mean", "running_var")
    return call.joined(x, [(name, 1) for name in names])


def _layer_norm(call: Call) -> object:
    x = call.operand(0)
    shape = call.values["normalized_shape"]
    assert isinstance(shape, (list, tuple))
    over.mix(call.axes, x, range(len(x.shape) - len(shape), len(x.shape)))
    return call.joined(x, [("weight", None), ("bias", None)])


def _group_norm(call: Call) -> object:
    x, groups = call.operand(0), call.number("num_groups")
    split = products.split_axis(x, 1, groups)
    over.mix(call.axes, split, range(2, len(split.shape)))
    return call.joined(x, [("weight", 1), ("bias", 1)])


def _prelu(call: Call) -> object:
    weight = call.operand(1)
    return call.joined(call.operand(0), [("weight", 1 if weight.shape != (1,) else None)])


def _glu(call: Call) -> Labelled:
    halves = move(call.axes, "chunk", (call.operand(0), 2, call.number("dim")), {})
    operands = [Labelled(call.shape(), tuple(labels), call.is_active) for labels in halves]
    return join(call.axes, operands, call.why)[0] if operands else call.result(())


_RULES: dict[str, Rule] = {
    **products.RULES,
    **dict.fromkeys(("pad", "constant_pad_nd"), _padded),
    "index": _index,
    "embedding": _embedding,
    **dict.fromkeys(
        ("softmax", "log_softmax", "_softmax", "_log_softmax", "_safe_softmax"), _softmax
    ),
    **dict.fromkeys(
        ("mean", "sum", "amax", "amin", "var", "std", "logsumexp", "linalg_vector_norm", "norm"),
        _reduction,
    ),
    **dict.fromkeys(("cumsum", "cumprod"), _cumulative),
    **dict.fromkeys(
        [
            f"{kind}{n}d"
            for kind in (
                "avg_pool", "max_pool", "adaptive_avg_pool", "adaptive_max_pool",
                "upsample_nearest", "_upsample_nearest_exact", "upsample_linear",
                "upsample_bilinear", "upsample_bicubic", "upsample_trilinear",
                "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
            )
            for n in (1, 2, 3)
        ]
        + ["max_pool2d_with_indices"],
        _pooled,
    ),
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _layer_norm,
    "group_norm": _group_norm,
    "prelu": _prelu,
    "glu": _glu,
}  # fmt: skip
