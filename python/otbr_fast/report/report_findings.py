"""Parts of a report: verdict, what was measured or stands in for it, and the choice."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from otbr_fast.report.report_values import Number, Part, Values


class ClassVerdict(Part):
    """How suspicious one class is.

    Parameters
    ----------
    index : int
        The class.
    losses : tuple of float
        Of the probes of each size that lead others to the class: the smaller, the easier.
    asymmetry : float, optional
        By how much easier it is to come to the class than to leave it.
    wave_loss : float, optional
        Of the plane wave that leads to it best.
    statistic, p_value : float, optional
        Against the null distribution.
    suspect : bool
        Whether it is held to be an attack's target.
    """

    index: int = Field(ge=0)
    losses: Values = ()
    asymmetry: Number = None
    wave_loss: Number = None
    statistic: Number = None
    p_value: Number = None
    suspect: bool = False


class Verdict(Part):
    """Whether there is a sign of a backdoor.

    Parameters
    ----------
    found : bool
        Whether there is; there may be one without a single suspected class.
    classes : tuple of ClassVerdict
        In any order.
    p_value : float, optional
        Of the network as a whole.
    alpha : float, optional
        The level: a sign is what has a smaller p-value.
    null_band : (float, float), optional
        Where the statistic of a class nobody attacked mostly lies.
    null_band_meaning : str
        What "mostly" is, as in "5th to 95th percentile".
    explanation : str
        How the statistic is made and what it is compared with, in a sentence or two.
    """

    found: bool
    classes: tuple[ClassVerdict, ...] = ()
    p_value: Number = None
    alpha: Number = None
    null_band: tuple[float, float] | None = None
    null_band_meaning: str = ""
    explanation: str = ""

    @property
    def suspects(self) -> tuple[ClassVerdict, ...]:
        """The suspected classes."""
        return tuple(one for one in self.classes if one.suspect)


class Measured(Part):
    """What evaluation images told of one network; as `otbr_fast.evaluate.Metrics`, with rates."""

    acc: Number = None
    asr: Number = None
    ra: Number = None
    tcr: Number = None
    der: Number = None
    hder: Number = None
    recalls: Values = ()


class Proxy(Part):
    """A figure that needs no data and stands in for one that does.

    Parameters
    ----------
    key : str
        Under which stages and candidates hold its value.
    label : str
        Short, for tables and axes.
    explanation : str
        What it is, and what it stands for.
    better : {"higher", "lower", ""}
        Which way is better.
    """

    key: str
    label: str
    explanation: str = ""
    better: Literal["higher", "lower", ""] = ""


class Stage(Part):
    """One network on the way: as it came, between stages, or at the end.

    Parameters
    ----------
    name : str
        As in "before", "pruned" or "mitigated".
    measured : Measured, optional
        With evaluation data only.
    proxies : dict of str to float
        By the keys of `RepairReport.proxies`.
    """

    name: str
    measured: Measured | None = None
    proxies: dict[str, Number] = Field(default_factory=dict)


class Candidate(Part):
    """One setting that could have been chosen.

    Parameters
    ----------
    gamma, lambda_ : float, optional
        The paper's γ and λ.
    n_pruned : int, optional
        Neurons pruned.
    proxies : dict of str to float
        By the keys of `RepairReport.proxies`.
    score : float, optional
        What the choice went by.
    chosen : bool
        At most one is.
    measured : Measured, optional
        With evaluation data only; never used for the choice.
    """

    gamma: Number = None
    lambda_: Number = None
    n_pruned: int | None = None
    proxies: dict[str, Number] = Field(default_factory=dict)
    score: Number = None
    chosen: bool = False
    measured: Measured | None = None


class Choice(Part):
    """What could have been chosen, and the rule.

    Parameters
    ----------
    candidates : tuple of Candidate
        All that were tried.
    rule : str
        How one was chosen, in a sentence or two.
    score_label : str
        What the score is; the higher, the better.
    """

    candidates: tuple[Candidate, ...] = ()
    rule: str = ""
    score_label: str = "score"

    @model_validator(mode="after")
    def _check(self) -> Choice:
        n_chosen = sum(candidate.chosen for candidate in self.candidates)
        if n_chosen > 1:
            raise ValueError(f"{n_chosen} candidates are marked as chosen; mark one at most")
        return self

    @property
    def chosen(self) -> Candidate | None:
        """The chosen one."""
        return next((candidate for candidate in self.candidates if candidate.chosen), None)
