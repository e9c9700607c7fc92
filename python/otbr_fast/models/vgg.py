"""VGG with batch norm (Simonyan & Zisserman, 2014, arXiv 1409.1556) under torchvision's names."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from otbr_fast.errors import CheckpointError
from otbr_fast.models.loading import tensor_of

_FEATURE = re.compile(r"features\.(\d+)\.weight")
_CONV_UNIT = 3  # modules of one unit: convolution, batch norm, ReLU


class VGG(nn.Module):
    """Stages of 3x3 convolutions with batch norm, each ended by max-pooling, and three linears.

    Parameters
    ----------
    stages : sequence of sequence of int
        Channels of each convolution, stage by stage.
    in_channels, num_classes : int
        Channels of the input, and number of logits.
    pool_size : int
        Height and width of the features that reach the classifier (7 in torchvision).
    hidden : (int, int)
        Widths of the two hidden linear layers (4096 in torchvision).
    """

    def __init__(
        self,
        stages: Sequence[Sequence[int]],
        in_channels: int,
        num_classes: int,
        pool_size: int = 7,
        hidden: tuple[int, int] = (4096, 4096),
    ) -> None:
        super().__init__()
        self.stages = tuple(tuple(stage) for stage in stages)
        self.features = _features(self.stages, in_channels)
        self.avgpool = nn.AdaptiveAvgPool2d((pool_size, pool_size))
        self.classifier = nn.Sequential(
            nn.Linear(self.stages[-1][-1] * pool_size**2, hidden[0]),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden[0], hidden[1]),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden[1], num_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        x = self.avgpool(self.features(x))
        logits: torch.Tensor = self.classifier(torch.flatten(x, 1))
        return logits

    @classmethod
    def skeleton(cls, state_dict: Mapping[str, torch.Tensor]) -> VGG:
        """Infer stages, widths, pooling and classes from the shapes; nothing is loaded.

        The last stage ends with a pooling layer, as in torchvision: weights cannot tell.

        Raises
        ------
        CheckpointError
            The weights are not those of such a network; the culprits are named.
        """
        stages = _infer_stages(state_dict)
        linears = [tensor_of(state_dict, f"classifier.{i}.weight", 2) for i in (0, 3, 6)]
        with torch.device("meta"):  # costs no memory and draws no random numbers
            return cls(
                stages,
                in_channels=tensor_of(state_dict, "features.0.weight", 4).shape[1],
                num_classes=linears[2].shape[0],
                pool_size=_infer_pool_size(linears[0].shape[1], stages[-1][-1]),
                hidden=(linears[0].shape[0], linears[1].shape[0]),
            )


def _features(stages: tuple[tuple[int, ...], ...], in_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for stage in stages:
        for width in stage:
            conv = nn.Conv2d(in_channels, width, 3, padding=1)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            in_channels = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def _infer_stages(state_dict: Mapping[str, torch.Tensor]) -> list[list[int]]:
    indices = sorted(
        int(m[1])
        for name, tensor in state_dict.items()
        if (m := _FEATURE.fullmatch(name)) and tensor.ndim == 4
    )
    if not indices or indices[0] != 0:
        raise CheckpointError("the weights have no convolution 'features.0': this is not a VGG.")
    stages: list[list[int]] = [[state_dict["features.0.weight"].shape[0]]]
    for before, index in itertools.pairwise(indices):
        width = state_dict[f"features.{index}.weight"].shape[0]
        if index - before == _CONV_UNIT:
            stages[-1].append(width)
        elif index - before == _CONV_UNIT + 1:  # a pooling layer lies between
            stages.append([width])
        else:
            raise CheckpointError(
                f"features.{index} is {index - before} modules after the convolution before it, "
                "but VGG with batch norm has 3 (convolution, batch norm, ReLU), or 4 with a "
                "pooling layer; VGG without batch norm is not supported yet."
            )
    return stages


def _infer_pool_size(n_inputs: int, channels: int) -> int:
    size = math.isqrt(n_inputs // channels) if channels else 0
    if size < 1 or size**2 * channels != n_inputs:
        raise CheckpointError(
            f"classifier.0 reads {n_inputs} values, which are not {channels} square channels: "
            "the weights are of another architecture or damaged."
        )
    return size
