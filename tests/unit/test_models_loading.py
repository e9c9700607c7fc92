"""Filling networks that have no weights yet."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from otbr_fast.errors import CheckpointError
from otbr_fast.models import PreActResNet, load_strictly, skeleton, state_dict_hash
from otbr_fast.models.loading import is_finite


class Tied(nn.Module):
    """An embedding whose weight is the last layer's too, and a frozen bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.linear = nn.Embedding(4, 3), nn.Linear(3, 4)
        self.linear.weight = self.embedding.weight
        self.linear.bias.requires_grad_(False)


def on_meta() -> Tied:
    with torch.device("meta"):
        return Tied()


def test_what_is_one_tensor_stays_one() -> None:
    state = Tied().state_dict()
    model = load_strictly(on_meta(), state)
    assert state_dict_hash(model.state_dict()) == state_dict_hash(state)
    assert model.get_parameter("linear.weight") is model.get_parameter("embedding.weight")
    assert not model.get_parameter("linear.bias").requires_grad
    assert model.get_parameter("embedding.weight").requires_grad
    state["linear.weight"] = state["linear.weight"] + 1
    with pytest.raises(CheckpointError, match=r"'linear\.weight' is one tensor with another"):
        load_strictly(on_meta(), state)


def test_what_no_weights_fill_is_named() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(2, 2))
        model.register_buffer("positions", torch.arange(2), persistent=False)
    with pytest.raises(CheckpointError, match="positions are not among the weights of Sequential"):
        load_strictly(model, nn.Sequential(nn.Linear(2, 2)).state_dict())


def test_numbers_too_large_for_the_networks_type_are_named() -> None:
    state = {"weight": torch.full((2, 2), 1e300, dtype=torch.float64), "bias": torch.zeros(2)}
    with pytest.raises(CheckpointError, match="infinite values in weight"):
        load_strictly(nn.Linear(2, 2), state)


def test_a_skeleton_holds_nothing(tiny_resnet: PreActResNet) -> None:
    model, name = skeleton(tiny_resnet.state_dict())
    assert name == "preactresnet18"
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    shapes = {name: tensor.shape for name, tensor in tiny_resnet.state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_one_number_that_is_not_finite_is_found(dtype: torch.dtype, value: float) -> None:
    for n in (1, 37, 4099):
        values = torch.linspace(-3, 3, n).to(dtype)
        assert is_finite(values)
        for place in {0, n // 2, n - 1}:
            wrong = values.clone()
            wrong[place] = value
            assert not is_finite(wrong)
            assert not is_finite(torch.stack([values, wrong]).T)


def test_tensors_of_any_kind_are_looked_at() -> None:
    assert is_finite(torch.empty(0))
    assert is_finite(torch.tensor([True, False]))
    assert is_finite(torch.tensor([2**40]))
    assert not is_finite(torch.tensor([complex(0, torch.inf)]))
    assert is_finite(torch.ones(2, dtype=torch.float8_e4m3fn))
    assert not is_finite(torch.tensor([torch.nan]).to(torch.float8_e4m3fn))
