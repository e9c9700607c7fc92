"""The whole repair: probe or unlearn, rank, prune, transport, fuse, choose, distil."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from otbr_fast import models
from otbr_fast.channels import ChannelGraph
from otbr_fast.errors import RepairError
from otbr_fast.models.copies import reading_copy
from otbr_fast.models.hashing import state_dict_hash
from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair.choice import Candidate, ProxyJudge, Watch
from otbr_fast.repair.config import RepairConfig
from otbr_fast.repair.distil import distil
from otbr_fast.repair.evidence import Evidence, gather_evidence
from otbr_fast.repair.nwc import NeuronValues
from otbr_fast.repair.progress import Progress
from otbr_fast.repair.prune import PrunedMasks, RepairWarning, select_pruned
from otbr_fast.repair.recalibrate import recalibrate
from otbr_fast.repair.result import RepairResult, Transport, require_unchanged
from otbr_fast.repair.stages import Stages, stages_of
from otbr_fast.repair.surrogates import renewed
from otbr_fast.repair.unlearn import random_unlearn
from otbr_fast.versions import show_versions

_SCORE_OF_NO_CHANGE = 0.5
_LEAST_LEAD = 0.45  # of probes; where the attack outlived a repair, they led by 0.3 to 0.4
_SHARE_OF_TAUGHT = 1 / 3  # of the way to statistics that fit what distillation made of the weights
_BROKEN = "the model handed in is broken, and no repair can mend that; load or train it again"


def repair(
    model: nn.Module,
    inputs: InputSpec,
    config: RepairConfig,
    *,
    num_classes: int | None = None,
    channels: ChannelGraph | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> RepairResult:
    """Mitigate a network's backdoor without data.

    Parameters
    ----------
    model : nn.Module
        The network; it is not changed.
    inputs : InputSpec
        Shape, range and normalisation of its input.
    config : RepairConfig
        The settings.
    num_classes : int, optional
        Its number of logits; read from its last linear layer when not given.
    channels : ChannelGraph, optional
        Its channels, where they are known better than `otbr_fast.channels.channel_graph` finds
        them; what it claims is checked.
    device : torch.device or str
        Where networks are run, to probe, unlearn, recalibrate, distil and judge; transport and
        fusion are on the CPU.
    progress : callable, optional
        Called with a stage's name, the steps done and the steps in all.
    watch : callable, optional
        Called with each candidate and its network as it is judged, where γ or λ is chosen: to
        measure them where there are images. Nothing that it does has a part in the choice.

    Returns
    -------
    RepairResult
        With the mitigated network on the CPU, in eval mode.

    Raises
    ------
    UnsupportedModelError
        The network's architecture cannot be handled, or it does not take such inputs or answer
        with so many classes.
    ChannelGraphError
        The channels handed in do not fit the network.
    RepairError
        A weight that comes in is not finite, or the repair cannot go on without harm; the message
        tells the remedy.
    """
    plan = _prepare(model, inputs, config, num_classes, channels, device, progress)
    evidence = plan.evidence
    if not config.is_asked_for and evidence is not None and evidence.verdict.suspect is None:
        return _untouched(plan)
    configs = _configs(config, config.gammas, config.lambdas)
    if len(configs) == 1 and len(configs[0]) == 1:
        return next(_results(plan, configs))
    return _chosen(plan, configs, watch)


def sweep(
    model: nn.Module,
    inputs: InputSpec,
    config: RepairConfig,
    gammas: Sequence[float],
    lambdas: Sequence[float] | None = None,
    *,
    num_classes: int | None = None,
    channels: ChannelGraph | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Iterator[RepairResult]:
    """Mitigate a network with several γ and λ, ranking its neurons only once.

    Parameters and errors are those of `repair`. Everything that can be refused before the
    first result is: a γ that would fail stops the sweep at once.

    Parameters
    ----------
    gammas : sequence of float
        The γ to try, in place of ``config.gamma``.
    lambdas : sequence of float, optional
        The λ to try with each γ; those that ``config.lambda_`` stands for when not given.

    Returns
    -------
    iterator of RepairResult
        For each γ, for each λ, in the order given; made as they are asked for, from the network
        itself: a `RepairError` tells if it is changed before the last.
    """
    configs = _configs(config, gammas, config.lambdas if lambdas is None else lambdas)
    if not configs or not configs[0]:
        raise RepairError(
            f"gammas={list(gammas)}, lambdas={lambdas}: nothing to try; give at least one of each"
        )
    # The first has a γ that is a number, so no evidence is gathered only to choose one.
    plan = _prepare(model, inputs, configs[0][0], num_classes, channels, device, progress)
    return _results(plan, configs)


@dataclass(frozen=True)
class _Plan:
    """What all repairs of one network share."""

    original: nn.Module
    input_hash: str
    inputs: InputSpec
    config: RepairConfig
    stages: Stages
    ranking: NeuronValues
    evidence: Evidence | None
    device: torch.device | str
    progress: Progress | None


def _prepare(
    model: nn.Module,
    inputs: InputSpec,
    config: RepairConfig,
    num_classes: int | None,
    channels: ChannelGraph | None,
    device: torch.device | str,
    progress: Progress | None,
) -> _Plan:
    """Check what comes in, gather evidence if a stage needs it, and rank the neurons."""
    models.require_weights(model)
    models.require_finite(model.state_dict(), _BROKEN, RepairError)
    classes = models.num_classes(model) if num_classes is None else num_classes
    original = reading_copy(model)
    models.check_inputs(original, inputs, classes)
    stages = stages_of(original, inputs, config, channels)
    evidence = None
    if config.needs_evidence:
        evidence = gather_evidence(
            original, inputs, classes, config, device=device, progress=progress
        )
        if config.is_asked_for or evidence.verdict.suspect is not None:
            _warn_of_small_lead(evidence)
    if config.ranking == "response" and evidence is not None:
        ranking = stages.responses(original, inputs, evidence, device)
    else:
        unlearned = random_unlearn(model, inputs, classes, config, device=device, progress=progress)
        ranking = stages.weight_changes(original, unlearned)
    return _Plan(
        original=original,
        input_hash=state_dict_hash(original.state_dict()),
        inputs=inputs,
        config=config,
        stages=stages,
        ranking=ranking,
        evidence=evidence,
        device=device,
        progress=progress,
    )


def _configs(
    config: RepairConfig, gammas: Sequence[float], lambdas: Sequence[float]
) -> list[list[RepairConfig]]:
    return [[config.but(gamma=gamma, lambda_=lambda_) for lambda_ in lambdas] for gamma in gammas]


@dataclass(frozen=True)
class _Fused:
    """A network after the two stages, its statistics recalibrated if the settings say so."""

    model: nn.Module
    config: RepairConfig
    pruned: PrunedMasks
    transports: tuple[Transport, ...]


def _results(plan: _Plan, configs: Sequence[Sequence[RepairConfig]]) -> Iterator[RepairResult]:
    """Select all that is to be pruned at once, so that what is refused is refused first."""
    fused = _all_fused(plan, [(row, _selected(plan, row)) for row in configs])
    return (_finished(plan, each) for each in fused)


def _selected(plan: _Plan, configs: Sequence[RepairConfig]) -> PrunedMasks:
    return select_pruned(plan.ranking, configs[0].gammas[0], mode=configs[0].mode)


def _all_fused(
    plan: _Plan, selected: Sequence[tuple[Sequence[RepairConfig], PrunedMasks]]
) -> Iterator[_Fused]:
    """Fuse with each γ, whose settings come with what it selects, and each λ."""
    original, stages = plan.original, plan.stages
    selections = [pruned for _, pruned in selected]
    transported = stages.transports(original, selections, plan.ranking, plan.config, plan.progress)
    for (row, pruned), transports in zip(selected, transported, strict=True):
        for config in row:
            require_unchanged(original, plan.input_hash)
            fused = stages.fused(original, pruned, transports, config)
            if config.recalibrate:
                fused = _recalibrated(plan, fused)
            yield _Fused(fused, config, pruned, transports)


def _finished(plan: _Plan, fused: _Fused) -> RepairResult:
    """Distil, as far as the settings say so."""
    return RepairResult(
        model=_distilled(plan, fused.model, fused.config),
        original=plan.original,
        layers=plan.stages.reports(fused.transports),
        config=fused.config,
        device=str(plan.device),
        versions=show_versions(),
        input_hash=plan.input_hash,
        ranking=plan.ranking,
        pruned=fused.pruned,
        transports=fused.transports,
        evidence=plan.evidence,
        stages=plan.stages,
    )


def _recalibrated(plan: _Plan, model: nn.Module, *, share: float = 1.0) -> nn.Module:
    assert plan.evidence is not None  # `RepairConfig.needs_evidence`
    return recalibrate(
        model,
        plan.original,
        plan.inputs,
        plan.evidence.surrogates,
        share=share,
        device=plan.device,
    )


def _distilled(plan: _Plan, fused: nn.Module, config: RepairConfig) -> nn.Module:
    evidence = plan.evidence
    if evidence is None or not config.distil_steps:
        return fused
    surrogates = renewed(
        evidence.surrogates,
        fused,
        plan.inputs,
        evidence.suspect,
        seed=config.seed,
        device=plan.device,
        progress=plan.progress,
    )
    taught = distil(
        plan.original,
        fused,
        plan.inputs,
        surrogates,
        evidence.probes,
        steps=config.distil_steps,
        seed=config.seed,
        device=plan.device,
        progress=plan.progress,
    )
    return _recalibrated(plan, taught, share=_SHARE_OF_TAUGHT) if config.recalibrate else taught


def _chosen(
    plan: _Plan, configs: Sequence[Sequence[RepairConfig]], watch: Watch | None
) -> RepairResult:
    """Finish the gentlest repair that is enough; if none is, the one with the best score.

    Stronger ones than need be only cost more: distillation ends what a gentle fusion has left.
    """
    assert plan.evidence is not None  # `RepairConfig.needs_evidence`
    judge = ProxyJudge(
        plan.original, plan.inputs, plan.evidence, seed=plan.config.seed, device=plan.device
    )
    candidates: list[Candidate] = []
    best: tuple[RepairResult, Candidate] | None = None
    refused: RepairError | None = None
    selected: list[tuple[Sequence[RepairConfig], PrunedMasks]] = []
    for row in configs:
        try:
            selected.append((row, _selected(plan, row)))
        except RepairError as error:  # this γ would prune nothing or a whole layer; another may not
            refused = error
    for fused in _all_fused(plan, selected):
        candidates.append(_judged(judge, fused, fused.model))
        if watch is not None:
            watch(candidates[-1], fused.model)
        if best is None or not best[1].proxies.is_enough:
            result = _finished(plan, fused)
            mitigated = _judged(judge, fused, result.model)
            if best is None or mitigated.proxies.is_enough or mitigated.score > best[1].score:
                best = result, mitigated
    if best is None:
        raise refused or RepairError("there is no γ to choose from")
    result, mitigated = best
    _warn_if_no_gain(mitigated.score)
    return replace(
        result,
        candidates=tuple(candidates),
        proxies_before=judge.before,
        mitigated=mitigated,
    )


def _judged(judge: ProxyJudge, fused: _Fused, model: nn.Module) -> Candidate:
    """Judge a network, fused or distilled after that."""
    n_pruned = sum(int(mask.sum()) for mask in fused.pruned.values())
    return judge.candidate(model, fused.config.gammas[0], fused.config.lambdas[0], n_pruned)


def _warn_of_small_lead(evidence: Evidence) -> None:
    best = max(evidence.ways, key=lambda way: way.lead)
    if best.lead < _LEAST_LEAD:
        warnings.warn(
            f"what leads to class {evidence.suspect} ({best.kind} perturbations) leads to other "
            f"classes nearly as well (lead {best.lead:.2f}; repairs that ended an attack mostly "
            f"had {_LEAST_LEAD} or more): the trigger, if there is one, may be of a kind that is "
            "not sought; measure the repaired network before it is used",
            RepairWarning,
            stacklevel=4,
        )


def _warn_if_no_gain(score: float) -> None:
    if score <= _SCORE_OF_NO_CHANGE:
        warnings.warn(
            f"by its proxies (score {score:.2f}) the repaired network is no better than the one "
            "that came in: measure it before it is used, or try ranking='nwc'",
            RepairWarning,
            stacklevel=4,
        )


def _untouched(plan: _Plan) -> RepairResult:
    """Return the network as it came: there is no sign that anything is wrong with it."""
    none: PrunedMasks = {
        name: np.zeros(values.size, dtype=np.bool_) for name, values in plan.ranking.items()
    }
    return RepairResult(
        model=copy.deepcopy(plan.original),
        original=plan.original,
        layers=plan.stages.reports(()),
        config=plan.config,
        device=str(plan.device),
        versions=show_versions(),
        input_hash=plan.input_hash,
        ranking=plan.ranking,
        pruned=none,
        transports=(),
        evidence=plan.evidence,
        stages=plan.stages,
    )
