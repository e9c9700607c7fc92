"""Tiny reports, with everything in them and with next to nothing."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np

from otbr_fast.report.repair_facts import plan_map, png
from otbr_fast.report.repair_report import (
    Candidate,
    Choice,
    ClassVerdict,
    Example,
    LayerFacts,
    Measured,
    Probe,
    Provenance,
    Proxy,
    RepairReport,
    Stage,
    Subject,
    Timing,
    Verdict,
)

PROXIES = (
    Proxy(key="agreement", label="agreement", explanation="stands in for ACC", better="higher"),
    Proxy(key="margin", label="margin"),
)
VOID = {"meta", "link", "img", "br", "hr", "input"}


def image(side: int = 4, channels: int = 3) -> str:
    return png(np.random.default_rng(side).uniform(size=(channels, side, side)))


def least_report(**more: object) -> RepairReport:
    facts = {"asked": "Mitigate it.", "subject": Subject(name="model"), "action": "mitigated"}
    return RepairReport.model_validate({**facts, **more})


def verdict(n_classes: int = 3, suspect: int | None = 1) -> Verdict:
    classes = (
        ClassVerdict(
            index=k,
            losses=(2.0 + k, 1.0 + k),
            asymmetry=0.125 * k,
            wave_loss=3.0 + k,
            statistic=6.0 if k == suspect else (-1.0) ** k,
            p_value=0.001 if k == suspect else 0.5,
            suspect=k == suspect,
        )
        for k in range(n_classes)
    )
    return Verdict(
        found=suspect is not None,
        classes=tuple(classes),
        alpha=0.01,
        null_band=(-2.0, 2.0),
        null_band_meaning="5th to 95th percentile",
        explanation="The statistic of the probes.",
    )


def measured(acc: float) -> Measured:
    return Measured(acc=acc, asr=1 - acc, ra=acc, tcr=acc, der=0.9, hder=0.8, recalls=(acc,) * 3)


def candidates(is_measured: bool) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(
            gamma=gamma,
            lambda_=lambda_,
            n_pruned=int(100 * gamma),
            proxies={"agreement": 1 - gamma, "margin": 0.3},
            score=gamma * lambda_,
            chosen=(gamma, lambda_) == (0.1, 1.0),
            measured=measured(0.8) if is_measured else None,
        )
        for gamma in (0.05, 0.1, 0.2)
        for lambda_ in (0.5, 1.0)
    )


def layer(name: str = "conv1", n: int = 8, n_pruned: int = 2) -> LayerFacts:
    values = np.random.default_rng(n).uniform(0.1, 1, size=(3, n))
    return LayerFacts(
        name=name,
        n_neurons=n,
        n_pruned=n_pruned,
        ranking=tuple(values[0]),
        pruned=tuple(range(n_pruned)),
        norms={"backdoored": tuple(values[1]), "fused": tuple(values[2])},
        ot_cost=0.5,
        duality_gap=0.0,
        seconds=0.01,
    )


def full_report(*, is_measured: bool = True) -> RepairReport:
    """Return a report that fills every section; with evaluation data or without."""
    mask = np.array([True, False, False, True])
    example = Example(image=image(), original=image(), label=0, before=1, after=0)
    names = ("before", "mitigated")
    return RepairReport(
        asked="Find signs of a backdoor and mitigate it.",
        subject=Subject(
            name="model.safetensors",
            architecture="preactresnet18",
            num_classes=3,
            class_names=("cat", "dog", "ship"),
            dataset="pets",
            input_shape=(3, 4, 4),
        ),
        created="2026-01-02T03:04:05+00:00",
        action="mitigated",
        verdict=verdict(),
        stages=tuple(
            Stage(
                name=name,
                measured=measured(0.9 - 0.1 * k) if is_measured else None,
                proxies={"agreement": 1 - 0.1 * k, "margin": 0.2},
            )
            for k, name in enumerate(names)
        ),
        proxies=PROXIES,
        evaluation="Measured on 30 images." if is_measured else "",
        choice=Choice(candidates=candidates(is_measured), rule="The largest score."),
        layers=(layer(), layer("conv2", 6, 0)),
        plan=plan_map("conv1", np.eye(4) / 4, mask),
        surrogates=(Example(image=image(), before=0, after=0),),
        probes=(
            Probe(
                target=1,
                kind="patch",
                lead=0.87,
                image=image(),
                amplification=10.0,
                examples=(example,),
            ),
        ),
        triggered=(example,) if is_measured else (),
        provenance=Provenance(
            command="otbr-fast repair model.safetensors",
            config={"gamma": "auto", "seed": 3},
            seed=3,
            versions={"otbr_fast": "1", "POT": None},
            hashes={"in": "ab" * 32},
            machine={"cores": 2},
            timings=(Timing(stage="unlearn", seconds=1.5), Timing(stage="fuse", seconds=None)),
        ),
    )


class Page(HTMLParser):
    """A page taken apart: it fails on a tag that is not closed, or is closed in a wrong place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    @property
    def anchors(self) -> set[str]:
        return {value for tag, name, value in self.attributes if (tag, name) == ("section", "id")}
