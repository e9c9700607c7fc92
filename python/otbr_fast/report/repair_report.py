"""What a report of one repair holds, as plain data that JSON can carry.

Every part that may be unknown is optional: a section whose data are missing is not shown. A
number that is not finite is one that is not known, ``None``. Fractions are in [0, 1].
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from otbr_fast.errors import OtbrFastError
from otbr_fast.io.faults import faults
from otbr_fast.report.report_findings import (
    Candidate,
    Choice,
    ClassVerdict,
    Measured,
    Proxy,
    Stage,
    Verdict,
)
from otbr_fast.report.report_layers import Example, LayerFacts, PlanMap, Probe
from otbr_fast.report.report_values import Number, Part

__all__ = [
    "Candidate",
    "Choice",
    "ClassVerdict",
    "Example",
    "LayerFacts",
    "Measured",
    "PlanMap",
    "Probe",
    "Provenance",
    "Proxy",
    "RepairReport",
    "Stage",
    "Subject",
    "Timing",
    "Verdict",
]


class Subject(Part):
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


class Timing(Part):
    """Wall time of one stage, in seconds."""

    stage: str
    seconds: Number = None


class Provenance(Part):
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


class RepairReport(Part):
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
        return self.model_dump_json() + "\n"

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
