"""What is known about a model beside its weights: a JSON file of the same name."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from otbr_fast.errors import CheckpointError
from otbr_fast.io.faults import faults
from otbr_fast.models import InputSpec


class AttackDescription(BaseModel):
    """The attack on a model, where it is known.

    Parameters
    ----------
    name : str, optional
        The attack, as in ``badnet``.
    target : int, optional
        The class that the trigger leads to; ``None`` where it depends on the image.
    label_mode : str, optional
        ``all2one`` or ``all2all``, as BackdoorBench names them.
    poison_ratio : float, optional
        The poisoned part of the training set.
    trigger : str, optional
        In words: how the trigger is applied.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    name: str | None = None
    target: int | None = Field(default=None, ge=0, lt=2**31)
    label_mode: str | None = None
    poison_ratio: float | None = None
    trigger: str | None = None


class ModelDescription(BaseModel):
    """Architecture, classes and input of a model; keys that are not known are left aside.

    Parameters
    ----------
    model_name : str, optional
        One of `otbr_fast.models.SUPPORTED_MODELS`.
    num_classes : int, optional
        Number of logits.
    class_names : tuple of str, optional
        One for each logit, in order; reports name the classes by them.
    dataset : str, optional
        What the model was trained on.
    input_shape : (int, int, int)
        Channels, height and width.
    input_range : (float, float)
        Of a raw input, before normalisation.
    mean, std : tuple of float, optional
        Normalisation, one value a channel; ``None`` means none.
    attack : AttackDescription, optional
        ``None`` where no attack is known, which is not a claim that there is none.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, protected_namespaces=()
    )

    model_name: str | None = None
    num_classes: int | None = Field(default=None, ge=1)
    class_names: tuple[str, ...] | None = None
    dataset: str | None = None
    input_shape: tuple[int, int, int]
    input_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    attack: AttackDescription | None = None

    @model_validator(mode="after")
    def _check(self) -> ModelDescription:
        self.input_spec()
        names = self.class_names
        if names is not None and self.num_classes not in (None, len(names)):
            raise ValueError(f"{len(names)} class_names for {self.num_classes} classes")
        return self

    def input_spec(self) -> InputSpec:
        """Return what the model expects to be fed."""
        low, high = self.input_range
        return InputSpec(shape=self.input_shape, low=low, high=high, mean=self.mean, std=self.std)


def read_description(path: str | os.PathLike[str]) -> ModelDescription:
    """Read a JSON file; a `CheckpointError` names the keys that are missing or wrong."""
    try:
        return ModelDescription.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise CheckpointError(f"the description {path} cannot be read: {error}.") from error
    except ValidationError as error:
        raise CheckpointError(
            f"{path} is not a description of a model ({faults(error)}); correct it or move it away."
        ) from error
