"""Networks that answer by a table, and defences that count what they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from otbr_fast.errors import OtbrFastError
from otbr_fast.evaluate import EvaluationSet, LabeledImages, PoisonedImages
from otbr_fast.evaluate.comparison_inputs import Contender, evaluation_hash
from otbr_fast.evaluate.defences import Case, Method, Trial
from otbr_fast.models import InputSpec

INPUTS = InputSpec(shape=(1, 1, 1))
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
N_IMAGES = 8


class Answers(nn.Module):
    """Answers image i, whose one pixel is i, with a class that was told beforehand."""

    def __init__(self, answers: Sequence[int]) -> None:
        super().__init__()
        self.table = nn.Parameter(nn.functional.one_hot(torch.tensor(answers), 4).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table[(x.flatten(1)[:, 0] * 255).round().long()]


def pixels(values: Sequence[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1)


def evaluation_images(target: int | None = 0) -> EvaluationSet:
    """Two clean images of each class; those of classes 1 to 3 again with the trigger."""
    clean = LabeledImages(pixels(range(N_IMAGES)), LABELS)
    originals = LABELS[2:]
    targets = torch.zeros_like(originals) if target is not None else (originals + 1) % 4
    triggered = PoisonedImages(pixels(range(N_IMAGES, 14)), originals, targets)
    return EvaluationSet(clean, triggered, target)


BACKDOORED = (*LABELS.tolist(), 0, 0, 0, 0, 0, 0)
MITIGATED = (*LABELS.tolist(), *LABELS[2:].tolist())
WITHOUT_TARGET = (1, 1, *LABELS[2:].tolist(), *LABELS[2:].tolist())


def contender(
    name: str = "net",
    answers: Sequence[int] = BACKDOORED,
    images: Callable[[], EvaluationSet] = evaluation_images,
) -> Contender:
    return Contender(name, Answers(answers), INPUTS, 4, evaluation_hash(images()), images)


@dataclass
class Fake:
    """A defence whose networks' answers are known; a trial's setting ``n`` says which."""

    answers: Sequence[Sequence[int] | BaseException]
    name: str = "fake"
    version: int = 0
    uses_training_data: bool = False
    is_fixed: bool = False
    asked: list[int] = field(default_factory=list)

    @property
    def methods(self) -> tuple[Method, ...]:
        trials = tuple(
            Trial(self.name, {"n": n, "version": self.version}, f"n {n}")
            for n in range(len(self.answers))
        )
        fixed = trials[0] if self.is_fixed else None
        return (Method(self.name, trials, fixed, self.uses_training_data),)

    def repaired(
        self, case: Case, wanted: Sequence[Trial]
    ) -> Iterator[tuple[Trial, nn.Module | OtbrFastError]]:
        for trial in wanted:
            n = trial.settings["n"]
            assert isinstance(n, int)
            self.asked.append(n)
            found = self.answers[n]
            if isinstance(found, OtbrFastError):
                yield trial, found
            elif isinstance(found, BaseException):
                raise found
            else:
                yield trial, Answers(found)
