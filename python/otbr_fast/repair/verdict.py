"""Is a class easier to reach than the others? A verdict from the weights alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.asymmetry import log_losses
from otbr_fast.repair.probe import Probe, universal_perturbation
from otbr_fast.repair.progress import Progress, silent
from otbr_fast.repair.surrogates import Surrogates

PROBE_RADII = (0.018, 0.054)
"""Radii of the probes that classes are compared with (see `universal_perturbation`). Most triggers
show at the smaller one, patches of many colours only at the larger one."""

WEIGHTS = (0.96, 0.02, 0.01, 0.01)
"""How much of the level each radius may spend, and how much a class that stands out by its
asymmetry at the smaller radius, and both by that and by its wave. At the larger radius some class
of a network without a backdoor stands out by nature more often than the normal distribution says
(t up to 5.9; by this weight 6.4 is a sign if there are ten classes). So does one by its asymmetry
(t up to 5; 7.2 is a sign), and one by its wave (classes of fine texture), but no class was seen to
by both; a backdoor of few frequencies does even if its class is far from all others."""

LEVEL = 0.05
"""Of networks without a backdoor, at most this part should get a suspect."""

MIN_CLASSES = 4
"""Fewer have no others whose spread could be told."""


@dataclass(frozen=True)
class ClassEvidence:
    """How far a class stands out.

    Parameters
    ----------
    target : int
        The class.
    losses : tuple of float
        Of its probes, one for each radius.
    asymmetry : float, optional
        By how much easier it is to come to it than to leave it (see `asymmetries`), if known.
    wave_loss : float, optional
        Of the plane wave that leads to it best (see `try_waves`), if known.
    statistic : float, optional
        By how many standard errors of prediction it stands out from the others: the logarithm of
        its loss below theirs, its asymmetry above, or both that and the logarithm of its wave's
        loss below (the smaller of the two), whichever gives the smallest p-value; ``None`` where it
        cannot be told, and where the others do not differ at all, so that there is no such error.
    p_value : float, optional
        One-sided, corrected for the number of classes and, with their weights, of ways to stand
        out (weighted Bonferroni); at most 1.
    """

    target: int
    losses: tuple[float, ...]
    asymmetry: float | None
    wave_loss: float | None
    statistic: float | None
    p_value: float | None


@dataclass(frozen=True)
class Verdict:
    """What the probes of all classes say together.

    Parameters
    ----------
    classes : tuple of ClassEvidence
        One for each class, in order.
    most_suspicious : int
        The class that stands out most, whether or not that is a sign.
    p_value : float, optional
        The smallest of the classes', which already counts how many there are.
    level : float
        What the p-value was held against.
    """

    classes: tuple[ClassEvidence, ...]
    most_suspicious: int
    p_value: float | None
    level: float

    @property
    def suspect(self) -> int | None:
        """The class that stands out, if one does at this level."""
        found = self.p_value is not None and self.p_value < self.level
        return self.most_suspicious if found else None

    def __str__(self) -> str:
        if self.p_value is None:
            return (
                f"cannot tell: {len(self.classes)} classes are too few to tell whether one stands "
                f"out; at least {MIN_CLASSES} are needed"
            )
        if self.suspect is None:
            return f"no sign found (p = {self.p_value:.2g}, level {self.level:g})"
        return (
            f"sign found: class {self.suspect} is easier to reach than the others "
            f"(p = {self.p_value:.2g}, level {self.level:g})"
        )


def probe_classes(
    model: nn.Module,
    inputs: InputSpec,
    surrogates: Surrogates,
    num_classes: int,
    *,
    radii: Sequence[float] = PROBE_RADII,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> tuple[tuple[Probe, ...], ...]:
    """Search a probe of each radius for each class, all with the same seed.

    Parameters and errors are those of `universal_perturbation`; progress is told of after each
    probe with ``("probe", done, probes in all)``. The result holds a tuple for each radius.
    """
    tell = progress or silent
    found: list[tuple[Probe, ...]] = []
    for radius in radii:
        probes: list[Probe] = []
        for target in range(num_classes):
            probe = universal_perturbation(
                model, inputs, surrogates, target, radius=radius, seed=seed, device=device
            )
            probes.append(probe)
            tell("probe", len(found) * num_classes + target + 1, len(radii) * num_classes)
        found.append(tuple(probes))
    return tuple(found)


def judge(
    losses: Sequence[Sequence[float]],
    asymmetry: Sequence[float] = (),
    waves: Sequence[float] = (),
    *,
    weights: Sequence[float] = WEIGHTS,
    level: float = LEVEL,
) -> Verdict:
    """Tell whether one class's probe does suspiciously well.

    Each class is held against all others, at each radius. Were the logarithm y of its loss drawn
    from the normal distribution that the C − 1 others were drawn from, with mean m and sample
    deviation s, then (m − y) / (s sqrt(1 + 1/(C − 1))) would have Student's t distribution with
    C − 2 degrees of freedom. One-sided, as only a low loss is a sign; multiplied by C, divided by
    the radius's weight, and the smallest over the radii. The asymmetry, where only a high one is a
    sign, is held against the others' in the same way, with a weight of its own. The loss of the
    best wave counts only together with it: the smaller of their statistics, with the square of its
    p-value, as one of two that are drawn independently.

    That the values of a network without a backdoor are normal is an assumption, and a class that
    is by nature easy to reach breaks it; so does an attack on all classes at once, which leaves
    none that stands out. No sign found is no proof that there is nothing to be found.

    Parameters
    ----------
    losses : sequence of sequences of float
        For each radius, of the classes' probes, in order; finite, not negative.
    asymmetry : sequence of float
        Of the classes, from `asymmetries`; finite. Empty if unknown.
    waves : sequence of float
        Of the classes, from `TriedWaves.least_losses`; finite, not negative. Empty where the
        asymmetry is.
    weights : sequence of float
        Of the radii and, if given, of the asymmetry and of asymmetry and wave together; positive,
        their sum is 1.
    level : float
        In (0, 1).

    Returns
    -------
    Verdict
        Without a suspect and without p-values if there are fewer than `MIN_CLASSES` classes.

    Raises
    ------
    RepairError
        A loss is negative or not finite, or there is not one for each class at each radius; an
        asymmetry or a wave's loss is not finite or there is not one of both for each class; or the
        weights do not fit.
    """
    values = _checked(losses)
    n_radii, n_classes = values.shape
    given = _checked_asymmetry(asymmetry, waves, n_classes)
    _check_weights(weights, n_radii, with_asymmetry=given is not None)
    told = [
        ClassEvidence(
            target=k,
            losses=tuple(map(float, values[:, k])),
            asymmetry=None if given is None else float(given[0][k]),
            wave_loss=None if given is None else float(given[1][k]),
            statistic=None,
            p_value=None,
        )
        for k in range(n_classes)
    ]
    if n_classes < MIN_CLASSES:
        return Verdict(tuple(told), int(np.argmin(values[0])), None, level)
    statistics = [_leave_one_out(row) for row in log_losses(values)]
    exponents = [1] * n_radii
    if given is not None:
        easier, by_wave = _leave_one_out(-given[0]), _leave_one_out(log_losses(given[1]))
        statistics += [easier, np.minimum(easier, by_wave)]
        exponents += [1, 2]
    alone = stats.t.sf(statistics, n_classes - 2) ** np.array(exponents)[:, None]
    p_values = n_classes * alone / np.array(weights)[:, None]
    at = np.argmin(p_values, axis=0), np.arange(n_classes)
    classes = tuple(
        replace(
            one,
            statistic=float(statistic) if np.isfinite(statistic) else None,
            p_value=min(1.0, float(p_value)),
        )
        for one, statistic, p_value in zip(
            told, np.array(statistics)[at], p_values[at], strict=True
        )
    )
    best = int(np.argmin(p_values[at]))
    smallest = min(1.0, float(p_values[at][best]))
    return Verdict(classes, best, smallest, level)


def _check_weights(weights: Sequence[float], n_radii: int, *, with_asymmetry: bool) -> None:
    n_ways = n_radii + 2 * with_asymmetry
    if len(weights) != n_ways or min(weights) <= 0 or not math.isclose(sum(weights), 1):
        raise RepairError(
            f"the weights {list(weights)} must be positive, one for each of {n_radii} radii and "
            "two for asymmetry and wave if those are given, and their sum 1"
        )


def _checked_asymmetry(
    asymmetry: Sequence[float], waves: Sequence[float], n_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the asymmetries and the waves' losses as arrays, or None if they are unknown."""
    of_classes, of_waves = (np.asarray(each, dtype=np.float64) for each in (asymmetry, waves))
    if len(of_classes) not in {0, n_classes} or not np.isfinite(of_classes).all():
        raise RepairError(
            f"the asymmetries {of_classes.tolist()} must be finite, one for each class"
        )
    right = (of_waves >= 0) & np.isfinite(of_waves)
    if len(of_waves) != len(of_classes) or not right.all():
        raise RepairError(
            f"the waves' losses {of_waves.tolist()} must be finite and not negative, one for each "
            "asymmetry"
        )
    return (of_classes, of_waves) if len(of_classes) else None


def _checked(losses: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Return the losses as an array, shape (radii, classes)."""
    sizes = {np.size(row) for row in losses}
    if len(sizes) == 1 and sizes != {0}:
        values = np.asarray(losses, dtype=np.float64)
        if values.ndim == 2 and bool((np.isfinite(values) & (values >= 0)).all()):
            return values
    raise RepairError(
        f"the probes' losses {losses} must be finite and not negative, one for each class at each "
        "radius"
    )


def _leave_one_out(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each value's distance below the others, in standard errors of its prediction."""
    statistics = np.zeros(values.size)
    for k, value in enumerate(values):
        others = np.delete(values, k)
        error = others.std(ddof=1) * np.sqrt(1 + 1 / others.size)
        distance = others.mean() - value
        if error > 0:
            statistics[k] = distance / error
        elif distance != 0:  # all others are the same
            statistics[k] = np.copysign(np.inf, distance)
    return statistics
