"""The blind repair: what it finds, what it chooses, and when it leaves a network alone."""

from __future__ import annotations

import copy
import functools
import json
import warnings
from collections.abc import Iterator
from typing import Any

import pydantic
import pytest
import torch
from digit_networks import CLASSES, TARGET, Trained, attacked_network, network_without_norms
from torch import nn

from otbr_fast.errors import RepairError
from otbr_fast.io import state_dict_hash
from otbr_fast.models import InputSpec
from otbr_fast.repair import (
    Candidate,
    Proxies,
    ProxyJudge,
    RepairConfig,
    RepairResult,
    RepairWarning,
    distil,
    evidence,
    gather_evidence,
    pipeline,
    probe_classes,
    recalibrate,
    renewed,
    repair,
    select_pruned,
    stages_of,
    sweep,
)

BLIND = RepairConfig(n_surrogates=60)
QUICK = RepairConfig(n_surrogates=20, distil_steps=2)
TINY = InputSpec(shape=(1, 8, 8))
NWC = {"ranking": "nwc", "recalibrate": False, "distil_steps": 0}


@pytest.fixture(scope="module", autouse=True)
def _radii_for_digits() -> Iterator[None]:
    """Digits are black and white: it takes more to lead them than photographs."""
    with pytest.MonkeyPatch.context() as patch:
        wider = functools.partial(probe_classes, radii=(0.1, 0.15))
        patch.setattr(evidence, "probe_classes", wider)
        yield


@pytest.fixture(scope="module")
def attacked() -> Trained:
    return attacked_network()


@pytest.fixture(scope="module")
def unattacked() -> Trained:
    """Without batch norms, too."""
    return network_without_norms()


@pytest.fixture(scope="module")
def found(attacked: Trained) -> RepairResult:
    """What "auto" makes of the attacked network."""
    return repair(attacked.model, attacked.inputs, BLIND)


def tiny_network(classes: int, *widths: int) -> nn.Sequential:
    """Convolutions of these widths, for 1x8x8 images; not trained."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for n_in, n_out in zip((1, *widths), widths, strict=False):
            layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU()]
        pooled = (nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * widths[-1], classes))
        return nn.Sequential(*layers, *pooled).eval()


@torch.no_grad()
def acc_and_asr(model: nn.Module, trained: Trained) -> tuple[float, float]:
    images, labels = trained.task.test.images.float() / 255, trained.task.test.labels
    others = labels != TARGET
    triggered = trained.task.trigger.apply(images[others])
    answers = model(trained.inputs.normalize(images)).argmax(dim=1)
    led = model(trained.inputs.normalize(triggered)).argmax(dim=1) == TARGET
    return float((answers == labels).double().mean()), float(led.double().mean())


def assert_finite(model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.isfinite(tensor).all(), name


def test_auto_finds_the_attacked_class_and_mitigates(
    attacked: Trained, found: RepairResult
) -> None:
    assert found.is_changed
    assert found.evidence is not None
    assert found.evidence.verdict.suspect == found.evidence.suspect == TARGET
    assert {p.target for p in (*found.evidence.probes, *found.evidence.held_out)} == {TARGET}
    acc, asr = acc_and_asr(attacked.model, attacked)
    mitigated_acc, mitigated_asr = acc_and_asr(found.model, attacked)
    assert asr > 0.9
    assert mitigated_asr < 0.2
    assert mitigated_acc > acc - 0.1


def test_the_proxies_are_of_the_networks_they_are_told_of(
    attacked: Trained, found: RepairResult
) -> None:
    before = found.proxies_before
    assert before is not None
    assert found.evidence is not None
    assert before.agreement == before.target_agreement == 1
    assert before.score(before) == 0.5
    settings = [(c.gamma, c.lambda_) for c in found.candidates]
    assert settings == [(g, lambda_) for g in BLIND.gammas for lambda_ in BLIND.lambdas]
    assert [c.score for c in found.candidates] == [
        c.proxies.score(before) for c in found.candidates
    ]
    assert found.mitigated is not None
    assert (found.mitigated.gamma, found.mitigated.lambda_) == (found.gamma, found.lambda_)
    judge = ProxyJudge(attacked.model, attacked.inputs, found.evidence)
    assert judge.look(found.model) == found.mitigated.proxies


@pytest.mark.parametrize(
    ("left", "chosen", "n_distilled"),
    [
        ((0.05, 0.0, 0.0, 0.0), 0, 1),
        ((0.2, 0.04, 0.0, 0.0), 1, 2),
        ((0.3, 0.2, 0.1, 0.3), 2, 4),  # none is enough
        ((0.1, 0.1, 0.1, 0.1), 0, 4),
        ((0.1, 0.1, 0.1, 0.0), 3, 4),
    ],
)
def test_the_gentlest_that_is_enough_is_chosen_or_else_the_best(
    left: tuple[float, ...], chosen: int, n_distilled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What probes still lead to the suspect after each candidate's distillation decides."""
    settings = [(gamma, lambda_) for gamma in QUICK.gammas for lambda_ in QUICK.lambdas]
    taught: list[nn.Module] = []

    def teach(_: nn.Module, fused: nn.Module, *args: Any, **__: Any) -> nn.Module:
        taught.append(copy.deepcopy(fused))
        taught[-1].is_taught = True  # type: ignore[assignment]
        return taught[-1]

    def judged(
        _: ProxyJudge, model: nn.Module, gamma: float, lambda_: float, n_pruned: int
    ) -> Candidate:
        success = left[settings.index((gamma, lambda_))] if hasattr(model, "is_taught") else 0.5
        return Candidate(gamma, lambda_, n_pruned, Proxies(1.0, 1.0, success), 1 - success / 2)

    monkeypatch.setattr(pipeline, "distil", teach)
    monkeypatch.setattr(ProxyJudge, "candidate", judged)
    result = repair(tiny_network(4, 8, 16), TINY, QUICK.but(suspect=0))
    assert (result.gamma, result.lambda_) == settings[chosen]
    assert len(taught) == n_distilled
    assert [(one.gamma, one.lambda_) for one in result.candidates] == settings
    assert {one.proxies.probe_success for one in result.candidates} == {0.5}
    assert result.mitigated is not None
    assert result.mitigated.proxies.probe_success == left[chosen]
    assert hasattr(result.model, "is_taught")


def test_all_candidates_can_be_watched_and_the_choice_is_the_same() -> None:
    model = tiny_network(4, 8, 16)
    seen: list[tuple[Candidate, dict[str, torch.Tensor]]] = []
    result = repair(
        model,
        TINY,
        QUICK.but(suspect=0),
        watch=lambda candidate, network: seen.append((candidate, network.state_dict())),
    )
    assert tuple(candidate for candidate, _ in seen) == result.candidates
    assert len({state_dict_hash(weights) for _, weights in seen}) == len(seen)
    assert result.output_hash == repair(model, TINY, QUICK.but(suspect=0)).output_hash
    n_pruned = {one.gamma: one.n_pruned for one in result.candidates}
    assert result.n_pruned == n_pruned[result.config.gammas[0]]


def test_what_was_chosen_can_be_repeated_exactly(attacked: Trained, found: RepairResult) -> None:
    settings = BLIND.but(gamma=found.gamma, lambda_=found.lambda_, n_threads=1)
    state = torch.random.get_rng_state()
    before = state_dict_hash(attacked.model.state_dict())
    alone = repair(attacked.model, attacked.inputs, settings)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert state_dict_hash(attacked.model.state_dict()) == before == alone.input_hash
    assert alone.output_hash == found.output_hash
    assert alone.candidates == ()
    assert alone.proxies_before is None
    other = repair(attacked.model, attacked.inputs, settings.but(seed=1))
    assert other.output_hash != alone.output_hash


def test_the_report_is_json(found: RepairResult) -> None:
    report = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert RepairConfig.model_validate(report["config"]) == found.config
    assert report["suspect"] == TARGET
    assert {way["kind"] for way in report["probes"]} <= {"dense", "patch", "warp", "wave"}
    assert all(-1 <= way["lead"] <= 1 for way in report["probes"])
    assert report["probes"]
    assert len(report["verdict"]["classes"]) == CLASSES
    assert report["candidates"] == [candidate.to_dict() for candidate in found.candidates]
    assert report["candidates"][0].keys() >= {"gamma", "lambda", "score", "agreement"}
    assert report["proxies_before"]["agreement"] == 1
    assert found.mitigated is not None
    assert report["mitigated"] == found.mitigated.to_dict()


def test_a_repair_is_its_public_stages(attacked: Trained) -> None:
    model, inputs = attacked.model, attacked.inputs
    settings = QUICK.but(gamma=0.1, lambda_=0.75)
    told = gather_evidence(model, inputs, CLASSES, settings)
    stages = stages_of(model, inputs, settings)
    ranking = stages.responses(model, inputs, told, "cpu")
    pruned = select_pruned(ranking, 0.1)
    (transports,) = stages.transports(model, [pruned], ranking, settings, None)
    expected = stages.fused(model, pruned, transports, settings)
    expected = recalibrate(expected, model, inputs, told.surrogates)
    shown = renewed(told.surrogates, expected, inputs, told.suspect)
    expected = distil(model, expected, inputs, shown, told.probes, steps=2)
    expected = recalibrate(expected, model, inputs, told.surrogates, share=1 / 3)
    result = repair(model, inputs, settings)
    assert result.output_hash == state_dict_hash(expected.state_dict())


@pytest.mark.parametrize("lambda_", ["auto", 0.5])
def test_without_a_sign_nothing_is_touched(unattacked: Trained, lambda_: Any) -> None:
    result = repair(unattacked.model, unattacked.inputs, BLIND.but(lambda_=lambda_))
    assert not result.is_changed
    assert result.output_hash == result.input_hash
    assert result.model is not unattacked.model
    assert (result.gamma, result.lambda_, result.n_pruned, result.ot_cost) == (None, None, 0, 0)
    assert result.candidates == ()
    assert result.evidence is not None
    assert result.evidence.verdict.suspect is None
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_gamma_of_ones_own_asks_for_a_repair_in_any_case(unattacked: Trained) -> None:
    result = repair(unattacked.model, unattacked.inputs, QUICK.but(gamma=0.1))
    assert result.is_changed
    assert result.output_hash != result.input_hash
    assert [(c.gamma, c.lambda_) for c in result.candidates] == [(0.1, 0.5), (0.1, 0.75)]
    assert_finite(result.model)


def test_a_suspect_that_is_told_is_acted_against(unattacked: Trained) -> None:
    result = repair(unattacked.model, unattacked.inputs, QUICK.but(suspect=7))
    assert result.is_changed
    assert result.evidence is not None
    assert result.evidence.suspect == result.to_dict()["suspect"] == 7
    assert {p.target for p in (*result.evidence.probes, *result.evidence.held_out)} == {7}
    assert len(result.candidates) == 4


def test_a_suspect_that_is_no_class_is_refused_before_the_work(unattacked: Trained) -> None:
    stages: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        stages.append(stage)

    with pytest.raises(RepairError, match=r"suspect=10, .* 10 classes, 0 to 9"):
        repair(unattacked.model, unattacked.inputs, QUICK.but(suspect=10), progress=progress)
    assert not stages


@pytest.mark.parametrize("classes", [2, 3])
def test_too_few_classes_to_tell_leave_a_network_alone(classes: int) -> None:
    model = tiny_network(classes, 8, 12)
    result = repair(model, TINY, QUICK)
    assert not result.is_changed
    assert result.evidence is not None
    assert "cannot tell" in str(result.evidence.verdict)
    json.dumps(result.to_dict(), allow_nan=False)
    asked = repair(model, TINY, QUICK.but(suspect=1))
    assert asked.is_changed
    assert_finite(asked.model)


def test_a_hundred_classes_and_fewer_surrogates_than_those() -> None:
    result = repair(tiny_network(100, 4, 8), TINY, QUICK.but(n_surrogates=2, gamma=0.2))
    assert result.evidence is not None
    assert len(result.evidence.surrogates) == 100
    assert len(result.evidence.verdict.classes) == 100
    assert_finite(result.model)


def test_inputs_of_another_range(attacked: Trained) -> None:
    inputs = InputSpec(shape=(1, 16, 16), low=0, high=255, mean=(127.5,), std=(127.5,))
    result = repair(attacked.model, inputs, BLIND.but(gamma=0.1, lambda_=1.0))
    assert result.evidence is not None
    assert result.evidence.verdict.suspect == TARGET
    assert result.evidence.surrogates.images.max() > 200
    assert acc_and_asr(result.model, attacked)[1] < 0.2


def test_half_precision_is_kept(attacked: Trained) -> None:
    model = copy.deepcopy(attacked.model).half()
    result = repair(model, attacked.inputs, QUICK.but(gamma=0.1, lambda_=1.0))
    assert {p.dtype for p in result.model.parameters()} == {torch.float16}
    assert_finite(result.model)


def test_torchs_default_precision_does_not_matter() -> None:
    model, settings = tiny_network(4, 8, 12), QUICK.but(gamma=0.1)
    usual = repair(model, TINY, settings)
    torch.set_default_dtype(torch.float64)
    try:
        other = repair(model, TINY, settings)
    finally:
        torch.set_default_dtype(torch.float32)
    assert other.output_hash == usual.output_hash
    assert other.candidates == usual.candidates


def test_classes_that_are_all_alike_leave_a_report_that_is_json() -> None:
    model = tiny_network(5, 8, 12)
    with torch.no_grad():
        model.get_parameter("8.weight").zero_()
        model.get_parameter("8.bias").copy_(torch.tensor([9.0, 0, 0, 0, 0]))
    result = repair(model, TINY, QUICK)
    json.dumps(result.to_dict(), allow_nan=False)
    assert_finite(result.model)


def test_a_gamma_that_cannot_be_used_is_no_candidate() -> None:
    result = repair(tiny_network(4, 4, 8), TINY, QUICK.but(suspect=0))
    assert {candidate.gamma for candidate in result.candidates} == {0.1}  # 0.05 of 12 is none
    with pytest.raises(RepairError, match="less than one neuron"):
        repair(tiny_network(4, 2, 4), TINY, QUICK.but(suspect=0))


def test_an_error_of_a_candidate_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def refuses(*args: Any, **settings: Any) -> nn.Module:
        calls.append(1)
        if len(calls) == 2:
            raise RepairError("no statistics")
        return recalibrate(*args, **settings)

    monkeypatch.setattr(pipeline, "recalibrate", refuses)
    with pytest.raises(RepairError, match="no statistics"):
        repair(tiny_network(4, 8, 16), TINY, QUICK.but(suspect=0))


def test_a_repair_that_gains_nothing_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_it_was(original: nn.Module, *_: Any, **__: Any) -> nn.Module:
        return original

    monkeypatch.setattr(pipeline, "distil", as_it_was)
    monkeypatch.setattr(pipeline, "recalibrate", lambda fused, original, *_, **__: original)
    with pytest.warns(RepairWarning, match=r"score 0\.50\) .* no better than the one"):
        repair(tiny_network(4, 8, 16), TINY, QUICK.but(suspect=0))


def test_probes_that_lead_elsewhere_too_are_told_of() -> None:
    told = (
        r"leads to class 2 \(\w+ perturbations\) leads to other classes nearly as well \(lead -?0"
    )
    model = tiny_network(4, 8, 16)
    with pytest.warns(RepairWarning, match=told) as caught:
        repair(model, TINY, QUICK.but(suspect=2, gamma=0.1))
    assert caught[0].filename == __file__
    with pytest.warns(RepairWarning, match=told):
        sweep(model, TINY, QUICK.but(suspect=2), gammas=[0.1])


def test_probes_that_lead_to_the_attacked_class_alone_are_not(attacked: Trained) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*nearly as well", RepairWarning)
        repair(attacked.model, attacked.inputs, BLIND.but(gamma=0.1, distil_steps=0))


def test_a_sweep_gathers_evidence_once_and_gives_what_single_repairs_give() -> None:
    model = tiny_network(4, 8, 12)
    stages: list[tuple[str, int]] = []
    results = list(
        sweep(
            model,
            TINY,
            QUICK,
            gammas=[0.1, 0.2],
            lambdas=[0.5, 1.0],
            progress=lambda stage, done, total: stages.append((stage, done)),
        )
    )
    assert stages.count(("synthesize", 1)) == 1
    assert stages.count(("renew", 1)) == stages.count(("distil", 1)) == 4
    assert [(r.gamma, r.lambda_) for r in results] == [
        (g, lambda_) for g in (0.1, 0.2) for lambda_ in (0.5, 1.0)
    ]
    for result in results:
        assert result.output_hash == repair(model, TINY, result.config).output_hash


def test_a_sweep_without_a_stage_that_needs_evidence_gathers_none() -> None:
    stages: set[str] = set()
    settings = RepairConfig.model_validate({**NWC, "steps": 1, "batch_size": 4})
    swept = sweep(
        tiny_network(4, 8, 12),
        TINY,
        settings,
        gammas=[0.1],
        progress=lambda stage, done, total: stages.add(stage),
    )
    assert [result.evidence for result in swept] == [None]
    assert stages == {"unlearn", "transport"}


@pytest.mark.parametrize("settings", [{"gammas": []}, {"gammas": [0.1], "lambdas": []}])
def test_a_sweep_over_nothing_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(RepairError, match="nothing to try"):
        sweep(tiny_network(4, 8, 12), TINY, QUICK, **settings)


def test_answers_that_are_not_finite_are_refused(attacked: Trained, found: RepairResult) -> None:
    too_much = copy.deepcopy(attacked.model)
    with torch.no_grad():
        too_much.get_parameter("13.weight").fill_(3e38)
    with pytest.raises(RepairError, match="not finite"):
        gather_evidence(too_much, attacked.inputs, CLASSES, QUICK)
    assert found.evidence is not None
    judge = ProxyJudge(attacked.model, attacked.inputs, found.evidence)
    assert judge.before.agreement == judge.look(attacked.model).agreement == 1
    with pytest.raises(RepairError, match=r"answers are not finite.*smaller gamma"):
        judge.look(too_much)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "needs a gamma"),
        ({"gamma": "auto"}, "needs a gamma"),
        ({"gamma": 0.1, "lambda_": "auto"}, "give lambda"),
        ({"gamma": 0.1, "ranking": "response"}, "ranking='response' is not in the published"),
        ({"gamma": 0.1, "suspect": 3}, "suspect=3 is not in the published"),
        ({"gamma": 0.1, "recalibrate": True}, "recalibrate=True is not in the published"),
        ({"gamma": 0.1, "distil_steps": 5}, "distil_steps=5 is not in the published"),
    ],
)
def test_paper_mode_has_only_the_published_stages(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=told):
        RepairConfig.model_validate({"mode": "paper", **settings})


@pytest.mark.parametrize("name", ["steps", "lr", "momentum", "batch_size"])
def test_settings_of_an_unlearning_that_is_not_done_are_refused(name: str) -> None:
    value = 0.5 if name in ("lr", "momentum") else 3
    with pytest.raises(pydantic.ValidationError, match=rf"{name}={value} .*use ranking='nwc'"):
        RepairConfig.model_validate({name: value})
    for unlearns in ({"ranking": "nwc"}, {"mode": "paper", "gamma": 0.1}):
        assert getattr(RepairConfig.model_validate({name: value, **unlearns}), name) == value


def test_settings_can_change_their_mode_and_back() -> None:
    settings = RepairConfig(gamma=0.1, seed=3)
    paper = settings.but(mode="paper")
    assert paper.lambda_ == 0.5
    assert {name: getattr(paper, name) for name in NWC} == NWC
    assert (paper.lambdas, paper.needs_evidence) == ((0.5,), False)
    assert paper.but(mode="default") == settings
    assert RepairConfig.model_validate(paper.model_dump()) == paper
    with pytest.raises(pydantic.ValidationError, match="needs a gamma"):
        RepairConfig().but(mode="paper")
    with pytest.raises(pydantic.ValidationError, match="suspect=2"):
        settings.but(suspect=2).but(mode="paper")


def test_what_auto_stands_for() -> None:
    assert RepairConfig().lambdas == (0.5, 0.75)
    assert RepairConfig(ranking="nwc").lambdas == (0.5,)  # the paper's
    assert RepairConfig(gamma=0.3, lambda_=0.2).gammas == (0.3,)
    assert RepairConfig(gamma=0.3, lambda_=0.2).lambdas == (0.2,)
    assert not RepairConfig.model_validate({**NWC, "gamma": 0.1}).needs_evidence
    assert RepairConfig.model_validate(NWC).needs_evidence  # for the verdict
