"""Fine-tuning: learns from few images, repeatably, and leaves all else alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from otbr_fast.errors import EvaluationDataError, RepairError
from otbr_fast.evaluate import LabeledImages
from otbr_fast.evaluate.defences import Case, FineTuning
from otbr_fast.models import InputSpec

INPUTS = InputSpec(shape=(3, 12, 12), mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3))
QUICK = FineTuning(share=0.5, epochs=6, lrs=(0.01,), batch_size=16)


def bright_and_dark(n: int = 128) -> LabeledImages:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(n) % 2
    noise = torch.randint(0, 100, (n, *INPUTS.shape), generator=generator)
    return LabeledImages((noise + 150 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels)


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(8, 2),
        ).eval()


def case(images: LabeledImages | None = None) -> Case:
    data = bright_and_dark() if images is None else images
    return Case(network(), INPUTS, 2, training_images=lambda: data)


def tuned(defence: FineTuning, subject: Case) -> nn.Module:
    ((_, model),) = defence.repaired(subject, defence.methods[0].trials)
    assert isinstance(model, nn.Module)
    return model


def test_it_learns_the_classes() -> None:
    data = bright_and_dark()
    model = tuned(QUICK, case(data))
    with torch.no_grad():
        answers = model(INPUTS.normalize(data.images.float() / 255)).argmax(1)
    assert (answers == data.labels).double().mean() > 0.95
    assert not model.training


def test_it_repeats_itself_and_leaves_all_else_alone() -> None:
    subject = case()
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    state = torch.get_rng_state()
    one, other = (tuned(QUICK, subject).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], before[name]) for name in one)
    assert all(torch.equal(t, before[name]) for name, t in subject.model.state_dict().items())
    other_seed = tuned(dataclasses.replace(QUICK, seed=1), subject).state_dict()
    assert any(not torch.equal(one[name], other_seed[name]) for name in one)


def test_only_a_share_of_the_images_is_used() -> None:
    """The other labels would be refused: none of them is drawn."""
    images = torch.zeros((100, *INPUTS.shape), dtype=torch.uint8)
    seen: list[tuple[str, int, int]] = []
    subject = dataclasses.replace(
        case(LabeledImages(images, torch.arange(100) % 2)),
        progress=lambda *facts: seen.append(facts),
    )
    tuned(FineTuning(share=0.3, epochs=2, lrs=(0.01,), batch_size=10), subject)
    assert seen == [("fine-tuning", done, 6) for done in range(1, 7)]


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        (Case(network(), INPUTS, 2), "needs labelled training images"),
        (case(bright_and_dark(2)), "give more"),
        (
            case(
                LabeledImages(torch.zeros((64, 3, 9, 9), dtype=torch.uint8), torch.arange(64) % 2)
            ),
            r"\(3, 9, 9\).*expects \(3, 12, 12\)",
        ),
        (
            case(LabeledImages(torch.zeros((64, 3, 12, 12), dtype=torch.uint8), torch.arange(64))),
            "2 classes",
        ),
    ],
)
def test_images_that_do_not_serve_are_refused(subject: Case, told: str) -> None:
    with pytest.raises(EvaluationDataError, match=told):
        tuned(QUICK, subject)


def test_each_learning_rate_is_a_trial_that_depends_on_no_other() -> None:
    both = dataclasses.replace(QUICK, lrs=(0.01, 0.05))
    subject = case()
    made = dict(enumerate(model for _, model in both.repaired(subject, both.methods[0].trials)))
    alone = tuned(dataclasses.replace(QUICK, lrs=(0.05,)), subject)
    assert isinstance(made[0], nn.Module)
    assert isinstance(made[1], nn.Module)
    one, other, same = (m.state_dict() for m in (made[0], made[1], alone))
    assert all(torch.equal(other[name], same[name]) for name in same)
    assert any(not torch.equal(one[name], same[name]) for name in same)


def test_divergence_is_told_for_the_trial_that_diverges() -> None:
    wild = dataclasses.replace(QUICK, lrs=(0.01, 1e30))
    (_, fine), (_, broken) = wild.repaired(case(), wild.methods[0].trials)
    assert isinstance(fine, nn.Module)
    assert isinstance(broken, RepairError)
    assert "diverged" in str(broken)
