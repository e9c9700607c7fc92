"""Small networks of other families than the package's own, for images of about 32 x 32."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from otbr_fast.models import new_model


def conv_norm(
    n_in: int, n_out: int, size: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Return a convolution that keeps height and width, but for its stride, and a batch norm."""
    conv = nn.Conv2d(n_in, n_out, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out))


class Bottleneck(nn.Module):
    """A post-activation bottleneck of ResNet-50, or with groups of ResNeXt."""

    expansion = 4

    def __init__(self, n_in: int, width: int, stride: int, groups: int) -> None:
        super().__init__()
        n_out = self.expansion * width
        self.inner = nn.Sequential(
            conv_norm(n_in, width),
            nn.ReLU(),
            conv_norm(width, width, 3, stride, groups),
            nn.ReLU(),
            conv_norm(width, n_out),
        )
        same = stride == 1 and n_in == n_out
        self.shortcut = nn.Identity() if same else conv_norm(n_in, n_out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.inner(x) + self.shortcut(x))


class InvertedResidual(nn.Module):
    """A block of MobileNetV2: widened, filtered channel by channel, narrowed without activation.

    It halves height and width by a mean behind the filters: CPUs are slow at filters with strides.
    """

    expansion = 4

    def __init__(self, n_in: int, n_out: int, *, halves: bool) -> None:
        super().__init__()
        hidden = self.expansion * n_in
        self.inner = nn.Sequential(
            conv_norm(n_in, hidden),
            nn.ReLU6(),
            conv_norm(hidden, hidden, 3, groups=hidden),
            nn.ReLU6(),
            nn.AvgPool2d(2) if halves else nn.Identity(),
            conv_norm(hidden, n_out),
        )
        self.is_residual = not halves and n_in == n_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner: torch.Tensor = self.inner(x)
        return x + inner if self.is_residual else inner


class DenseLayer(nn.Module):
    """A bottleneck layer of DenseNet, which lays its channels beside those that it read."""

    def __init__(self, n_in: int, growth: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.BatchNorm2d(n_in),
            nn.ReLU(),
            nn.Conv2d(n_in, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.inner(x)], dim=1)


def classifier(n_in: int, num_classes: int) -> list[nn.Module]:
    """Return the last layers: the mean over the image, and a linear layer."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, num_classes)]


def resnet(n_channels: int, num_classes: int, *, groups: int = 1) -> nn.Module:
    """Return a ResNet of bottlenecks; with groups a ResNeXt."""
    layers: list[nn.Module] = [conv_norm(n_channels, 32, 3, stride=2), nn.ReLU()]
    n_in = 32
    for width, depth, stride in ((24, 1, 1), (48, 2, 2), (96, 2, 2)):
        for place in range(depth):
            layers.append(Bottleneck(n_in, width, 1 if place else stride, groups))
            n_in = Bottleneck.expansion * width
    return nn.Sequential(*layers, *classifier(n_in, num_classes))


def mobilenet(n_channels: int, num_classes: int) -> nn.Module:
    """Return a MobileNetV2 of 6 blocks."""
    layers: list[nn.Module] = [conv_norm(n_channels, 16, 3, stride=2), nn.ReLU6()]
    n_in = 16
    for n_out, halves in (
        (24, False),
        (48, True),
        (48, False),
        (64, False),
        (96, True),
        (96, False),
    ):
        layers.append(InvertedResidual(n_in, n_out, halves=halves))
        n_in = n_out
    layers += [conv_norm(n_in, 384), nn.ReLU6()]
    return nn.Sequential(*layers, *classifier(384, num_classes))


def densenet(n_channels: int, num_classes: int) -> nn.Module:
    """Return a DenseNet-BC of 3 stages."""
    growth, n_in = 24, 32
    layers: list[nn.Module] = [nn.Conv2d(n_channels, n_in, 3, 2, 1, bias=False)]
    for stage, depth in enumerate((2, 4, 4)):
        if stage:
            layers += [nn.BatchNorm2d(n_in), nn.ReLU()]
            layers += [nn.Conv2d(n_in, n_in // 2, 1, bias=False), nn.AvgPool2d(2)]
            n_in //= 2
        for _ in range(depth):
            layers.append(DenseLayer(n_in, growth))
            n_in += growth
    layers += [nn.BatchNorm2d(n_in), nn.ReLU()]
    return nn.Sequential(*layers, *classifier(n_in, num_classes))


def vgg(n_channels: int, num_classes: int) -> nn.Module:
    """Return the package's VGG11 with batch norm at 5/16 of its width."""
    return new_model("vgg11_bn", n_channels, num_classes, width=0.3125)


FAMILIES: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet": resnet,
    "mobilenet": mobilenet,
    "densenet": densenet,
    "vgg": vgg,
    "resnext": partial(resnet, groups=8),
}
"""What makes a network for so many channels and classes."""


def new_network(family: str, n_channels: int, num_classes: int, seed: int) -> nn.Module:
    """Return a network with first weights of this seed, in eval mode, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # layers draw their first weights from the global generator
        return FAMILIES[family](n_channels, num_classes).eval()
