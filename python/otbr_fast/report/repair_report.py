"""What a report of one repair holds, as plain data that JSON can carry.

Every part that may be unknown is optional: a section whose data are missing is not shown. A
number that is not finite is one that is not known, ``None``. Fractions are in [0, 1].
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)

from otbr_fast.errors import OtbrFastError
from otbr_fast.io.faults import faults

_DIGITS = 6
_PNG = b"\x89PNG\r\n\x1a\n"


def _known(value: Any) -> float | None:
    """Return a number that is finite; anything else that is a number is not known."""
    if value is None:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _rounded(values: Any) -> tuple[float | None, ...]:
    numbers = values.tolist() if hasattr(values, "tolist") else values
    known = (_known(value) for value in numbers)
    return tuple(None if v is None else float(f"{v:.{_DIGITS}g}") for v in known)


def _check_png(text: str) -> str:
    try:
        content = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
    if not content.startswith(_PNG):
        raise ValueError("not a PNG")
    return text


Number = Annotated[float | None, BeforeValidator(_known)]
"""A finite number, or ``None`` where it is not known."""

Values = Annotated[tuple[float | None, ...], BeforeValidator(_rounded)]
"""Many numbers, kept to six significant digits."""

Png = Annotated[str, AfterValidator(_check_png)]
"""A PNG file in base64."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Subject(_Part):
    """The network that was looked at.

    Parameters
    ----------
    name : str
        Of its file or record, without folders.
    architecture : str, optional
        As in ``preactresnet18``.
    num_classes : int, optional
        Number of logits.
    class_names : tuple of str
        In the order of the logits; empty if they are not known.
    dataset : str, optional
        What it was trained on, as far as is told.
    input_shape : (int, int, int), optional
        Channels, height and width.
    """

    name: str
    architecture: str | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] = ()
    dataset: str | None = None
    input_shape: tuple[int, int, int] | None = None

    def label(self, index: int) -> str:
        """Name a class: its number, and its name if that is known."""
        if index < len(self.class_names):
            return f"{index} {self.class_names[index]}"
        return f"{index}"


class ClassVerdict(_Part):
    """How suspicious one class is.

    Parameters
    ----------
    index : int
        The class.
    loss : float, optional
        Of the probe that leads everything to the class: the smaller, the easier.
    statistic, p_value : float, optional
        Against the null distribution.
    suspect : bool
        Whether it is held to be an attack's target.
    """

    index: int = Field(ge=0)
    loss: Number = None
    statistic: Number = None
    p_value: Number = None
    suspect: bool = False


class Verdict(_Part):
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
    threshold : float, optional
        The statistic at `alpha`.
    explanation : str
        How the statistic is made and what it is compared with, in a sentence or two.
    """

    found: bool
    classes: tuple[ClassVerdict, ...] = ()
    p_value: Number = None
    alpha: Number = None
    null_band: tuple[float, float] | None = None
    null_band_meaning: str = ""
    threshold: Number = None
    explanation: str = ""

    @property
    def suspects(self) -> tuple[ClassVerdict, ...]:
        """The suspected classes."""
        return tuple(one for one in self.classes if one.suspect)


class Measured(_Part):
    """What evaluation images told of one network; as `otbr_fast.evaluate.Metrics`, with rates."""

    acc: Number = None
    asr: Number = None
    ra: Number = None
    tcr: Number = None
    der: Number = None
    hder: Number = None
    recalls: Values = ()


class Proxy(_Part):
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
    is_fraction : bool
        Whether it is in [0, 1] and shown in percent.
    """

    key: str
    label: str
    explanation: str = ""
    better: Literal["higher", "lower", ""] = ""
    is_fraction: bool = True


class Stage(_Part):
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


class Candidate(_Part):
    """One setting that could have been chosen.

    Parameters
    ----------
    gamma, lambda_ : float, optional
        The paper's γ and λ.
    stages : str
        What else distinguishes it, as in "aimed"; candidates that share it form a curve.
    n_pruned : int, optional
        Neurons pruned.
    proxies : dict of str to float
        By the keys of `RepairReport.proxies`.
    score : float, optional
        What the choice went by.
    chosen : bool
        At most one is.
    note : str
        Why it was out of the question, or what else must be said.
    measured : Measured, optional
        With evaluation data only; never used for the choice.
    """

    gamma: Number = None
    lambda_: Number = None
    stages: str = ""
    n_pruned: int | None = None
    proxies: dict[str, Number] = Field(default_factory=dict)
    score: Number = None
    chosen: bool = False
    note: str = ""
    measured: Measured | None = None


class Choice(_Part):
    """What could have been chosen, and the rule.

    Parameters
    ----------
    candidates : tuple of Candidate
        All that were tried.
    rule : str
        How one was chosen, in a sentence or two.
    score_label : str
        What the score is.
    better : {"higher", "lower"}
        Which scores are better.
    """

    candidates: tuple[Candidate, ...] = ()
    rule: str = ""
    score_label: str = "score"
    better: Literal["higher", "lower"] = "higher"

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


class LayerFacts(_Part):
    """What was done to one layer.

    Parameters
    ----------
    name : str
        The convolution.
    n_neurons, n_pruned : int
        Its neurons, and how many of them were pruned.
    ranking : tuple of float
        What neurons were ranked by, one value a neuron; empty if not kept.
    pruned : tuple of int, optional
        Which were pruned.
    norms : dict of str to tuple of float
        Euclidean norms of the neurons' weights in each network, as in "backdoored", "pruned",
        "transported" and "fused", one a neuron.
    ot_cost, duality_gap, seconds : float, optional
        As in `otbr_fast.repair.LayerReport`.
    """

    name: str
    n_neurons: int = Field(ge=1)
    n_pruned: int = Field(ge=0)
    ranking: Values = ()
    pruned: tuple[int, ...] | None = None
    norms: dict[str, Values] = Field(default_factory=dict)
    ot_cost: Number = None
    duality_gap: Number = None
    seconds: Number = None

    @model_validator(mode="after")
    def _check(self) -> LayerFacts:
        n = self.n_neurons
        for what, values in {"ranking": self.ranking, **self.norms}.items():
            if values and len(values) != n:
                raise ValueError(f"{what} has {len(values)} values for {n} neurons")
        if self.n_pruned > n:
            raise ValueError(f"{self.n_pruned} of {n} neurons cannot be pruned")
        places = set(self.pruned or ())
        if self.pruned is not None and len(places) != self.n_pruned:
            raise ValueError(f"n_pruned is {self.n_pruned}, but {len(places)} are named")
        if any(not 0 <= place < n for place in places):
            raise ValueError(f"a pruned neuron is not one of the {n}")
        return self


class PlanMap(_Part):
    """A layer's transport plan, small enough to look at.

    Parameters
    ----------
    layer : str
        The convolution.
    n_neurons, n_pruned : int
        Of the layer; the pruned ones come first in both directions.
    cells : tuple of tuple of float
        Mass from a group of pruned-network neurons (row) to one of backdoored neurons (column).
    pruned_cells : int
        How many rows, and columns, are of pruned neurons.
    """

    layer: str
    n_neurons: int = Field(ge=1)
    n_pruned: int = Field(ge=0)
    cells: tuple[Values, ...]
    pruned_cells: int = Field(ge=0)

    @model_validator(mode="after")
    def _check(self) -> PlanMap:
        size = len(self.cells)
        if size == 0 or any(len(row) != size for row in self.cells):
            raise ValueError("the cells of a plan must form a square")
        if self.pruned_cells > size:
            raise ValueError(f"{self.pruned_cells} of {size} rows cannot be of pruned neurons")
        return self


class Example(_Part):
    """An image, and what the network answered before and after.

    Parameters
    ----------
    image : str
        A PNG in base64.
    original : str, optional
        The image without the trigger.
    caption : str
        A few words.
    label : int, optional
        Its true class.
    before, after : int, optional
        The network's answers.
    """

    image: Png
    original: Png | None = None
    caption: str = ""
    label: int | None = None
    before: int | None = None
    after: int | None = None


class Probe(_Part):
    """The perturbation that leads images to one class most easily.

    Parameters
    ----------
    target : int
        The class.
    image : str
        The perturbation, amplified, around mid-grey; a PNG in base64.
    amplification : float
        How many times.
    examples : tuple of Example
        Images with the perturbation on, as the network sees them.
    """

    target: int = Field(ge=0)
    image: Png
    amplification: float = Field(gt=0)
    examples: tuple[Example, ...] = ()


class Timing(_Part):
    """Wall time of one stage, in seconds."""

    stage: str
    seconds: Number = None


class Provenance(_Part):
    """Everything needed to repeat it.

    Parameters
    ----------
    command : str
        As it was typed.
    config : dict
        All settings that were in force.
    seed : int, optional
        What all random numbers came from.
    versions : dict
        As `otbr_fast.show_versions` tells them.
    hashes : dict of str to str
        SHA-256 by what it is of.
    machine : dict
        Facts of the machine.
    timings : tuple of Timing
        In order.
    """

    command: str = ""
    config: dict[str, JsonValue] = Field(default_factory=dict)
    seed: int | None = None
    versions: dict[str, str | int | None] = Field(default_factory=dict)
    hashes: dict[str, str] = Field(default_factory=dict)
    machine: dict[str, str | int | float | None] = Field(default_factory=dict)
    timings: tuple[Timing, ...] = ()


class RepairReport(_Part):
    """All that is told of one repair, or of a verdict alone.

    Parameters
    ----------
    asked : str
        What was asked, in a sentence.
    subject : Subject
        Of which network.
    created : str
        Date and time, as ISO 8601 has them.
    action : {"mitigated", "unchanged"}
        Whether the network's weights were changed.
    verdict : Verdict, optional
        Without data.
    unknown : tuple of str
        What is not known, beside what follows from the rest of the report; sentences.
    stages : tuple of Stage
        Networks, from the one that came to the one that goes out.
    proxies : tuple of Proxy
        What the keys in stages and candidates mean, in the order to show them.
    evaluation : str
        On which images it was measured, in a sentence.
    choice : Choice, optional
        Of γ, λ and stages.
    ranking_label : str
        What neurons were ranked by, as in "NWC / norm".
    layers : tuple of LayerFacts
        In the network's order.
    plan : PlanMap, optional
        Of one layer.
    surrogates : tuple of Example
        Synthetic images.
    probes : tuple of Probe
        Of the suspected classes first.
    triggered : tuple of Example
        Test images with the trigger on; with evaluation data only.
    provenance : Provenance
        How to repeat it.
    """

    schema_version: Literal[1] = 1
    asked: str
    subject: Subject
    created: str = ""
    action: Literal["mitigated", "unchanged"]
    verdict: Verdict | None = None
    unknown: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    proxies: tuple[Proxy, ...] = ()
    evaluation: str = ""
    choice: Choice | None = None
    ranking_label: str = "NWC"
    layers: tuple[LayerFacts, ...] = ()
    plan: PlanMap | None = None
    surrogates: tuple[Example, ...] = ()
    probes: tuple[Probe, ...] = ()
    triggered: tuple[Example, ...] = ()
    provenance: Provenance = Provenance()

    @property
    def is_measured(self) -> bool:
        """Whether evaluation data told anything."""
        return any(stage.measured is not None for stage in self.stages)

    def to_json(self) -> str:
        """Return JSON as standards have it: no NaN, no infinity."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> RepairReport:
        """Read what `to_json` wrote.

        Raises
        ------
        OtbrFastError
            The text is no such report; the message names the keys that are missing or wrong.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise OtbrFastError(
                f"this is not the JSON of a repair report ({faults(error)}); give one that "
                "otbr_fast wrote, unchanged."
            ) from error

    def proxy_labels(self) -> Mapping[str, str]:
        """Return each proxy's label by its key."""
        return {proxy.key: proxy.label for proxy in self.proxies}
