"""What an attack leaves: its network, its record, and what is known about them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from otbr_fast.evaluate.attacks.base import LearnedAttack
from otbr_fast.evaluate.attacks.poisoning import Poisoning
from otbr_fast.evaluate.evaluation_set import EvaluationSet, PoisonedImages
from otbr_fast.evaluate.images import LabeledImages
from otbr_fast.evaluate.metrics import Metrics, evaluate
from otbr_fast.io import (
    AttackDescription,
    ModelDescription,
    attack_record_paths,
    check_absent,
    remove_attack_record,
    save_attack_record,
    save_safetensors,
    write_file,
)
from otbr_fast.io.checkpoint import RECORD_DESCRIPTION
from otbr_fast.models import InputSpec, num_classes
from otbr_fast.repair.progress import Progress

MODEL, NETWORKS = "model.safetensors", "attack_networks.safetensors"


@dataclass(frozen=True)
class Outcome:
    """A trained network, measured.

    Parameters
    ----------
    model : nn.Module
        In eval mode, on the CPU.
    model_name : str
        Its architecture.
    inputs : InputSpec
        What it is fed.
    dataset : str
        What it was trained on.
    seed : int
        Of the training.
    poisoning : Poisoning or None
        The attack, if it was attacked.
    metrics : Metrics
        On the test images.
    poisoned : PoisonedImages or None
        The test images with the trigger.
    indices : Tensor or None
        Where they stand among the test images.
    n_test : int
        Number of test images.
    """

    model: nn.Module
    model_name: str
    inputs: InputSpec
    dataset: str
    seed: int
    poisoning: Poisoning | None
    metrics: Metrics
    poisoned: PoisonedImages | None
    indices: torch.Tensor | None
    n_test: int

    @classmethod
    def measure(
        cls,
        model: nn.Module,
        model_name: str,
        inputs: InputSpec,
        poisoning: Poisoning | None,
        test: LabeledImages,
        *,
        dataset: str,
        seed: int,
        device: str | torch.device = "cpu",
        progress: Progress | None = None,
    ) -> Outcome:
        """Measure a network on test images, and on these with the attack's trigger."""
        poisoned = indices = target = None
        if poisoning is not None:
            poisoned, indices = poisoning.poison(test)
            target = _target(poisoning)
        images = EvaluationSet(test, poisoned, target)
        metrics = evaluate(model, images, inputs, device=device, progress=progress)
        return cls(
            model,
            model_name,
            inputs,
            dataset,
            seed,
            poisoning,
            metrics,
            poisoned,
            indices,
            len(test),
        )

    def description(self) -> dict[str, object]:
        """Return the description that `otbr_fast.io.read_description` reads, and the metrics."""
        attack = None
        if self.poisoning is not None:
            attack = AttackDescription(
                name=self.poisoning.attack.name,
                target=_target(self.poisoning),
                label_mode=self.poisoning.label_mode,
                poison_ratio=self.poisoning.poison_ratio,
                trigger=repr(self.poisoning.attack),
            )
        described = ModelDescription(
            model_name=self.model_name,
            num_classes=num_classes(self.model),
            dataset=self.dataset,
            input_shape=self.inputs.shape,
            input_range=(self.inputs.low, self.inputs.high),
            mean=self.inputs.mean,
            std=self.inputs.std,
            attack=attack,
        )
        return {
            **described.model_dump(mode="json"),
            "seed": self.seed,
            "test_accuracy": self.metrics.acc,
            "attack_success_rate": self.metrics.asr,
            "robust_accuracy": self.metrics.ra,
            "target_class_recall": self.metrics.tcr,
        }

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        data_path: str | os.PathLike[str] = "",
        overwrite: bool = False,
    ) -> None:
        """Write ``model.safetensors`` with its description and, of an attack, a record.

        The networks of a `LearnedAttack` are kept too, in ``attack_networks.safetensors``.

        Parameters
        ----------
        folder : path-like
            For all of it; made if it is not there.
        data_path : path-like
            Where the data came from, as the record tells it.
        overwrite : bool
            Replace the outcome that is there; what this one has no part for is removed.

        Raises
        ------
        OutputExistsError
            Something would be overwritten and `overwrite` is false; nothing is written.
        """
        folder = Path(folder)
        check_absent(outcome_paths(folder), overwrite)
        save_safetensors(self.model.state_dict(), folder / MODEL, overwrite=overwrite)
        with write_file(folder / RECORD_DESCRIPTION, overwrite) as draft:
            draft.write_text(json.dumps(self.description(), indent=2, allow_nan=False) + "\n")
        attack = self.poisoning.attack if self.poisoning else None
        if isinstance(attack, LearnedAttack):
            networks = attack.networks.state_dict()
            save_safetensors(networks, folder / NETWORKS, overwrite=overwrite)
        else:
            (folder / NETWORKS).unlink(missing_ok=True)  # of the outcome that was here before
        if self.poisoned is not None and self.indices is not None:
            self._save_record(folder, self.poisoned, self.indices, data_path, overwrite)
        else:
            remove_attack_record(folder)

    def _save_record(
        self,
        folder: Path,
        poisoned: PoisonedImages,
        indices: torch.Tensor,
        data_path: str | os.PathLike[str],
        overwrite: bool,
    ) -> None:
        save_attack_record(
            folder,
            model_name=self.model_name,
            num_classes=num_classes(self.model),
            state_dict=self.model.state_dict(),
            dataset=self.dataset,
            data_path=os.fspath(data_path),
            images=poisoned.images,
            original_labels=poisoned.original_labels,
            target_labels=poisoned.target_labels,
            indices=indices,
            n_test=self.n_test,
            overwrite=overwrite,
        )


def outcome_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """Return all that `Outcome.save` may write into a folder."""
    folder = Path(folder)
    names = (MODEL, RECORD_DESCRIPTION, NETWORKS)
    return [*(folder / name for name in names), *attack_record_paths(folder)]


def _target(poisoning: Poisoning) -> int | None:
    return poisoning.target if poisoning.label_mode == "all2one" else None
