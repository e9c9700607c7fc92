"""Running a network as fast as the machine can: bfloat16, and channels last in memory."""

from __future__ import annotations

import copy

import torch
from torch import nn

from otbr_fast.models.inputs import InputSpec


def bf16_autocast(device: torch.device, *, wanted: bool = True) -> torch.autocast:
    """Return a context that computes in bfloat16 where the device has instructions for it.

    Elsewhere, or if it is not wanted, the context changes nothing: emulated bfloat16 is slower
    than float32.
    """
    if device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # a CPU with AMX has these too
        has_it = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and has_it)


def working_copy(model: nn.Module, device: torch.device | str) -> nn.Module:
    """Copy a network to compute with: on the device, in float32, channels last, in eval mode.

    Its parameters want no gradients. Hooks on it, and what is done to its weights, never reach
    the network itself.
    """
    copied = copy.deepcopy(model).to(device, torch.float32)
    if torch.device(device).type == "cpu":
        for module in copied.modules():
            if type(module) is nn.Conv2d and _is_depthwise_with_stride(module):
                module.__class__ = _Float32Conv2d
    return copied.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _is_depthwise_with_stride(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels > 1 and conv.stride != (1, 1)


class _Float32Conv2d(nn.Conv2d):
    """A convolution in float32, also where all else is in bfloat16.

    CPUs have no fast bfloat16 kernel for the gradients of depthwise convolutions with strides: at
    64 images of 96 x 16 x 16 they take 40 ms, and 2.3 ms in float32.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float()).to(x.dtype)


def run(model: nn.Module, inputs: InputSpec, x: torch.Tensor, *, bf16: bool = True) -> torch.Tensor:
    """Return a network's logits for raw inputs.

    Parameters
    ----------
    model : nn.Module
        In float32, run as it is: in its mode and on its device, where the inputs are brought.
    inputs : InputSpec
        How raw inputs are normalised.
    x : Tensor
        Raw inputs, shape (N, C, H, W), in [low, high].
    bf16 : bool
        Compute in bfloat16 where the device has instructions for it.

    Returns
    -------
    Tensor
        Shape (N, num_classes), float32, on the network's device.
    """
    device = next(model.parameters()).device
    fed = inputs.normalize(x.to(device)).contiguous(memory_format=torch.channels_last)
    with bf16_autocast(device, wanted=bf16):
        logits: torch.Tensor = model(fed)
    return logits.float()


@torch.no_grad()
def answers(
    model: nn.Module, inputs: InputSpec, images: torch.Tensor, batch_size: int
) -> torch.Tensor:
    """Return a network's logits for raw inputs in batches, shape (N, num_classes), on the CPU."""
    return torch.cat([run(model, inputs, x).cpu() for x in torch.split(images, batch_size)])
