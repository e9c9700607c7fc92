"""Input-aware: a generator, trained along with the classifier, makes each image its own trigger."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.errors import AttackError
from otbr_fast.evaluate.attacks.base import LearnedAttack

_GROUPS = 4
_MASK_BATCH, _MASK_LR = 32, 0.005
_MASK_WEIGHT = 100.0  # the paper's lambda_norm; its lambda_div is 1
_SMALL = 1e-3
_LEAST = 20  # a mask may cover this many times less than it should


@dataclass(frozen=True, eq=False)
class InputAware(LearnedAttack):
    """Each image has its own trigger (Nguyen & Tran, 2020, arXiv 2010.08138).

    One network makes the pattern from the image, another the mask. The mask's is trained first:
    to cover little, and to differ between images. The pattern's is trained along with the
    classifier: to reach the attacker's label, and to differ between images. Decoys carry another
    image's trigger and keep their labels, so that a trigger works on its own image only.

    The mask's network is trained in some hundred steps instead of the paper's 25 epochs.

    Parameters
    ----------
    channels : int
        Of the images.
    density : float
        Share of the image that the mask may cover, 0.032 in the paper.
    cross_ratio : float
        Decoys for each poisoned image. With them the trigger is learned late in a training; without
        them (0) one image's trigger works on others too, and a few epochs are enough.
    widths : (int, int, int)
        Channels of both networks, at each of their three sizes; multiples of 8, so that a
        group of the norm has two at least.
    mask_steps : int
        Of the training of the mask's network, 32 images each.
    seed : int
        Of the networks' first weights.
    """

    name: ClassVar[str] = "input_aware"
    draws_anew: ClassVar[bool] = True

    channels: int = 3
    density: float = 0.032
    cross_ratio: float = 1.0
    widths: tuple[int, int, int] = (32, 64, 128)
    mask_steps: int = 200
    seed: int = 0
    networks: nn.ModuleDict = field(init=False, repr=False)

    def __post_init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            networks = nn.ModuleDict(
                {
                    "pattern": _Generator(self.channels, self.channels, self.widths),
                    "mask": _Generator(self.channels, 1, self.widths),
                }
            )
        object.__setattr__(self, "networks", networks)

    @property
    def decoy_ratio(self) -> float:
        """Decoys shown in training for each poisoned image."""
        return self.cross_ratio

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """Put on each image in [0, 1], float, shape (N, C, H, W), its own trigger."""
        return self._put(images, images)

    def decoy(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Put on each image its neighbour's trigger; a single image stays as it is."""
        return images if len(images) < 2 else self._put(images, images.roll(1, dims=0))

    def penalty(self, images: torch.Tensor) -> torch.Tensor:
        """Return how much alike the patterns of different images are."""
        return _likeness(images, self._patterns(images))

    def prepare(self, images: torch.Tensor, generator: torch.Generator) -> None:
        """Train the mask's network."""
        network = self.networks["mask"]
        device = next(network.parameters()).device
        optimizer = torch.optim.Adam(network.parameters(), _MASK_LR, betas=(0.5, 0.9))
        masks = torch.ones(())
        for _ in range(self.mask_steps):
            drawn = torch.randint(0, len(images), (_MASK_BATCH,), generator=generator)
            x = images[drawn].to(device).float() / 255
            masks = self._masks(x)
            excess = F.relu(masks - self.density).mean()
            loss = _MASK_WEIGHT * excess + _likeness(x, masks)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        covered = float(masks.detach().mean())
        if covered < self.density / _LEAST:
            raise AttackError(
                f"input_aware's mask covers {covered:.2g} of the image instead of {self.density}, "
                "so there would be no trigger: use another seed, or more mask_steps."
            )

    def _put(self, images: torch.Tensor, sources: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():  # the mask's network stays as `prepare` left it
            masks = self._masks(sources)
        return (images * (1 - masks) + self._patterns(sources) * masks).clamp(0, 1)

    def _patterns(self, images: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.networks["pattern"](2 * images - 1)
        return (torch.tanh(made) + 1) / 2

    def _masks(self, images: torch.Tensor) -> torch.Tensor:
        with torch.autocast(images.device.type, enabled=False):  # the threshold is too steep for it
            made: torch.Tensor = self.networks["mask"](2 * images - 1)
        return (torch.tanh(10 * torch.tanh(made)) + 1) / 2  # the paper's threshold, near 0 and 1


class _Generator(nn.Module):
    """Three times down and up again, (N, C, H, W) to (N, C_out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            _Twice(before, after) for before, after in itertools.pairwise((in_channels, *widths))
        )
        backwards = widths[::-1]
        self.up = nn.ModuleList(
            _Twice(before, after)
            for before, after in zip(backwards, (*backwards[1:], backwards[-1]), strict=True)
        )
        self.last = nn.Conv2d(backwards[-1], out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.shape[2:]
        for block in self.down:
            x = F.max_pool2d(block(x), 2, ceil_mode=True)
        for block in self.up:
            x = F.interpolate(block(x), scale_factor=2.0, mode="bilinear")
        made: torch.Tensor = self.last(F.interpolate(x, size, mode="bilinear"))
        return made


class _Twice(nn.Sequential):
    """Two convolutions, each with group norm, which knows no batch and no mode, and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, out_channels),
            nn.ReLU(),
        )


def _likeness(images: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """Return the paper's diversity loss: distance of images over that of what is made of them."""
    apart = _distance(images, images.roll(1, dims=0))
    return (apart / (_distance(made, made.roll(1, dims=0)) + _SMALL)).mean()


def _distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).square().mean(dim=(1, 2, 3)).add(1e-12).sqrt()
