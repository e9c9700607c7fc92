"""Small networks of every family whose channels are followed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from otbr_fast.models import VGG, PreActResNet

Tensor = torch.Tensor


class Net(nn.Module):
    """Modules and a function that calls them."""

    def __init__(self, body: Callable[..., object], **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.body = body

    def forward(self, x: Tensor) -> object:
        return self.body(self, x)


def unit(n_in: int, n_out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


def head(channels: int, classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def plain_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 * 9, 8), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip


class Residual(nn.Module):
    """A residual block, its branch and its skip given; ReLU after the addition, or not."""

    def __init__(self, branch: nn.Module, skip: nn.Module | None = None, *, last: bool = True):
        super().__init__()
        self.branch, self.skip, self.last = branch, skip or nn.Identity(), last

    def forward(self, x: Tensor) -> Tensor:
        x = self.branch(x) + self.skip(x)
        return F.relu(x) if self.last else x


def basic(n_in: int, n_out: int, stride: int = 1) -> Residual:
    skip = None if n_in == n_out else unit(n_in, n_out, 1, stride)[:2]
    return Residual(nn.Sequential(unit(n_in, n_out, 3, stride), unit(n_out, n_out)[:2]), skip)


def bottleneck(n_in: int, width: int, n_out: int, groups: int = 1, stride: int = 1) -> Residual:
    branch = nn.Sequential(
        unit(n_in, width, 1), unit(width, width, 3, stride, groups), unit(width, n_out, 1)[:2]
    )
    return Residual(branch, None if n_in == n_out else unit(n_in, n_out, 1, stride)[:2])


def resnet18() -> nn.Module:
    return nn.Sequential(unit(3, 4), basic(4, 4), basic(4, 8, 2), basic(8, 8), head(8))


def resnet50() -> nn.Module:
    blocks = bottleneck(4, 3, 12), bottleneck(12, 3, 12), bottleneck(12, 5, 20, stride=2)
    return nn.Sequential(unit(3, 4), *blocks, head(20))


def resnext() -> nn.Module:
    blocks = bottleneck(4, 8, 12, groups=2), bottleneck(12, 12, 12, groups=4)
    return nn.Sequential(unit(3, 4), *blocks, head(12))


def wide_resnet() -> nn.Module:
    def block(n_in: int, n_out: int) -> nn.Module:
        branch = nn.Sequential(
            nn.BatchNorm2d(n_in), nn.ReLU(), nn.Conv2d(n_in, n_out, 3, padding=1), nn.Dropout(0.3),
            nn.BatchNorm2d(n_out), nn.ReLU(), nn.Conv2d(n_out, n_out, 3, padding=1),
        )  # fmt: skip
        skip = None if n_in == n_out else nn.Conv2d(n_in, n_out, 1)
        return Residual(branch, skip, last=False)

    last = nn.Sequential(nn.BatchNorm2d(12), nn.ReLU(), head(12))
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), block(4, 12), block(12, 12), last)


def preact_resnet() -> nn.Module:
    return PreActResNet((1, 1, 1), (4, 4, 6, 8), in_channels=3, num_classes=3)


def vgg_bn() -> nn.Module:
    return VGG(((4,), (6, 6)), in_channels=3, num_classes=3, pool_size=2, hidden=(8, 7))


class Dense(nn.Module):
    """A dense block: each unit reads all that was made before it, laid side by side."""

    def __init__(self, channels: int, growth: int, count: int):
        super().__init__()
        self.units = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(channels + i * growth), nn.ReLU(),
                nn.Conv2d(channels + i * growth, growth, 3, padding=1),
            )
            for i in range(count)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        for made in self.units:
            x = torch.cat([x, made(x)], 1)
        return x


def densenet() -> nn.Module:
    transition = nn.Sequential(unit(10, 5, 1), nn.AvgPool2d(2))
    return nn.Sequential(unit(3, 4), Dense(4, 3, 2), transition, Dense(5, 3, 2), head(11))


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, channels: int, hidden: int, *, spread: bool):
        super().__init__()
        self.down, self.up = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.spread = spread

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))[:, :, None, None]
        return x * (gate.expand_as(x) if self.spread else gate)


def inverted(n_in: int, hidden: int, n_out: int, *, act: nn.Module, gate: bool) -> nn.Module:
    middle = unit(hidden, hidden, groups=hidden)
    middle[2] = act
    layers = [unit(n_in, hidden, 1), middle]
    if gate:
        layers.append(nn.Sequential(Gate(hidden, 4, spread=n_in == n_out)))
    branch = nn.Sequential(*layers, unit(hidden, n_out, 1)[:2])
    return Residual(branch, last=False) if n_in == n_out else branch


def mobilenet_v2() -> nn.Module:
    blocks = [inverted(n, 8, 6, act=nn.ReLU6(), gate=False) for n in (4, 6)]
    return nn.Sequential(unit(3, 4), *blocks, unit(6, 9, 1), head(9))


def mobilenet_v3() -> nn.Module:
    blocks = [inverted(n, 8, 6, act=nn.Hardswish(), gate=True) for n in (4, 6)]
    return nn.Sequential(unit(3, 4), *blocks, head(6))


def efficientnet() -> nn.Module:
    blocks = [inverted(n, 10, 6, act=nn.SiLU(), gate=True) for n in (4, 6, 6)]
    return nn.Sequential(unit(3, 4), *blocks, unit(6, 8, 1), head(8))


class ConvNeXtBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.scale = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.scale * self.down(F.gelu(self.up(self.norm(y))))
        out: Tensor = x + y.permute(0, 3, 1, 2)
        return out


def convnext() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 2, 2), ConvNeXtBlock(6), ConvNeXtBlock(6), head(6))


class Attention(nn.Module):
    """Self-attention with one linear layer for queries, keys and values, as timm writes it."""

    def __init__(self, width: int, heads: int, *, fused: bool):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.heads, self.fused = heads, fused

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q @ k.transpose(-2, -1) / width**0.5).softmax(-1) @ v
        out: Tensor = self.out(y.transpose(1, 2).reshape(n, tokens, width))
        return out


class Block(nn.Module):
    """A transformer block with the norms in front."""

    def __init__(self, width: int, mixer: nn.Module, hidden: int):
        super().__init__()
        self.norm1, self.norm2, self.mixer = nn.LayerNorm(width), nn.LayerNorm(width), mixer
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class ViT(nn.Module):
    def __init__(self, blocks: nn.Module, width: int):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.rand(1, 1, width))
        self.positions = nn.Parameter(torch.rand(1, 10, width))
        self.blocks, self.norm, self.head = blocks, nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        out: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return out


def vit() -> nn.Module:
    fused = (Attention(8, 2, fused=each) for each in (True, False))
    return ViT(nn.Sequential(*(Block(8, mixer, 12) for mixer in fused)), 8)


def vit_of_torch() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, activation="gelu")
    return ViT(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), 8)


class Window(nn.Module):
    """Attention in windows of 2 x 2, shifted, with a learnt bias for positions and a mask."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attention = Attention(width, heads, fused=False)
        self.bias = nn.Parameter(torch.rand(9, heads))
        grid = torch.stack(torch.meshgrid(torch.arange(2), torch.arange(2), indexing="ij"), -1)
        at = grid.view(4, 1, 2) - grid.view(1, 4, 2) + 1
        self.places: Tensor
        self.register_buffer("places", at[..., 0] * 3 + at[..., 1])

    def forward(self, x: Tensor) -> Tensor:
        n, height, width, c = x.shape
        x = torch.roll(x, (-1, -1), (1, 2))
        x = x.view(n, height // 2, 2, width // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        own = self.attention
        qkv = own.qkv(x).reshape(len(x), 4, 3, own.heads, -1).permute(2, 0, 3, 1, 4)
        scores = qkv[0] @ qkv[1].transpose(-2, -1) + self.bias[self.places].permute(2, 0, 1)
        mask = torch.zeros(4, 4)
        mask[0, 3] = -100.0
        x = own.out(((scores + mask).softmax(-1) @ qkv[2]).transpose(1, 2).reshape(len(x), 4, c))
        x = x.view(n, height // 2, width // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5)
        return torch.roll(x.reshape(n, height, width, c), (1, 1), (1, 2))


class Merge(nn.Module):
    """Four neighbours side by side, then a linear layer: half the resolution."""

    def __init__(self, width: int, out: int):
        super().__init__()
        self.norm, self.down = nn.LayerNorm(4 * width), nn.Linear(4 * width, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        out: Tensor = self.down(self.norm(torch.cat(parts, -1)))
        return out


def swin() -> nn.Module:
    return Net(
        lambda net, x: net.head(net.stages(net.patches(x).permute(0, 2, 3, 1)).mean((1, 2))),
        patches=nn.Conv2d(3, 6, 3, 3),
        stages=nn.Sequential(
            Block(6, Window(6, 2), 8), Merge(6, 8), Block(8, Window(8, 2), 10), nn.LayerNorm(8)
        ),
        head=nn.Linear(8, 3),
    )


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, width: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Linear(tokens, 7), nn.GELU(), nn.Linear(7, tokens))
        self.mlp = nn.Sequential(nn.Linear(width, 11), nn.GELU(), nn.Linear(11, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def mlp_mixer() -> nn.Module:
    return Net(
        lambda net, x: net.head(net.blocks(net.patches(x).flatten(2).transpose(1, 2)).mean(1)),
        patches=nn.Conv2d(3, 6, 4, 4),
        blocks=nn.Sequential(MixerBlock(9, 6), MixerBlock(9, 6), nn.LayerNorm(6)),
        head=nn.Linear(6, 3),
    )


class GatedMLP(nn.Module):
    """Both halves from one linear layer, as in many language models."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.both, self.down = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.both(x).chunk(2, dim=-1)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


def gated_mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(432, 8), Residual(GatedMLP(8, 6)), nn.RMSNorm(8), nn.Linear(8, 3)
    )


class TextClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 8), nn.Embedding(12, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 10, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        out: Tensor = self.head(self.encoder(x).mean(1))
        return out


def shuffled() -> nn.Module:
    """Split, two paths, side by side again, and shuffled across groups (ShuffleNet)."""
    return Net(
        lambda net, x: net.head(net.last(_halves(net, net.stem(x)))),
        stem=unit(3, 8), path=unit(4, 4), last=unit(8, 6, 1), head=head(6),
    )  # fmt: skip


def _halves(net: nn.Module, x: Tensor) -> Tensor:
    one, other = x.chunk(2, 1)
    both = torch.cat([one, net.get_submodule("path")(other)], 1)
    return both.view(len(x), 2, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2)


def group_norm() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.InstanceNorm2d(6),
        nn.PReLU(6), nn.ConvTranspose2d(6, 4, 2, 2), nn.ReLU(), nn.Conv2d(4, 8, 3),
        nn.PixelShuffle(2), nn.Conv2d(2, 5, 3), head(5),
    )  # fmt: skip


def padded_shortcut() -> nn.Module:
    """A residual network whose shortcuts lay zeros beside the channels (He et al., option A)."""
    branch = nn.Sequential(unit(4, 8, 3, 2), unit(8, 8)[:2])
    pad = Net(lambda net, x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))
    return nn.Sequential(unit(3, 4), Residual(branch, pad), basic(8, 8), head(8))


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "plain CNN": plain_cnn,
    "VGG-BN": vgg_bn,
    "ResNet-18": resnet18,
    "ResNet-50": resnet50,
    "ResNet with padded shortcuts": padded_shortcut,
    "PreAct-ResNet": preact_resnet,
    "WideResNet": wide_resnet,
    "DenseNet": densenet,
    "MobileNetV2": mobilenet_v2,
    "MobileNetV3": mobilenet_v3,
    "EfficientNet": efficientnet,
    "ResNeXt, RegNet": resnext,
    "ShuffleNet": shuffled,
    "ConvNeXt": convnext,
    "ViT": vit,
    "ViT of torch.nn": vit_of_torch,
    "Swin": swin,
    "MLP-Mixer": mlp_mixer,
    "gated MLP": gated_mlp,
    "text classifier": TextClassifier,
    "group norm, transposed convolution, pixel shuffle": group_norm,
}


def build(family: str, seed: int = 0) -> nn.Module:
    """Build a network with random weights and statistics; no torch state is touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = FAMILIES[family]().eval().double()
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and not name.endswith("num_batches_tracked"):
                tensor.add_(0.2 * torch.rand_like(tensor))
    return model


def example(family: str, seed: int = 0) -> tuple[Tensor]:
    """Make an input that the family takes."""
    generator = torch.Generator().manual_seed(seed)
    if family == "text classifier":
        return (torch.randint(0, 20, (2, 7), generator=generator),)
    return (torch.randn(2, 3, 12, 12, generator=generator, dtype=torch.float64),)
