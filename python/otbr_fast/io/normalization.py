"""How BackdoorBench normalises the data sets it knows; its records do not say it."""

from __future__ import annotations

Normalization = tuple[tuple[float, ...], tuple[float, ...]]

_KNOWN: dict[str, Normalization] = {
    "mnist": ((0.5,), (0.5,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "gtsrb": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "tiny": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
}


def dataset_normalization(dataset: str) -> Normalization | None:
    """Return mean and standard deviation per channel, or ``None`` for an unknown data set."""
    return _KNOWN.get(dataset.lower())
