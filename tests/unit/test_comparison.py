"""Comparing: nothing is computed twice, and nothing that was computed is lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison_helpers import BACKDOORED, MITIGATED, Answers, Fake, contender, evaluation_images

from otbr_fast import versions
from otbr_fast.errors import EvaluationDataError, OtbrFastError, RepairError, UnsupportedModelError
from otbr_fast.evaluate import EvaluationSet, LabeledImages
from otbr_fast.evaluate.comparison import BEFORE, Comparison
from otbr_fast.evaluate.comparison_inputs import Contender, TrainingData, evaluation_hash
from otbr_fast.evaluate.comparison_store import Store

TRAINING = TrainingData(
    "some", lambda: LabeledImages(torch.zeros(1, 1, 1, 1).byte(), torch.zeros(1).long())
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "outcomes")


def compared(
    store: Store, *defences: Fake, nets: list[Contender] | None = None, **more: Any
) -> Comparison:
    comparison = Comparison([contender()] if nets is None else nets, defences, store, **more)
    comparison.run()
    return comparison


def asr(comparison: Comparison) -> dict[tuple[str, str], list[float | None]]:
    return {
        (s.network, s.method.name): [o.metrics.asr if o.metrics else None for _, o in s.outcomes]
        for s in comparison.standings()
    }


def test_each_network_is_measured_before_and_after_each_trial(store: Store) -> None:
    fake = Fake([BACKDOORED, MITIGATED])
    nets = [contender("a"), contender("b", MITIGATED)]
    assert asr(compared(store, fake, nets=nets)) == {
        ("a", BEFORE): [1],
        ("a", "fake"): [1, 0],
        ("b", BEFORE): [0],
        ("b", "fake"): [1, 0],
    }


def test_a_second_run_computes_nothing(store: Store) -> None:
    def unread() -> EvaluationSet:
        raise AssertionError("the images are not needed again")

    fake = Fake([BACKDOORED, MITIGATED])
    first = asr(compared(store, fake))
    again = Fake([BACKDOORED, MITIGATED])
    same_net = dataclasses.replace(contender(), read_test=unread)
    assert asr(compared(store, again, nets=[same_net])) == first
    assert again.asked == []


def test_what_is_new_is_computed_and_nothing_else(store: Store) -> None:
    compared(store, Fake([BACKDOORED, MITIGATED]))
    more = Fake([BACKDOORED, MITIGATED, MITIGATED])
    other = Fake([MITIGATED], name="other")
    compared(store, more, other)
    assert (more.asked, other.asked) == ([2], [0])


@pytest.mark.parametrize(
    "what", ["code", "settings", "weights", "inputs", "images", "target", "threads"]
)
def test_what_an_outcome_depends_on_makes_another_one(
    store: Store, what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fewer() -> EvaluationSet:
        images = evaluation_images()
        assert images.clean is not None
        labels = images.clean.labels.clone()
        labels[0] = 1
        return dataclasses.replace(images, clean=LabeledImages(images.clean.images, labels))

    def elsewhere() -> EvaluationSet:
        return dataclasses.replace(evaluation_images(), target=1)

    compared(store, Fake([MITIGATED]))
    again = Fake([MITIGATED], version=1 if what == "settings" else 0)
    net = contender()
    if what == "code":
        monkeypatch.setattr(versions, "_FOLDER", tmp_path)
    if what == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    if what == "weights":
        net = contender(answers=MITIGATED)
    if what == "inputs":
        net = dataclasses.replace(net, inputs=net.inputs.model_copy(update={"high": 1.001}))
    if what in ("images", "target"):
        net = contender(images=fewer if what == "images" else elsewhere)
    compared(store, again, nets=[net])
    assert again.asked == [0]


def test_the_networks_name_is_nothing_that_an_outcome_depends_on(store: Store) -> None:
    compared(store, Fake([MITIGATED]))
    again = Fake([MITIGATED])
    assert asr(compared(store, again, nets=[contender("b"), contender("c")])) == {
        (name, method): [value] for name in "bc" for method, value in ((BEFORE, 1), ("fake", 0))
    }
    assert again.asked == []


def test_training_data_counts_for_the_methods_that_use_it(store: Store) -> None:
    def defences() -> tuple[Fake, Fake]:
        return Fake([MITIGATED], name="blind"), Fake(
            [MITIGATED], name="tuned", uses_training_data=True
        )

    without = defences()
    assert ("net", "tuned") not in asr(compared(store, *without))
    with_some, with_other = defences(), defences()
    compared(store, *with_some, training=TRAINING)
    compared(store, *with_other, training=dataclasses.replace(TRAINING, hash="other"))
    asked = [[defence.asked for defence in run] for run in (without, with_some, with_other)]
    assert asked == [[[0], []], [[], [0]], [[], [0]]]


def test_only_the_methods_asked_for(store: Store) -> None:
    one, other = Fake([MITIGATED], name="one"), Fake([MITIGATED], name="other")
    found = asr(compared(store, one, other, methods=["other"]))
    assert list(found) == [("net", BEFORE), ("net", "other")]
    assert one.asked == []


def test_an_interrupted_run_keeps_what_was_done(store: Store) -> None:
    interrupted = Fake([BACKDOORED, MITIGATED, KeyboardInterrupt(), MITIGATED])
    comparison = Comparison([contender()], [interrupted], store)
    with pytest.raises(KeyboardInterrupt):
        comparison.run()
    assert asr(comparison) == {("net", BEFORE): [1], ("net", "fake"): [1, 0]}
    again = Fake([BACKDOORED, MITIGATED, MITIGATED, MITIGATED])
    assert asr(compared(store, again))["net", "fake"] == [1, 0, 0, 0]
    assert again.asked == [2, 3]


def test_each_outcome_is_told_as_soon_as_it_is_there(store: Store) -> None:
    comparison = Comparison([contender()], [Fake([BACKDOORED, MITIGATED])], store)
    kept: list[int] = []
    told: list[tuple[int, int]] = []
    comparison.run(
        keep=lambda: kept.append(len(list(store.folder.glob("*.json")))),
        progress=lambda stage, done, total: (
            told.append((done, total)) if stage == "trials" else None
        ),
    )
    assert kept == [1, 2, 3]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_refusal_is_an_outcome_and_others_go_on(store: Store) -> None:
    fake = Fake([MITIGATED, RepairError("too much"), MITIGATED])
    comparison = compared(store, fake, Fake([MITIGATED], name="next"))
    assert asr(comparison) == {
        ("net", BEFORE): [1],
        ("net", "fake"): [0, None, 0],
        ("net", "next"): [0],
    }
    errors = [o.error for _, o in comparison.standings()[1].outcomes]
    assert errors == [None, "too much", None]
    again = Fake([MITIGATED, RepairError("too much"), MITIGATED])
    compared(store, again)
    assert again.asked == []


def test_a_method_that_refuses_the_network_is_told_for_all_its_trials(store: Store) -> None:
    class Refusing(Fake):
        def repaired(self, case: Any, wanted: Any) -> Any:
            yield from super().repaired(case, wanted[:1])
            raise UnsupportedModelError("not this network")

    comparison = compared(store, Refusing([MITIGATED] * 3), Fake([MITIGATED], name="next"))
    outcomes = [outcome for _, outcome in comparison.standings()[1].outcomes]
    assert [outcome.error for outcome in outcomes] == [None, *["not this network"] * 2]
    assert asr(comparison)["net", "next"] == [0]


def test_a_repaired_network_that_answers_nan_has_no_metrics(store: Store) -> None:
    class Broken(Fake):
        def repaired(self, case: Any, wanted: Any) -> Any:
            model = Answers(MITIGATED)
            model.table.data.fill_(torch.nan)
            yield wanted[0], model

    comparison = compared(store, Broken([MITIGATED]))
    ((_, outcome),) = comparison.standings()[1].outcomes
    assert outcome.metrics is None
    assert "NaN" in str(outcome.error)


def test_images_that_do_not_fit_are_the_users_fault_and_not_an_outcome(store: Store) -> None:
    images = LabeledImages(torch.zeros((2, 1, 2, 2), dtype=torch.uint8), torch.zeros(2).long())
    with pytest.raises(EvaluationDataError, match="expects"):
        compared(store, nets=[contender(images=lambda: EvaluationSet(images))])
    assert not store.folder.exists()


def test_two_networks_of_one_name(store: Store) -> None:
    with pytest.raises(OtbrFastError, match="two networks are called 'net'"):
        compared(store, nets=[contender(), contender(answers=MITIGATED)])


def test_a_damaged_outcome_is_told(store: Store) -> None:
    compared(store)
    (path,) = store.folder.iterdir()
    path.write_text(path.read_text()[:-20])
    with pytest.raises(OtbrFastError, match=r"before-.*damaged.*delete it"):
        compared(store)


def test_a_defence_that_forgets_a_trial_is_found_out(store: Store) -> None:
    class Forgetful(Fake):
        def repaired(self, case: Any, wanted: Any) -> Any:
            return super().repaired(case, wanted[:-1])

    with pytest.raises(RuntimeError, match="Forgetful made nothing"):
        compared(store, Forgetful([MITIGATED, MITIGATED]))


def test_the_hash_of_what_is_measured_on_tells_all_parts_apart() -> None:
    images = evaluation_images()
    assert images.poisoned is not None
    others = [
        images,
        dataclasses.replace(images, clean=None),
        dataclasses.replace(images, poisoned=None),
        dataclasses.replace(images, target=None),
        dataclasses.replace(
            images,
            poisoned=dataclasses.replace(
                images.poisoned, target_labels=images.poisoned.target_labels + 1
            ),
        ),
    ]
    assert len({evaluation_hash(other) for other in others}) == len(others)
    assert evaluation_hash(evaluation_images()) == evaluation_hash(images)
