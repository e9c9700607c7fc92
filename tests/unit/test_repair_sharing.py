"""What a repair holds: the weights that came in are shared, not copied, and never changed."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
import torch
from torch import nn

from otbr_fast.channels import channel_graph, example_input
from otbr_fast.errors import RepairError
from otbr_fast.io import load_checkpoint, save_safetensors, state_dict_hash
from otbr_fast.models import InputSpec, PreActResNet
from otbr_fast.models.copies import reading_copy, with_tensors
from otbr_fast.repair import (
    RepairConfig,
    SpaceTransport,
    fuse_networks,
    fuse_states,
    fused_tensors,
    match_spaces,
    repair,
    select_pruned,
    stages_of,
    sweep,
)

INPUTS = InputSpec(shape=(3, 8, 8))
FAST = RepairConfig(
    gamma=0.1,
    lambda_=0.5,
    ranking="nwc",
    recalibrate=False,
    distil_steps=0,
    steps=1,
    batch_size=4,
    lr=0.01,
)


class Tied(nn.Module):
    """Two layers of one weight, a buffer that is not saved, and a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.second.bias.requires_grad_(False)
        self.register_buffer("scale", torch.ones(1), persistent=False)


def addresses(model: nn.Module) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}


def test_a_reading_copy_shares_weights_and_nothing_else() -> None:
    model = Tied().train()
    model.first.register_forward_hook(lambda *_: None)
    copied = reading_copy(model)
    assert addresses(copied) == addresses(model)
    assert not copied.training
    assert model.training
    first, second = copied.get_submodule("first"), copied.get_submodule("second")
    assert first.weight is second.weight
    assert first.weight is not model.first.weight  # so that gradients are its own
    assert not second.get_parameter("bias").requires_grad
    assert second.weight.requires_grad
    assert "scale" in dict(copied.named_buffers())


def test_tensors_from_elsewhere_are_not_copied() -> None:
    model = Tied()
    given = torch.zeros(3)
    copied = with_tensors(model, {"first.bias": given})
    assert copied.get_parameter("first.bias").data_ptr() == given.data_ptr()
    shared = set(addresses(copied).values()) & set(addresses(model).values())
    assert not shared


def test_results_hold_no_copies_of_what_came_in(tiny_resnet: PreActResNet) -> None:
    results = list(sweep(tiny_resnet, INPUTS, FAST, [0.05, 0.1], [0.5, 1.0]))
    own = addresses(tiny_resnet)
    assert all(addresses(result.original) == own for result in results)
    for result in results:
        assert not set(addresses(result.model).values()) & set(own.values())
        assert not set(addresses(result.pruned_model).values()) & set(own.values())


def test_nothing_is_made_from_a_network_that_was_changed(tiny_resnet: PreActResNet) -> None:
    before = copy.deepcopy(tiny_resnet.state_dict())
    results = sweep(tiny_resnet, INPUTS, FAST, [0.05, 0.1])
    first = next(results)
    pruned = state_dict_hash(first.pruned_model.state_dict())
    tiny_resnet.load_state_dict(first.model.state_dict())
    with pytest.raises(RepairError, match=r"changed.*hand in a copy"):
        first.pruned_model  # noqa: B018 - made when it is asked for
    with pytest.raises(RepairError, match="changed"):
        next(results)
    tiny_resnet.load_state_dict(before)
    assert state_dict_hash(first.pruned_model.state_dict()) == pruned


@pytest.mark.parametrize("lambda_", [0.3, 1.0])
def test_tensors_one_by_one_are_those_together(tiny_resnet: PreActResNet, lambda_: float) -> None:
    state = tiny_resnet.state_dict()
    along = transports(tiny_resnet)
    whole = fuse_states(state, state, along, lambda_)
    found = {name: t.clone() for name, t in fused_tensors(state, state, along, lambda_)}
    assert list(found) == list(state)
    assert state_dict_hash(found) == state_dict_hash(whole)


class Lent(Mapping[str, torch.Tensor]):
    """Weights of which each is made when it is asked for, and how many are held at once."""

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        self._state = state
        self.held = self.most_held = 0

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self._state[name].clone()
        self.held += 1
        self.most_held = max(self.most_held, self.held)
        weakref.finalize(tensor, self._given_back)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)

    def _given_back(self) -> None:
        self.held -= 1


def test_fusing_two_networks_holds_neither(tiny_resnet: PreActResNet) -> None:
    state = tiny_resnet.state_dict()
    other = {
        name: tensor * 1.1 if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    graph = channel_graph(tiny_resnet, example_input(tiny_resnet, INPUTS))
    lent = Lent(other), Lent(state)
    found = match_spaces(*lent, graph)
    fused = {name: t.clone() for name, t in fused_tensors(*lent, found, 0.5)}
    assert state_dict_hash(fused) == state_dict_hash(fuse_networks(other, state, graph, 0.5))
    assert all(1 <= each.most_held <= 4 for each in lent)
    assert len(state) > 50


def test_spaces_listed_before_those_their_writers_read_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    graph = channel_graph(model, (torch.zeros(1, 3),))
    backwards = replace(graph, spaces=graph.spaces[::-1])
    with pytest.raises(RepairError, match=r"'2' .* list its spaces in the order"):
        match_spaces(model.state_dict(), model.state_dict(), backwards)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_fused_in_float32(tiny_resnet: PreActResNet, dtype: torch.dtype) -> None:
    """The weights that come out are those of float32, rounded once."""
    model = tiny_resnet.to(dtype)
    wide = copy.deepcopy(model).float()
    narrow = fuse_states(model.state_dict(), model.state_dict(), transports(model), 0.5)
    computed = fuse_states(wide.state_dict(), wide.state_dict(), transports(wide), 0.5)
    changed = 0
    for name, own in model.state_dict().items():
        assert narrow[name].dtype == own.dtype
        assert torch.equal(narrow[name], computed[name].to(own.dtype)), name
        changed += not torch.equal(narrow[name], own)
    assert changed


def test_a_network_in_bfloat16_there_and_back(tiny_resnet: PreActResNet, tmp_path: object) -> None:
    path = f"{tmp_path}/model.safetensors"
    model = tiny_resnet.bfloat16()
    save_safetensors(model.state_dict(), path)
    model.load_state_dict(load_checkpoint(path).state_dict, assign=True)
    result = repair(model, INPUTS, FAST)
    assert result.input_hash == state_dict_hash(load_checkpoint(path).state_dict)
    save_safetensors(result.model.state_dict(), path, overwrite=True)
    found = load_checkpoint(path).state_dict
    assert state_dict_hash(found) == result.output_hash != result.input_hash
    assert {p.dtype for p in result.model.parameters()} == {torch.bfloat16}


def transports(model: nn.Module) -> list[SpaceTransport]:
    """Transports of a network by masses that do not depend on its type."""
    stages = stages_of(model, INPUTS, FAST)
    sizes = {name: norms.size for name, norms in stages.norms(model).items()}
    generator = torch.Generator().manual_seed(0)
    nwc = {
        name: torch.rand(size, generator=generator, dtype=torch.float64).numpy() + 0.1
        for name, size in sizes.items()
    }
    (found,) = stages.transports(model, [select_pruned(nwc, 0.1)], nwc, FAST, None)
    return [transport for transport in found if isinstance(transport, SpaceTransport)]
