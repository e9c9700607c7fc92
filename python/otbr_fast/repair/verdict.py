"""Is a class easier to reach than the others? A verdict from the weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.probe import Probe, universal_perturbation
from otbr_fast.repair.progress import Progress, silent
from otbr_fast.repair.surrogates import Surrogates

PROBE_RADIUS = 0.018
"""Radius of the probes that classes are compared with; see `universal_perturbation`."""

LOG_LOSSES = True
"""Whether the logarithms of the probes' losses are compared, and not the losses."""

LEVEL = 0.05
"""Of networks without a backdoor, at most this part should get a suspect."""

MIN_CLASSES = 4
"""Fewer have no others whose spread could be told."""

_LOSS_FLOOR = 1e-9  # so that a loss of 0 has a logarithm


@dataclass(frozen=True)
class ClassEvidence:
    """How far a class stands out.

    Parameters
    ----------
    target : int
        The class.
    loss : float
        Of its probe.
    statistic : float, optional
        By how many standard errors of prediction its loss is below the others'; ``None`` where it
        cannot be told.
    p_value : float, optional
        Of the statistic, one-sided, times the number of classes (Bonferroni), at most 1.
    """

    target: int
    loss: float
    statistic: float | None
    p_value: float | None


@dataclass(frozen=True)
class Verdict:
    """What the probes of all classes say together.

    Parameters
    ----------
    classes : tuple of ClassEvidence
        One for each class, in order.
    suspect : int, optional
        The class that stands out, if one does at this level.
    p_value : float, optional
        The smallest of the classes', which already counts how many there are.
    level : float
        What the p-value was held against.
    """

    classes: tuple[ClassEvidence, ...]
    suspect: int | None
    p_value: float | None
    level: float

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
    radius: float = PROBE_RADIUS,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> tuple[Probe, ...]:
    """Search a probe of the same radius for each class, with the same seed.

    Parameters and errors are those of `universal_perturbation`; progress is told of after each
    class with ``("probe", done, num_classes)``.
    """
    tell = progress or silent
    probes = []
    for target in range(num_classes):
        probe = universal_perturbation(
            model, inputs, surrogates, target, radius=radius, seed=seed, device=device
        )
        probes.append(probe)
        tell("probe", target + 1, num_classes)
    return tuple(probes)


def judge(losses: Sequence[float], *, level: float = LEVEL) -> Verdict:
    """Tell whether one class's probe does suspiciously well.

    Each class is held against all others. Were its value y (the loss, or its logarithm) drawn from
    the normal distribution that the C − 1 others were drawn from, with mean m and sample deviation
    s, then (m − y) / (s sqrt(1 + 1/(C − 1))) would have Student's t distribution with C − 2
    degrees of freedom. One-sided, as only a low loss is a sign, and corrected for C tests.

    That the values of a network without a backdoor are normal is an assumption, and a class that
    is by nature easy to reach breaks it; so does an attack on all classes at once, which leaves
    none that stands out. No sign found is no proof that there is nothing to be found.

    Parameters
    ----------
    losses : sequence of float
        Of the classes' probes, in order; finite, not negative.
    level : float
        In (0, 1).

    Returns
    -------
    Verdict
        Without a suspect and without p-values if there are fewer than `MIN_CLASSES` classes.

    Raises
    ------
    RepairError
        A loss is negative or not finite.
    """
    values = np.asarray(losses, dtype=np.float64)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise RepairError(f"the probes' losses {list(losses)} must be finite and not negative")
    if values.size < MIN_CLASSES:
        unknown = tuple(ClassEvidence(k, float(x), None, None) for k, x in enumerate(values))
        return Verdict(unknown, None, None, level)
    statistics = _leave_one_out(np.log(np.maximum(values, _LOSS_FLOOR)) if LOG_LOSSES else values)
    p_values = np.minimum(1.0, values.size * stats.t.sf(statistics, values.size - 2))
    classes = tuple(
        ClassEvidence(k, float(values[k]), float(statistics[k]), float(p_values[k]))
        for k in range(values.size)
    )
    best = int(np.argmin(p_values))
    p_value = float(p_values[best])
    return Verdict(classes, best if p_value < level else None, p_value, level)


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
