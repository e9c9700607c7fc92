"""Channel graphs of the networks that people use, where their packages are installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from otbr_fast.channels import channel_graph, check_graph

IDS = {
    "input_ids": torch.arange(24).view(2, 12),
    "attention_mask": torch.ones(2, 12, dtype=torch.int64),
}
SMALL = {"vocab_size": 60, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32}


def verify(model: nn.Module, example: Any, kinds: set[str]) -> None:
    model = model.eval()
    graph = channel_graph(model, example)
    check_graph(model, graph, example)
    assert {space.kind for space in graph.spaces} == kinds


def torch_free(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


@pytest.mark.parametrize(
    ("name", "size", "kinds"),
    [
        ("resnet18", 32, {"internal", "stream"}),
        ("resnet50", 32, {"internal", "stream"}),
        ("vgg11_bn", 32, {"internal"}),
        ("densenet121", 32, {"internal"}),
        ("mobilenet_v2", 32, {"internal", "stream"}),
        ("mobilenet_v3_small", 32, {"internal", "stream"}),
        ("efficientnet_b0", 32, {"internal", "stream"}),
        ("regnet_y_400mf", 32, {"internal", "stream"}),
        ("resnext50_32x4d", 32, {"internal", "stream"}),
        ("convnext_tiny", 32, {"internal", "stream"}),
        ("shufflenet_v2_x0_5", 32, {"internal"}),
        ("vit_b_32", 224, {"internal", "stream"}),
        ("swin_t", 64, {"internal", "stream"}),
        ("swin_v2_t", 64, {"internal", "stream"}),
    ],
)
def test_torchvision(name: str, size: int, kinds: set[str]) -> None:
    models = pytest.importorskip("torchvision").models
    model = torch_free(lambda: models.get_model(name, weights=None))
    verify(model, (torch.zeros(2, 3, size, size),), kinds)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mixer_s32_224", 224),
        ("vit_tiny_patch16_224", 224),
        ("convnextv2_atto", 32),
        ("res2net50_26w_4s", 32),
        ("levit_128s", 224),
        ("swin_tiny_patch4_window7_224", 224),
    ],
)
def test_timm(name: str, size: int) -> None:
    timm = pytest.importorskip("timm")
    model = torch_free(lambda: timm.create_model(name))
    verify(model, (torch.zeros(2, 3, size, size),), {"internal", "stream"})


@pytest.mark.parametrize(
    ("model", "config", "changes"),
    [
        ("BertForSequenceClassification", "BertConfig", {**SMALL, "intermediate_size": 48}),
        ("RobertaForSequenceClassification", "RobertaConfig", {**SMALL, "intermediate_size": 48}),
        (
            "DistilBertForSequenceClassification",
            "DistilBertConfig",
            {"vocab_size": 60, "dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 48},
        ),
        (
            "LlamaForCausalLM",
            "LlamaConfig",
            {**SMALL, "num_key_value_heads": 2, "intermediate_size": 48, "use_cache": False},
        ),
    ],
)
def test_hugging_face(model: str, config: str, changes: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers")
    built = torch_free(
        lambda: getattr(transformers, model)(getattr(transformers, config)(**changes))
    )
    verify(built, IDS, {"internal", "stream"})
