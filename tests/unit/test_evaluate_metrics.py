from __future__ import annotations

import pytest
import torch
from torch import nn

from otbr_fast.errors import EvaluationDataError
from otbr_fast.evaluate import (
    EvaluationSet,
    LabeledImages,
    Metrics,
    PoisonedImages,
    der,
    evaluate,
    hder,
)
from otbr_fast.models import InputSpec

INPUTS = InputSpec(shape=(1, 1, 1))


class Reader(nn.Module):
    """Answers with the class nearest to the pixel, in the model's own units."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values))
        self.dropout = nn.Dropout(0.99)  # ruins the answers unless the model is in eval mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answers: torch.Tensor = self.dropout(10 - (x.flatten(1) - self.values).abs())
        return answers


def images(pixels: list[int]) -> torch.Tensor:
    return torch.tensor(pixels, dtype=torch.uint8).view(-1, 1, 1, 1)


@pytest.fixture
def evaluation_set() -> EvaluationSet:
    """Of clean images, 4 in 5 are what `Reader([0, 0.2, 0.4])` says, of class 0 1 in 2.

    Of 4 poisoned images, it gives 2 the attacker's class 0, and 1 its own.
    """
    clean = LabeledImages(images([0, 51, 51, 102, 102]), torch.tensor([0, 0, 1, 2, 2]))
    poisoned = PoisonedImages(
        images([0, 0, 51, 102]), torch.tensor([1, 2, 1, 1]), torch.tensor([0, 0, 0, 0])
    )
    return EvaluationSet(clean, poisoned, target=0)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_metrics_by_hand(evaluation_set: EvaluationSet, batch_size: int) -> None:
    metrics = evaluate(Reader([0, 0.2, 0.4]), evaluation_set, INPUTS, batch_size=batch_size)
    assert metrics == Metrics(acc=4 / 5, asr=2 / 4, ra=1 / 4, tcr=1 / 2, recalls=(1 / 2, 1, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_any_precision_is_measured(
    dtype: torch.dtype, evaluation_set: EvaluationSet
) -> None:
    model = Reader([0, 0.25, 0.5]).to(dtype)
    assert evaluate(model, evaluation_set, INPUTS).acc == 4 / 5
    assert model.values.dtype == dtype


def test_each_poisoned_image_has_its_own_target() -> None:
    poisoned = PoisonedImages(images([0, 51]), torch.tensor([2, 2]), torch.tensor([0, 1]))
    metrics = evaluate(Reader([0, 0.2, 0.4]), EvaluationSet(poisoned=poisoned), INPUTS)
    assert metrics == Metrics(asr=1, ra=0)


def test_what_was_not_given_is_unknown(evaluation_set: EvaluationSet) -> None:
    model = Reader([0, 0.2, 0.4])
    only_clean = EvaluationSet(clean=evaluation_set.clean)
    assert evaluate(model, only_clean, INPUTS) == Metrics(acc=0.8, recalls=(0.5, 1, 1))
    assert evaluate(model, EvaluationSet(), INPUTS) == Metrics()
    no_such_images = EvaluationSet(LabeledImages(images([0]), torch.tensor([0])), target=2)
    assert evaluate(model, no_such_images, INPUTS) == Metrics(acc=1, recalls=(1, None, None))


def test_images_are_brought_into_the_models_range_and_normalised() -> None:
    """Pixels 0, 51, 102 are 0, 0.2, 0.4; in [-1, 1] -1, -0.6, -0.2; normalised -6, -5.2, -4.4."""
    inputs = InputSpec(shape=(1, 1, 1), low=-1, high=1, mean=(2.0,), std=(0.5,))
    clean = LabeledImages(images([0, 51, 102]), torch.tensor([0, 1, 2]))
    assert evaluate(Reader([-6, -5.2, -4.4]), EvaluationSet(clean), inputs).acc == 1


def test_float_images_are_taken_as_they_are() -> None:
    poisoned = PoisonedImages(
        torch.tensor([0, 0.2, 0.4]).view(3, 1, 1, 1), torch.tensor([1, 2, 0]), torch.arange(3)
    )
    assert evaluate(Reader([0, 0.2, 0.4]), EvaluationSet(poisoned=poisoned), INPUTS).asr == 1


def test_the_model_is_left_as_it_is(evaluation_set: EvaluationSet) -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(1), nn.Linear(1, 3))
    model.train()
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    evaluate(model, evaluation_set, INPUTS)
    assert [module.training for module in model] == [True, False, True]
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_progress_counts_all_images(evaluation_set: EvaluationSet) -> None:
    seen: list[tuple[str, int, int]] = []
    evaluate(
        Reader([0, 0.2, 0.4]),
        evaluation_set,
        INPUTS,
        batch_size=2,
        progress=lambda *facts: seen.append(facts),
    )
    assert seen == [("evaluate", done, 9) for done in (2, 4, 5, 7, 9)]


def test_images_that_do_not_fit_the_model(evaluation_set: EvaluationSet) -> None:
    with pytest.raises(EvaluationDataError, match=r"\(1, 1, 1\).*expects \(1, 2, 2\)"):
        evaluate(Reader([0.0, 1, 2]), evaluation_set, InputSpec(shape=(1, 2, 2)))


def test_labels_that_the_model_does_not_know(evaluation_set: EvaluationSet) -> None:
    with pytest.raises(EvaluationDataError, match=r"label 2.*2 classes"):
        evaluate(Reader([0, 0.2]), evaluation_set, INPUTS)


@pytest.mark.parametrize("target", [-1, 3, 99])
def test_a_target_that_the_model_does_not_know(evaluation_set: EvaluationSet, target: int) -> None:
    """No image is ever taken for such a class: an ASR of 0 would be no merit."""
    model = Reader([0, 0.2, 0.4])
    told = rf"target class {target}\b.*3 classes"
    with pytest.raises(EvaluationDataError, match=told):
        evaluate(model, EvaluationSet(evaluation_set.clean, target=target), INPUTS)
    poisoned = PoisonedImages(images([0, 51]), torch.tensor([1, 2]), torch.tensor([0, target]))
    with pytest.raises(EvaluationDataError, match=told):
        evaluate(model, EvaluationSet(poisoned=poisoned), INPUTS)


def test_an_original_label_that_the_model_does_not_know() -> None:
    poisoned = PoisonedImages(images([0, 51]), torch.tensor([1, 8]), torch.tensor([0, 0]))
    with pytest.raises(EvaluationDataError, match=r"label 8.*3 classes"):
        evaluate(Reader([0, 0.2, 0.4]), EvaluationSet(poisoned=poisoned), INPUTS)


def test_a_model_that_answers_nan_has_no_metrics(evaluation_set: EvaluationSet) -> None:
    with pytest.raises(EvaluationDataError, match="NaN"):
        evaluate(Reader([0, torch.nan, 0.4]), evaluation_set, INPUTS)


@pytest.mark.parametrize(
    ("after", "expected_der", "expected_hder"),
    [
        (Metrics(acc=0.9, asr=1.0, tcr=0.8), 0.5, 0.5),  # nothing done
        (Metrics(acc=0.9, asr=0.0, tcr=0.8), 1.0, 1.0),  # ideal
        (Metrics(acc=0.8, asr=0.2, tcr=0.8), 0.85, 0.85),
        (Metrics(acc=0.85, asr=0.0, tcr=0.0), 0.975, 0.6),  # the target class is forgotten
        (Metrics(acc=0.95, asr=1.0, tcr=0.9), 0.5, 0.5),  # a gain is no merit of the defence
        (Metrics(acc=0.9, asr=0.0), 1.0, None),
        (Metrics(acc=0.9), None, None),
    ],
)
def test_rates_of_defences(
    after: Metrics, expected_der: float | None, expected_hder: float | None
) -> None:
    before = Metrics(acc=0.9, asr=1.0, tcr=0.8)
    assert der(before, after) == pytest.approx(expected_der)
    assert hder(before, after) == pytest.approx(expected_hder)


ALL_TO_ALL = Metrics(acc=0.8, asr=1.0, recalls=(0.8, 0.8, 0.8, 0.8))


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (Metrics(acc=0.8, asr=1.0, recalls=(0.8, 0.8, 0.8, 0.8)), 0.5),
        (Metrics(acc=0.8, asr=0.0, recalls=(0.8, 0.8, 0.8, 0.8)), 1.0),
        (Metrics(acc=0.6, asr=0.0, recalls=(0.8, 0.8, 0.8, 0.0)), 0.9),
        (Metrics(acc=0.8, asr=0.0, recalls=(0.6, 1.0, 0.6, 1.0)), 0.95),  # a gain hides no loss
        (Metrics(acc=0.7, asr=0.0, recalls=(0.8, 0.8, 0.8, 0.8)), 0.95),
        (Metrics(acc=0.8, asr=0.0, recalls=(0.8, 0.8, 0.8, None)), None),
        (Metrics(acc=0.8, asr=0.0), None),
    ],
)
def test_without_a_single_target_all_classes_recalls_count(
    after: Metrics, expected: float | None
) -> None:
    assert hder(ALL_TO_ALL, after) == pytest.approx(expected)


def test_an_unseen_target_class_is_no_all_to_all_attack() -> None:
    """The target's recall is not known, so neither is the harm: other classes do not stand in."""
    seen = Metrics(acc=0.8, asr=1.0, recalls=(0.8, None))
    assert hder(seen, seen) is None
