"""Normalisation that BackdoorBench applies to the images of its datasets."""

from __future__ import annotations

_Values = tuple[float, ...]

NORMALIZATION: dict[str, tuple[_Values, _Values] | None] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mnist": ((0.5,), (0.5,)),
    "gtsrb": None,
    "celeba": None,
}
"""Mean and standard deviation per channel; ``None`` where images are fed as they are, in [0, 1]."""
