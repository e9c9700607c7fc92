"""The table of a comparison: what each method came to on each network, and on average."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from otbr_fast.evaluate import Metrics, der, hder
from otbr_fast.evaluate.comparison import BEFORE, Standing
from otbr_fast.evaluate.comparison_store import Outcome
from otbr_fast.evaluate.defences import Method, Trial

# How the settings were chosen. In hindsight: by a figure that only test data and the trigger tell.
BY_HDER, BY_DER = "hindsight, hDER", "hindsight, DER"
FIXED, USES_DATA = "fixed", "fixed, uses data"
EACH = "each"

FIGURES = ("acc", "asr", "ra", "tcr", "der", "hder", "acc_loss", "tcr_loss")

Rate = Callable[[Metrics, Metrics], float | None]


@dataclass(frozen=True)
class Line:
    """One network and method, with the settings chosen in one way.

    Parameters
    ----------
    network, method : str
        Names.
    choice : str
        "before", "fixed", "fixed, uses data", or "hindsight" and by what.
    settings : str
        The settings chosen, in short.
    n_done, n_trials : int
        How many of the method's trials are known, and how many there are.
    metrics : Metrics
        All unknown if the method came to nothing.
    der, hder : float, optional
        Against the network as it came.
    acc_loss, tcr_loss : float, optional
        What ACC and TCR lost; negative for a gain.
    seconds : float
        Of making the networks: of all trials for a choice in hindsight.
    note : str
        Why there is nothing, or something is missing.
    """

    network: str
    method: str
    choice: str
    settings: str
    n_done: int
    n_trials: int
    metrics: Metrics
    der: float | None
    hder: float | None
    acc_loss: float | None
    tcr_loss: float | None
    seconds: float
    note: str = ""

    def figure(self, name: str) -> float | None:
        """Return one of `FIGURES`."""
        value: float | None = getattr(self if hasattr(self, name) else self.metrics, name)
        return value

    def to_dict(self) -> dict[str, Any]:
        """Return a flat dictionary, with fractions in [0, 1]."""
        return {
            "network": self.network,
            "method": self.method,
            "choice": self.choice,
            "settings": self.settings,
            "trials": self.n_trials,
            "done": self.n_done,
            **{name: self.figure(name) for name in FIGURES},
            "recalls": self.metrics.recalls,
            "seconds": self.seconds,
            "note": self.note,
        }


@dataclass(frozen=True)
class Average:
    """A method's means over networks.

    Parameters
    ----------
    attacked : bool
        Over the networks with a known attack, or over the others.
    method, choice : str
        As in `Line`.
    n, n_networks : int
        How many networks the mean is over, and how many there are; fewer, if the method came to
        nothing on some.
    means : dict of str to float or None
        Of each of `FIGURES`, over those networks on which it is known.
    seconds : float
        Mean.
    """

    attacked: bool
    method: str
    choice: str
    n: int
    n_networks: int
    means: dict[str, float | None]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return a flat dictionary."""
        facts = asdict(self)
        return {**{k: v for k, v in facts.items() if k != "means"}, **self.means}


def comparison_lines(standings: Sequence[Standing]) -> list[Line]:
    """Return the table's lines, network by network, of what is known."""
    before = _metrics_before(standings)
    return [
        line
        for standing in standings
        if standing.outcomes and standing.network in before
        for line in _lines(standing, before[standing.network])
    ]


def averages(lines: Sequence[Line]) -> list[Average]:
    """Return the means of each method and choice: first of attacked networks, then of others."""
    attacked = {line.network: line.metrics.asr is not None for line in lines if _is_before(line)}
    groups: dict[tuple[bool, str, str], list[Line]] = {}
    for line in lines:
        if line.metrics.acc is not None:
            key = (attacked[line.network], line.method, line.choice)
            groups.setdefault(key, []).append(line)
    return [
        Average(
            attacked=kind,
            method=method,
            choice=choice,
            n=len(group),
            n_networks=sum(is_attacked == kind for is_attacked in attacked.values()),
            means={name: _mean(line.figure(name) for line in group) for name in FIGURES},
            seconds=fmean(line.seconds for line in group),
        )
        for (kind, method, choice), group in sorted(groups.items(), key=lambda item: not item[0][0])
    ]


def trial_rows(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """Return one flat dictionary for each trial that is done; "outcome" names its file."""
    before = _metrics_before(standings)
    return [
        {
            **_line(standing, EACH, trial, outcome, before[standing.network]).to_dict(),
            "measuring_seconds": outcome.measuring_seconds,
            "device": outcome.facts.device,
            "outcome": outcome.facts.key,
        }
        for standing in standings
        if standing.network in before
        for trial, outcome in standing.outcomes
    ]


def _metrics_before(standings: Sequence[Standing]) -> dict[str, Metrics]:
    return {
        standing.network: standing.outcomes[0][1].metrics or Metrics()
        for standing in standings
        if standing.method.name == BEFORE and standing.outcomes
    }


def _lines(standing: Standing, before: Metrics) -> Iterator[Line]:
    method = standing.method
    fixed = [pair for pair in standing.outcomes if pair[0] == method.fixed]
    for trial, outcome in fixed:
        yield _line(standing, _fixed_choice(method), trial, outcome, before)
    if len(method.trials) == 1 or before.asr is None:
        return
    for choice, rate in ((BY_HDER, hder), (BY_DER, der)):
        yield _in_hindsight(standing, choice, rate, before)


def _fixed_choice(method: Method) -> str:
    if method.name == BEFORE:
        return BEFORE
    return USES_DATA if method.uses_training_data else FIXED


def _in_hindsight(standing: Standing, choice: str, rate: Rate, before: Metrics) -> Line:
    """Return the line of the best trial; of those that came to nothing if all did."""

    def rank(pair: tuple[Trial, Outcome]) -> float:
        found = rate(before, pair[1].metrics or Metrics())
        return -1.0 if found is None else found

    trial, outcome = max(standing.outcomes, key=rank)
    return _line(standing, choice, trial, outcome, before, sum_seconds=True)


def _line(
    standing: Standing,
    choice: str,
    trial: Trial,
    outcome: Outcome,
    before: Metrics,
    *,
    sum_seconds: bool = False,
) -> Line:
    after = outcome.metrics or Metrics()
    is_before = standing.method.name == BEFORE
    n_done, n_trials = len(standing.outcomes), len(standing.method.trials)
    refused = sum(other.error is not None for _, other in standing.outcomes)
    notes = [outcome.error or ""]
    if sum_seconds:
        notes += [f"{refused} of {n_trials} settings refused"] if refused else []
        notes += [f"only {n_done} of {n_trials} settings tried yet"] if n_done < n_trials else []
    return Line(
        network=standing.network,
        method=standing.method.name,
        choice=choice,
        settings=trial.shown,
        n_done=n_done,
        n_trials=n_trials,
        metrics=after,
        der=None if is_before else der(before, after),
        hder=None if is_before else hder(before, after),
        acc_loss=None if is_before else _loss(before.acc, after.acc),
        tcr_loss=None if is_before else _loss(before.tcr, after.tcr),
        seconds=sum(o.seconds for _, o in standing.outcomes) if sum_seconds else outcome.seconds,
        note="; ".join(filter(None, notes)),
    )


def _is_before(line: Line) -> bool:
    return line.choice == BEFORE


def _loss(was: float | None, now: float | None) -> float | None:
    return None if was is None or now is None else was - now


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
