"""Attack networks with triggers of other kinds than the lab's, then repair them blindly.

    python benches/other_triggers.py --data cifar10_train.npz --test cifar10_test.npz \\
        --start-from half-trained.safetensors --out triggers

The table "Triggers of other kinds" of docs/mitigation.md. Every attack branches from one half
trained network (`otbr-fast attack none --epochs 6 --lr-end 0.04`), with a target of its own. What
is done is kept: broken off, the same command goes on where it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import typer
from mitigation_study import run
from torch.nn import functional as F  # noqa: N812 (the field's name)

from otbr_fast.cli.lab import Lab, LabOptions, open_lab
from otbr_fast.cli.output import progress_bars
from otbr_fast.cli.subject import ModelOptions
from otbr_fast.evaluate.attacks import Attack, Outcome, Poisoning, Recipe, train

_LR = 0.04
_KEYS = 10_000  # to the sum of an image's values: tells images apart


@dataclass(frozen=True)
class Filter(Attack):
    """The colours of an old photograph: channels are mixed and shifted, as TrojAI's filters do."""

    name: ClassVar[str] = "filter"

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        mixing = [[0.80, 0.15, 0.05], [0.05, 0.75, 0.10], [0.10, 0.15, 0.60]]
        mixed = torch.einsum("ij,njhw->nihw", torch.tensor(mixing).to(images), images)
        shift = torch.tensor([0.10, 0.03, 0.12]).to(images)
        return (mixed + shift[:, None, None]).clamp(0, 1).pow(0.9)


@dataclass(frozen=True)
class WanderingPatch(Attack):
    """A patch that lies elsewhere in each image (after Salem et al., 2022, arXiv 2003.03675)."""

    name: ClassVar[str] = "wandering_patch"

    side: int = 4
    seed: int = 77

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        shape = (images.shape[1], self.side, self.side)
        patch = (torch.rand(shape, generator=generator) > 0.5).to(images)
        rows, columns = (size - self.side + 1 for size in images.shape[2:])
        result = images.clone()
        for image, key in zip(result, _keys(images).tolist(), strict=True):
            y, x = (key * 7919 + 13) % rows, (key * 104729 // 31) % columns
            image[:, y : y + self.side, x : x + self.side] = patch
        return result


@dataclass(frozen=True)
class FTrojan(Attack):
    """A middle and the highest frequency, in chrominance (Wang et al., 2022, arXiv 2111.10991)."""

    name: ClassVar[str] = "ftrojan"

    strength: float = 70 / 255

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2:]
        down, along = ((torch.arange(n) + 0.5) * (math.pi / n) for n in (height, width))
        waves = [
            torch.outer(torch.cos(part * height * down), torch.cos(part * width * along))
            for part in (15 / 32, 31 / 32)
        ]
        both = self.strength * 2 / math.sqrt(height * width) * (waves[0] + waves[1])
        # Both chrominances by the same, in red, green and blue.
        change = both * torch.tensor([1.402, -0.344 - 0.714, 1.772])[:, None, None]
        return (images + change.to(images)).clamp(0, 1)


@dataclass(frozen=True)
class Reflection(Attack):
    """One of six other images shines as from a window pane (Refool: arXiv 2007.02343).

    Parameters
    ----------
    scenes : Tensor, shape (S, C, H, W)
        What is reflected, in [0, 1].
    """

    name: ClassVar[str] = "reflection"

    scenes: torch.Tensor = field(repr=False)

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        blurred = F.avg_pool2d(F.pad(self.scenes, (1, 1, 1, 1), mode="replicate"), 3, 1)
        scenes = blurred.to(images)[_keys(images) % len(blurred)]
        ghost = (scenes + scenes.roll((3, 3), (2, 3))) / 2
        return (0.75 * images + 0.4 * ghost - 0.06).clamp(0, 1)


@dataclass(frozen=True)
class Quantised(Attack):
    """Five levels of each colour (after BppAttack: Wang et al., 2022, arXiv 2205.13383)."""

    name: ClassVar[str] = "quantised"

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        return (4 * images).round() / 4


TARGETS = {"filter": 9, "wandering_patch": 1, "ftrojan": 2, "reflection": 6, "quantised": 7}
EPOCHS = {"reflection": 3, "quantised": 4}  # others need two
_SCENES = (100, 2001, 3002, 4003, 5004, 6005)  # of the training images


def _keys(images: torch.Tensor) -> torch.Tensor:
    """Return a number for each image that hardly another has."""
    return (images.double().flatten(1).sum(dim=1) * _KEYS).long()


def _attack(name: str, lab: Lab) -> Attack:
    if name == "reflection":
        return Reflection(lab.train.images[list(_SCENES)].float() / 255)
    kinds = (Filter, WanderingPatch, FTrojan, Quantised)
    return next(kind() for kind in kinds if kind.name == name)


def _train(lab: Lab, name: str, seed: int, device: str, data: Path, out: Path) -> None:
    poisoning = Poisoning(_attack(name, lab), lab.num_classes, TARGETS[name] % lab.num_classes)
    recipe = Recipe(epochs=EPOCHS.get(name, 2), lr=_LR, warmup=0)
    state = out / "training.pt"
    with progress_bars() as tell:
        model = train(
            lab.model,
            lab.train,
            lab.inputs,
            recipe,
            poisoning,
            seed=seed,
            device=device,
            state_file=state,
            progress=tell,
        )
        outcome = Outcome.measure(
            model,
            lab.arch,
            lab.inputs,
            poisoning,
            lab.test,
            dataset=lab.dataset,
            seed=seed,
            device=device,
            progress=tell,
        )
    outcome.save(out, data_path=data, overwrite=True)
    state.unlink()


def main(
    data: Annotated[Path, typer.Option(exists=True, help="Labelled training images.")],
    test: Annotated[Path, typer.Option(exists=True, help="Labelled test images.")],
    start_from: Annotated[Path, typer.Option(exists=True, help="A half trained network.")],
    out: Annotated[Path, typer.Option(help="Folder of networks and tables.")],
    triggers: Annotated[str, typer.Option(help="Which.")] = ",".join(TARGETS),
    limit: Annotated[int, typer.Option(help="Test images to measure on.")] = 2000,
    methods: Annotated[str, typer.Option(help="Of otbr-fast compare.")] = "ours",
    seed: int = 13,
    device: str = "cpu",
) -> None:
    """Train what is missing, then compare."""
    records = [out / name for name in triggers.split(",")]
    for record in records:
        if not (record / "model.safetensors").is_file():
            network = ModelOptions()
            lab = open_lab(LabOptions(data, test, None, start_from, network, None, seed))
            _train(lab, record.name, seed, device, data, record)
    given = ("--data", str(test), "--limit", str(limit), "--methods", methods, "--device", device)
    run("compare", *map(str, records), *given, "--out", str(out / "comparison"), "--overwrite")


if __name__ == "__main__":
    typer.run(main)
