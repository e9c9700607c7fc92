"""Parts of a report: layers, a transport plan, and images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from otbr_fast.report.report_values import Number, Part, Png, Values


class LayerFacts(Part):
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


class PlanMap(Part):
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


class Example(Part):
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


class Probe(Part):
    """The perturbation that leads images to one class most easily.

    Parameters
    ----------
    target : int
        The class.
    kind : str
        ``"dense"``, ``"patch"``, ``"warp"`` or ``"wave"``.
    lead : float
        By how much more images such a perturbation leads to the class than to others.
    image : str
        What the perturbation changes, on average over images, amplified, around mid-grey; a PNG
        in base64.
    amplification : float
        How many times.
    examples : tuple of Example
        Images with the perturbation on, as the network sees them.
    """

    target: int = Field(ge=0)
    kind: Literal["dense", "patch", "warp", "wave"]
    lead: float = Field(ge=-1, le=1)
    image: Png
    amplification: float = Field(gt=0)
    examples: tuple[Example, ...] = ()
