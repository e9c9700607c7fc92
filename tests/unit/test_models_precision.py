"""Running a network: the working copy, normalisation, bfloat16."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from otbr_fast.models import InputSpec, PreActResNet, bf16_autocast, run, working_copy

INPUTS = InputSpec(shape=(3, 8, 8), low=-1.0, high=2.0, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))


def raw(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 3 - 1


def test_run_normalises_and_answers_in_float32(tiny_resnet: PreActResNet) -> None:
    mean = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    std = torch.tensor([0.5, 1.0, 2.0])[:, None, None]
    expected = tiny_resnet((raw() - mean) / std).detach()
    torch.testing.assert_close(run(tiny_resnet, INPUTS, raw(), bf16=False), expected)
    fast = run(tiny_resnet, INPUTS, raw())
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, expected, rtol=0.05, atol=0.05 * float(expected.std()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_any_precision_run_as_working_copies(
    tiny_resnet: PreActResNet, dtype: torch.dtype
) -> None:
    with torch.no_grad():  # keeps half precision away from overflow
        for parameter in tiny_resnet.parameters():
            parameter.mul_(0.5)
    logits = run(working_copy(tiny_resnet.to(dtype), "cpu"), INPUTS, raw())
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


def test_a_working_copy_is_frozen_and_shares_nothing(tiny_resnet: PreActResNet) -> None:
    before = copy.deepcopy(tiny_resnet.state_dict())
    tiny_resnet.train()
    copied = working_copy(tiny_resnet, "cpu")
    assert tiny_resnet.training
    assert not copied.training
    assert not any(parameter.requires_grad for parameter in copied.parameters())
    assert all(parameter.requires_grad for parameter in tiny_resnet.parameters())
    with torch.no_grad():
        for tensor in copied.state_dict().values():
            tensor.zero_()
    assert all(torch.equal(tiny_resnet.state_dict()[k], v) for k, v in before.items())


def test_bf16_is_used_only_where_wanted() -> None:
    conv, x = nn.Conv2d(3, 2, 3), raw()
    with bf16_autocast(torch.device("cpu"), wanted=False):
        assert conv(x).dtype == torch.float32
    with bf16_autocast(torch.device("cpu")):
        has_it = torch.cpu._is_avx512_bf16_supported()
        assert conv(x).dtype == (torch.bfloat16 if has_it else torch.float32)


def test_depthwise_convolutions_with_strides_stay_in_float32() -> None:
    plain = nn.Conv2d(3, 6, 3, stride=2, groups=3, bias=False)
    model = nn.Sequential(plain, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    copied = working_copy(model, "cpu")
    seen = raw().requires_grad_(True)
    logits = run(copied, INPUTS, seen)
    torch.testing.assert_close(logits, run(model, INPUTS, raw(), bf16=False))
    (gradient,) = torch.autograd.grad(logits.sum(), seen)
    assert gradient.dtype == torch.float32
    assert type(plain) is nn.Conv2d
    with bf16_autocast(torch.device("cpu")):
        half = raw().to(torch.bfloat16)
        assert copied.get_submodule("0")(half).dtype == torch.bfloat16
