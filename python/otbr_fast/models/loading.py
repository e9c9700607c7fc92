"""Putting weights into a network, strictly: all that does not fit is named."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from otbr_fast.errors import CheckpointError, OtbrFastError

_NAMES_SHOWN = 5


def load_strictly(model: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> nn.Module:
    """Give a network copies of these weights; nothing may be missing, left over or misshapen.

    Parameters
    ----------
    model : nn.Module
        May be on the ``meta`` device: its tensors are replaced, not filled.
    state_dict : mapping of str to Tensor
        Floating-point weights of any precision; they become the model's own dtype, on the CPU.

    Returns
    -------
    nn.Module
        The same module, in eval mode.

    Raises
    ------
    CheckpointError
        Names the tensors that are missing, unexpected, misshapen, of another kind, sparse, without
        values, or not finite.
    """
    require_fit(model, state_dict)
    copies = _copies(model, state_dict)
    require_finite(
        copies, "the network is broken and cannot be used; get an undamaged copy of the weights"
    )
    model.load_state_dict(copies, strict=True, assign=True)
    empty = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    if empty:
        raise CheckpointError(
            f"{_shorten(empty)} are not among the weights of {type(model).__name__}, but made with "
            "it: build it on the CPU, not on the device 'meta'."
        )
    return model.eval()


def _copies(model: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy weights into a network's types; what is one tensor in it stays one."""
    made: dict[int, torch.Tensor] = {}
    found: dict[str, torch.Tensor] = {}
    for name, like in model.state_dict(keep_vars=True).items():
        own = state_dict[name].detach().to("cpu", like.dtype, copy=True).contiguous()
        if isinstance(like, nn.Parameter):
            own = nn.Parameter(own, like.requires_grad)
        found[name] = made.setdefault(id(like), own)
        if found[name] is not own and not torch.equal(found[name], own):
            raise CheckpointError(
                f"{name!r} is one tensor with another in {type(model).__name__}, but their weights "
                "differ: get those of this architecture."
            )
    return found


def require_fit(model: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Raise a `CheckpointError` unless a network has these tensors, by name, shape and kind.

    Their values are not looked at, and the network may be on the ``meta`` device.
    """
    require_dense(state_dict)
    expected = model.state_dict()
    problems = [
        *_list("missing", sorted(expected.keys() - state_dict.keys())),
        *_list("unexpected", sorted(state_dict.keys() - expected.keys())),
        *_list("of another shape or kind", _misfits(expected, state_dict)),
    ]
    if problems:
        raise CheckpointError(
            f"the weights do not fit {type(model).__name__}: {'; '.join(problems)}. "
            "Give the architecture that these weights were trained in."
        )


def require_finite(
    state_dict: Mapping[str, torch.Tensor],
    consequence: str,
    error: type[OtbrFastError] = CheckpointError,
) -> None:
    """Raise an error that names the tensors holding NaN or infinity, if any do.

    Parameters
    ----------
    consequence : str
        What that means where the weights come from, and the remedy; ends the message.
    error : type
        Of the error.
    """
    bad = [name for name, tensor in state_dict.items() if not is_finite(tensor)]
    if bad:
        raise error(f"NaN or infinite values in {_shorten(bad)}: {consequence}.")


def is_finite(tensor: torch.Tensor) -> bool:
    """Tell whether all numbers of a tensor are finite; found without a copy of it."""
    if tensor.dtype.itemsize == 1 or tensor.is_complex() or not tensor.numel():
        return bool(torch.isfinite(tensor).all())
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor.detach()))).all())


def require_dense(state_dict: Mapping[str, torch.Tensor]) -> None:
    """Raise a `CheckpointError` that names sparse, quantised and valueless tensors, if any are."""
    bad = [f"{name} ({kind})" for name, tensor in state_dict.items() if (kind := _oddity(tensor))]
    if bad:
        raise CheckpointError(
            f"the weights are not all plain numbers: {_shorten(bad)}. Make them dense tensors on "
            "the CPU where they were made, and save them again."
        )


def _oddity(tensor: torch.Tensor) -> str | None:
    if tensor.is_meta:
        return "on the device 'meta', without values"
    if tensor.is_quantized:
        return "quantised"
    if tensor.is_nested:
        return "nested"
    if tensor.layout != torch.strided:
        return f"{str(tensor.layout).removeprefix('torch.')}, not dense"
    return None


def tensor_of(state_dict: Mapping[str, torch.Tensor], name: str, n_dims: int) -> torch.Tensor:
    """Return the named tensor, of so many dimensions; otherwise a `CheckpointError` names it."""
    tensor = state_dict.get(name)
    if tensor is None:
        raise CheckpointError(
            f"the weights have no tensor {name!r}: they are of another architecture or incomplete."
        )
    if tensor.ndim != n_dims:
        raise CheckpointError(
            f"{name!r} has shape {tuple(tensor.shape)}, but {n_dims} dimensions are needed: "
            "the weights are of another architecture or damaged."
        )
    return tensor


def _misfits(
    expected: Mapping[str, torch.Tensor], state_dict: Mapping[str, torch.Tensor]
) -> list[str]:
    shared = [name for name in expected if name in state_dict]
    return [
        f"{name} ({_kind(state_dict[name])} instead of {_kind(expected[name])})"
        for name in shared
        if state_dict[name].shape != expected[name].shape
        or state_dict[name].is_floating_point() != expected[name].is_floating_point()
    ]


def _kind(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _list(what: str, names: list[str]) -> list[str]:
    return [f"{len(names)} {what}: {_shorten(names)}"] if names else []


def _shorten(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    rest = len(names) - _NAMES_SHOWN
    return f"{shown} and {rest} more" if rest > 0 else shown


def detached(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy to the CPU, so that nothing is saved of a larger memory that tensors lie in."""
    return {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in state_dict.items()
    }
