"""OTBR as a peer: one unlearning serves all, and a refused γ takes no other with it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.evaluate.defences import Case, Sweep, Trial, all_defences
from otbr_fast.models import InputSpec, PreActResNet
from otbr_fast.repair import (
    PUBLISHED_GAMMAS,
    RepairConfig,
    SpaceStages,
    pipeline,
    random_unlearn,
    repair,
    select_pruned,
)

PUBLISHED = Sweep("paper", mode="paper", lambdas=(0.5,), pruned="nwc-pruning")


@pytest.fixture
def case() -> Case:
    """100 neurons and more, so that each published γ is at least one of them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PreActResNet((1, 1), (24, 24, 24), in_channels=3, num_classes=4).eval()
    return Case(model, InputSpec(shape=(3, 4, 4)), 4)


@pytest.fixture
def unlearnings(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []

    def counted(*arguments: Any, **options: Any) -> nn.Module:
        seen.append(arguments[3])
        return random_unlearn(*arguments, **options)

    monkeypatch.setattr(pipeline, "random_unlearn", counted)
    return seen


def trials(sweep: Sweep) -> list[Trial]:
    return [trial for method in sweep.methods for trial in method.trials]


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_pruning_and_fusion_share_one_unlearning(case: Case, unlearnings: list[Any]) -> None:
    made = list(PUBLISHED.repaired(case, trials(PUBLISHED)))
    assert len(unlearnings) == 1
    assert len(made) == len(trials(PUBLISHED)) == 2 * len(PUBLISHED_GAMMAS)
    assert all(trial in trials(PUBLISHED) for trial, _ in made)
    assert all(isinstance(model, nn.Module) for _, model in made)


def test_each_network_is_that_of_a_repair_with_the_trials_settings(case: Case) -> None:
    wanted = [trial for trial in trials(PUBLISHED) if trial.settings["gamma"] in (0.05, 0.2)]
    for trial, model in PUBLISHED.repaired(case, wanted):
        result = repair(case.model, case.inputs, PUBLISHED._config(trial.settings["gamma"]))  # type: ignore[arg-type]
        expected = result.model if trial.method == "paper" else result.pruned_model
        assert isinstance(model, nn.Module)
        assert same(model, expected)


def test_only_what_is_wanted_is_made(case: Case) -> None:
    ours = Sweep("ours", mode="default", lambdas=(0.5, 1.0))
    wanted = trials(ours)[3:4]
    assert wanted[0].settings["lambda_"] == 1.0
    assert [trial for trial, _ in ours.repaired(case, wanted)] == wanted


def test_a_refused_gamma_takes_no_other_with_it(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choosy(nwc: Any, gamma: float, **options: Any) -> Any:
        if gamma in (0.1, 0.3):
            raise RepairError(f"not {gamma}")
        return select_pruned(nwc, gamma, **options)

    monkeypatch.setattr(pipeline, "select_pruned", choosy)
    made = list(PUBLISHED.repaired(case, trials(PUBLISHED)))
    assert len(made) == 2 * len(PUBLISHED_GAMMAS)
    refused = [trial for trial, model in made if isinstance(model, RepairError)]
    assert [trial.settings["gamma"] for trial in refused] == [0.1, 0.1, 0.3, 0.3]


def test_a_refusal_on_the_way_keeps_what_was_made_before(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = SpaceStages.fused

    def choosy(
        stages: SpaceStages, original: Any, masks: Any, transports: Any, config: RepairConfig
    ) -> nn.Module:
        if config.lambda_ == 0.75:
            raise RepairError("not 0.75")
        return fused(stages, original, masks, transports, config)

    monkeypatch.setattr(SpaceStages, "fused", choosy)
    ours = Sweep("ours", mode="default", lambdas=(0.5, 0.75))
    wanted = [trial for trial in trials(ours) if trial.settings["gamma"] in (0.05, 0.1)]
    made = {
        trial.shown: isinstance(model, nn.Module) for trial, model in ours.repaired(case, wanted)
    }
    assert made == {
        "γ 0.05, λ 0.5": True,
        "γ 0.05, λ 0.75": False,
        "γ 0.1, λ 0.5": True,
        "γ 0.1, λ 0.75": False,
    }


def test_settings_hold_the_seed_but_no_threads() -> None:
    for defence in all_defences(seed=5):
        for method in defence.methods:
            for trial in method.trials:
                assert "n_threads" not in trial.settings
                if not method.name.startswith("clp"):
                    assert trial.settings["seed"] == 5


def test_methods_have_names_of_their_own() -> None:
    names = [method.name for defence in all_defences() for method in defence.methods]
    assert len(names) == len(set(names))
    assert names == [
        "paper",
        "nwc-pruning",
        "ours",
        "ours-hindsight",
        "clp",
        "clp-published",
        "fine-tuning",
        "without-distillation",
        "without-refinement",
        "ranked-by-nwc",
    ]
