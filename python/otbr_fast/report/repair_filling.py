"""From a repair to its report."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from pydantic import JsonValue
from scipy import stats
from torch import nn

from otbr_fast.evaluate import Metrics, PoisonedImages
from otbr_fast.models.inputs import InputSpec
from otbr_fast.repair import Evidence, RepairResult, Way
from otbr_fast.report.repair_facts import layer_facts, measured, plan_map, png
from otbr_fast.report.repair_report import (
    Candidate,
    Choice,
    ClassVerdict,
    Example,
    PlanMap,
    Probe,
    Provenance,
    Proxy,
    RepairReport,
    Stage,
    Subject,
    Timing,
    Verdict,
)

_N_SURROGATES, _N_PROBED, _N_TRIGGERED = 20, 5, 10
_NULL_BAND = 0.9  # of the classes that nobody attacked, where the statistic is normal

_PROXIES = (
    Proxy(
        key="agreement",
        label="agreement",
        explanation="mixtures of surrogate images answered as before; stands in for ACC",
        better="higher",
    ),
    Proxy(
        key="target_agreement",
        label="agreement on the suspect",
        explanation="the same among those taken for the suspected class; stands in for TCR",
        better="higher",
    ),
    Proxy(
        key="probe_success",
        label="probe success",
        explanation="surrogates of other classes that held-out probes lead to the suspected class; "
        "stands in for ASR",
        better="lower",
    ),
)
_VERDICT_MEANING = (
    "For each class, a small perturbation that leads surrogate images of others to it is sought. "
    "The statistic tells by how many standard errors the logarithm of its loss is below the other "
    "classes', or by how many it is easier to come to it than to leave it, by itself or together "
    "with how well a plane wave leads to it, whichever says more; "
    "p-values are corrected for the number of classes and of ways to look at them. "
    "Losses are those of each size, the smallest first."
)
_RANKINGS = {"response": "response to the probes", "nwc": "NWC"}


@dataclass(frozen=True)
class Background:
    """What a report tells that the repair itself does not know.

    Parameters
    ----------
    asked : str
        What was asked, in a sentence.
    subject : Subject
        Of which network.
    command : str
        As it was typed.
    hashes : mapping of str to str
        Of files.
    timings : mapping of str to float
        Seconds of each stage.
    before, after : Metrics, optional
        Of the network that came and the one that goes out, if there were images to measure on.
    candidates : sequence of Metrics
        Of the candidates, in their order; empty if they were not measured.
    evaluation : str
        On which images, in a sentence.
    triggered : sequence of Example
        Images with the trigger on.
    """

    asked: str
    subject: Subject
    command: str = ""
    hashes: Mapping[str, str] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    before: Metrics | None = None
    after: Metrics | None = None
    candidates: Sequence[Metrics] = ()
    evaluation: str = ""
    triggered: Sequence[Example] = ()


def repair_report(
    original: nn.Module, inputs: InputSpec, result: RepairResult, background: Background
) -> RepairReport:
    """Tell all that is known of a repair.

    Parameters
    ----------
    original : nn.Module
        The network that came in.
    inputs : InputSpec
        Shape, range and normalisation of its input.
    result : RepairResult
        What came of it.
    background : Background
        The rest.
    """
    evidence = result.evidence
    networks = {"backdoored": original, "pruned": result.pruned_model, "fused": result.model}
    norms = {name: result.stages.norms(network) for name, network in networks.items()}
    return RepairReport(
        asked=background.asked,
        subject=background.subject,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        action="mitigated" if result.is_changed else "unchanged",
        verdict=None if evidence is None else verdict_part(evidence),
        stages=_stages(result, background),
        proxies=_PROXIES if result.candidates else (),
        evaluation=background.evaluation,
        choice=_choice(result, background),
        ranking_label=_RANKINGS[result.config.ranking],
        layers=layer_facts(
            result.layers,
            ranking=result.ranking,
            pruned=result.pruned,
            norms=norms if result.is_changed else None,
        ),
        plan=_plan(result),
        surrogates=() if evidence is None else _surrogates(evidence, inputs),
        probes=()
        if evidence is None
        else tuple(_probe(w, evidence, inputs) for w in evidence.ways),
        triggered=tuple(background.triggered),
        provenance=_provenance(result, background),
    )


def triggered_examples(
    poisoned: PoisonedImages, inputs: InputSpec, before: nn.Module, after: nn.Module
) -> tuple[Example, ...]:
    """Return some images with the trigger on, and what networks before and after answer."""
    if inputs.shape[0] not in (1, 3):
        return ()
    images = poisoned.images[:_N_TRIGGERED]
    parts = images if images.is_floating_point() else images.float() / 255
    raw = inputs.raw(parts)
    with torch.no_grad():
        answers = [network(inputs.normalize(raw)).argmax(dim=1) for network in (before, after)]
    return tuple(
        Example(image=png(image.numpy()), label=int(label), before=int(first), after=int(last))
        for image, label, first, last in zip(
            images, poisoned.original_labels, *answers, strict=False
        )
    )


def verdict_part(evidence: Evidence) -> Verdict:
    """Return the verdict as reports hold it."""
    verdict = evidence.verdict
    freedom = max(1, len(verdict.classes) - 2)
    low, high = stats.t.interval(_NULL_BAND, freedom)
    is_told = verdict.p_value is not None
    return Verdict(
        found=verdict.suspect is not None,
        classes=tuple(
            ClassVerdict(
                index=one.target,
                losses=one.losses,
                asymmetry=one.asymmetry,
                wave_loss=one.wave_loss,
                statistic=one.statistic,
                p_value=one.p_value,
                suspect=one.target == verdict.suspect,
            )
            for one in verdict.classes
        ),
        p_value=verdict.p_value,
        alpha=verdict.level,
        null_band=(float(low), float(high)) if is_told else None,
        null_band_meaning=f"{_NULL_BAND:.0%} of classes that nobody attacked" if is_told else "",
        explanation=_VERDICT_MEANING,
    )


def _stages(result: RepairResult, background: Background) -> tuple[Stage, ...]:
    known = {
        "before": result.proxies_before,
        "mitigated": result.mitigated and result.mitigated.proxies,
    }
    metrics = {"before": background.before, "mitigated": background.after}
    if not result.is_changed:
        del known["mitigated"]
    stages = []
    for name, proxies in known.items():
        told = metrics[name]
        if proxies is None and told is None:
            continue
        reference = background.before if name == "mitigated" else None
        stages.append(
            Stage(
                name=name,
                measured=None if told is None else measured(told, reference),
                proxies={} if proxies is None else asdict(proxies),
            )
        )
    return tuple(stages)


def _choice(result: RepairResult, background: Background) -> Choice | None:
    if not result.candidates:
        return None
    chosen = (result.gamma, result.lambda_)
    told: Sequence[Metrics | None] = background.candidates or [None] * len(result.candidates)
    return Choice(
        candidates=tuple(
            Candidate(
                gamma=one.gamma,
                lambda_=one.lambda_,
                n_pruned=one.n_pruned,
                proxies=asdict(one.proxies),
                score=one.score,
                chosen=(one.gamma, one.lambda_) == chosen,
                measured=None if metrics is None else measured(metrics, background.before),
            )
            for one, metrics in zip(result.candidates, told, strict=True)
        ),
        rule="From the gentlest on, the fused networks shown here are distilled until held-out "
        "probes lead at most 5 % of the surrogates to the suspect. If they do after each, the one "
        "with the highest score is taken: hDER, with proxies in place of what they stand for. No "
        "image was used.",
        score_label="hDER by proxies",
    )


def _plan(result: RepairResult) -> PlanMap | None:
    most = max(result.transports, key=lambda transport: transport.n_pruned, default=None)
    return None if most is None else plan_map(most.name, most.plan, result.pruned[most.name])


def _surrogates(evidence: Evidence, inputs: InputSpec) -> tuple[Example, ...]:
    if inputs.shape[0] not in (1, 3):
        return ()
    images, labels = evidence.surrogates.images, evidence.surrogates.labels
    return tuple(
        Example(image=_picture(image, inputs), caption=f"made for class {int(label)}")
        for image, label in zip(images[:_N_SURROGATES], labels, strict=False)
    )


def _probe(way: Way, evidence: Evidence, inputs: InputSpec) -> Probe:
    probe = way.probes[0]
    scale = inputs.high - inputs.low
    others = evidence.surrogates.of_others(probe.target)
    change = (probe.apply(others, inputs) - others).mean(dim=0) / scale
    largest = float(change.abs().max())
    amplification = 0.5 / largest if largest > 0 else 1.0
    others = others[:_N_PROBED]
    examples: tuple[Example, ...] = ()
    if inputs.shape[0] in (1, 3):
        examples = tuple(
            Example(image=_picture(moved, inputs), original=_picture(plain, inputs))
            for plain, moved in zip(others, probe.apply(others, inputs), strict=True)
        )
    return Probe(
        target=probe.target,
        kind=way.kind,
        lead=way.lead,
        image=png((0.5 + amplification * change[: 3 if inputs.shape[0] >= 3 else 1]).numpy()),
        amplification=amplification,
        examples=examples,
    )


def _picture(image: torch.Tensor, inputs: InputSpec) -> str:
    return png(((image - inputs.low) / (inputs.high - inputs.low)).numpy())


def _provenance(result: RepairResult, background: Background) -> Provenance:
    config: dict[str, JsonValue] = result.config.model_dump(mode="json")
    return Provenance(
        command=background.command,
        config=config,
        seed=result.seed,
        versions=result.versions,
        hashes={
            **background.hashes,
            "weights that came in": result.input_hash,
            "weights that went out": result.output_hash,
        },
        machine={"device": result.device},
        timings=tuple(Timing(stage=k, seconds=v) for k, v in background.timings.items()),
    )
