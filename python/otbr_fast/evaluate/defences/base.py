"""What a defence is: what it tries, and the networks that come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import nn

from otbr_fast.errors import OtbrFastError
from otbr_fast.evaluate.images import LabeledImages
from otbr_fast.models import InputSpec
from otbr_fast.repair import Progress
from otbr_fast.repair.progress import silent

Setting = str | int | float | None


@dataclass(frozen=True)
class Trial:
    """A method with settings: one network comes of it.

    Parameters
    ----------
    method : str
        The method's name, as in the table.
    settings : mapping of str to str, int, float or None
        All that the outcome depends on beside the network and the data, the seed too.
    shown : str
        What tells it from the method's other trials, for the table.
    """

    method: str
    settings: Mapping[str, Setting]
    shown: str = ""


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Parameters
    ----------
    name : str
        Lower case, with hyphens.
    trials : tuple of Trial
        All that it tries. Of several, the best is chosen in hindsight, on test data.
    fixed : Trial, optional
        The trial that somebody without test data would take, if the method says which.
    uses_training_data : bool
        Whether it needs labelled images that the network was not attacked with.
    is_ablation : bool
        Whether it is ours with a stage left out, to be compared only when asked for.
    """

    name: str
    trials: tuple[Trial, ...]
    fixed: Trial | None = None
    uses_training_data: bool = False
    is_ablation: bool = False


@dataclass(frozen=True)
class Case:
    """A network to defend, and what there is to do it with.

    Parameters
    ----------
    model : nn.Module
        On the CPU, in eval mode; a defence leaves it as it is.
    inputs : InputSpec
        What it is fed.
    num_classes : int
        Its number of logits.
    training_images : callable, optional
        Reads labelled images for the methods that use them.
    device : str
        Where to compute.
    n_threads : int, optional
        CPU threads of the transport.
    progress : callable
        Told of stages.
    """

    model: nn.Module
    inputs: InputSpec
    num_classes: int
    training_images: Callable[[], LabeledImages] | None = None
    device: str = "cpu"
    n_threads: int | None = None
    progress: Progress = field(default=silent)


class Defence(Protocol):
    """Makes the networks of one method, or of several that share work."""

    @property
    def methods(self) -> tuple[Method, ...]:
        """The methods, with all that they try."""
        ...

    def repaired(
        self, case: Case, wanted: Sequence[Trial]
    ) -> Iterator[tuple[Trial, nn.Module | OtbrFastError]]:
        """Make the wanted trials' networks, one after the other, in any order.

        An error in place of a network tells why this trial has none; one that is raised stands
        for all trials that are left.
        """
        ...
