"""Pre-activation ResNets (He et al., 2016, arXiv 1603.05027) under BackdoorBench's names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import CheckpointError
from otbr_fast.models.loading import tensor_of

_BLOCK = re.compile(r"layer(\d+)\.\d+\.conv1\.weight")


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after batch norm and ReLU, beside a skip branch.

    The skip branch is a 1x1 convolution where the size or the width changes; it reads the
    activated input. Elsewhere it is the input itself.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        active = F.relu(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(active)
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return torch.add(out, skip)


class PreActResNet(nn.Module):
    """A stem convolution, stages of `PreActBlock` and a linear classifier.

    Parameters
    ----------
    num_blocks : sequence of int
        Blocks in each stage; PreAct-ResNet18 has (2, 2, 2, 2).
    widths : sequence of int
        Channels of the stem, then of each stage: one more than there are stages.
    in_channels, num_classes : int
        Channels of the input, and number of logits.

    Notes
    -----
    The first stage keeps the stem's resolution, each later one halves it. As in BackdoorBench,
    no batch norm follows the last block.
    """

    def __init__(
        self, num_blocks: Sequence[int], widths: Sequence[int], in_channels: int, num_classes: int
    ) -> None:
        super().__init__()
        if not num_blocks or len(widths) != len(num_blocks) + 1:
            raise ValueError(
                f"{len(widths)} widths for {len(num_blocks)} stages: give the stem's width, "
                "then one for each stage"
            )
        self.num_blocks = tuple(num_blocks)
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        for i, blocks in enumerate(self.num_blocks):
            stage = _stage(blocks, widths[i], widths[i + 1], stride=1 if i == 0 else 2)
            self.add_module(f"layer{i + 1}", stage)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.linear = nn.Linear(widths[-1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images (N, C, H, W) to logits (N, num_classes)."""
        x = self.conv1(x)
        for i in range(len(self.num_blocks)):
            x = self.get_submodule(f"layer{i + 1}")(x)
        logits: torch.Tensor = self.linear(torch.flatten(self.avgpool(x), 1))
        return logits

    @classmethod
    def skeleton(cls, state_dict: Mapping[str, torch.Tensor]) -> PreActResNet:
        """Infer depth, widths, channels and classes from the shapes; nothing is loaded.

        Raises
        ------
        CheckpointError
            The weights are not those of such a network; the culprits are named.
        """
        counts = Counter(int(m[1]) for name in state_dict if (m := _BLOCK.fullmatch(name)))
        stages = range(1, len(counts) + 1)
        if not counts or set(counts) != set(stages):
            raise CheckpointError(
                f"the stages found are {sorted(counts)}, but a PreActResNet has layer1, layer2 ... "
                "without a gap: the weights are of another architecture or incomplete."
            )
        stem = tensor_of(state_dict, "conv1.weight", 4)
        firsts = [tensor_of(state_dict, f"layer{i}.0.conv1.weight", 4) for i in stages]
        classifier = tensor_of(state_dict, "linear.weight", 2)
        with torch.device("meta"):  # costs no memory and draws no random numbers
            return cls(
                num_blocks=[counts[i] for i in stages],
                widths=[stem.shape[0], *(first.shape[0] for first in firsts)],
                in_channels=stem.shape[1],
                num_classes=classifier.shape[0],
            )


def _stage(blocks: int, in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    first = PreActBlock(in_channels, out_channels, stride)
    rest = (PreActBlock(out_channels, out_channels, 1) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
