"""The page's sections on verdict, effects, choice, images and repeating; none without its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import yaml

from otbr_fast.report.html_blocks import (
    Block,
    Card,
    Code,
    Figure,
    Figures,
    Gallery,
    Row,
    Section,
    Table,
    Terms,
    Text,
    Tile,
    Tiles,
)
from otbr_fast.report.html_charts import recall_chart, verdict_chart
from otbr_fast.report.html_words import (
    UNKNOWN,
    glossary,
    join_sentences,
    left_out,
    number,
    p_text,
    percent,
)
from otbr_fast.report.repair_report import (
    ClassVerdict,
    Example,
    Measured,
    Proxy,
    RepairReport,
    Stage,
    Verdict,
)

N_CLASSES = 25
"""Classes that a chart or table shows at most."""

N_IMAGES = 16
"""Images that one gallery shows at most."""

IMAGE_BUDGET = 700_000
"""Characters of base64 that the page spends on images."""

CODE_CHARACTERS = 40_000
"""Of one listing that the page shows at most."""

RATES = {"acc": "ACC", "asr": "ASR", "ra": "RA", "tcr": "TCR", "der": "DER", "hder": "hDER"}
"""The figures that evaluation data tell, by their keys in `Measured`."""


def verdict_section(report: RepairReport) -> Section | None:
    """Show how suspicious each class is."""
    verdict = report.verdict
    if verdict is None:
        return None
    blocks: list[Block] = [Text(verdict.explanation)] if verdict.explanation else []
    shown = _most_suspicious(verdict)
    if shown:
        note = left_out(len(shown), len(verdict.classes), "classes, the most suspicious,")
        legend = [("bar", "statistic"), ("suspect", "suspected")]
        if verdict.null_band is not None:
            meaning = f" ({verdict.null_band_meaning})" if verdict.null_band_meaning else ""
            legend.append(("band", f"null band{meaning}"))
        if verdict.threshold is not None:
            level = f" at level {number(verdict.alpha)}" if verdict.alpha is not None else ""
            legend.append(("threshold", f"threshold{level}"))
        chart = verdict_chart(verdict, shown, report.subject)
        caption = "Statistic of each class; at the right its p-value."
        blocks.append(Figures([Figure(caption, chart, legend)]))
        rows = [
            Row(
                [
                    report.subject.label(one.index),
                    number(one.loss),
                    number(one.statistic),
                    p_text(one.p_value),
                    "suspected" if one.suspect else "",
                ],
                is_marked=one.suspect,
            )
            for one in shown
        ]
        columns = ("class", "probe's loss", "statistic", "p-value", "")
        caption = "Each class: the smaller the probe's loss, the easier it is to reach"
        blocks.append(Table(caption, columns, rows, n_notes=1, note=note))
    return Section("verdict", "Verdict", blocks)


def _most_suspicious(verdict: Verdict) -> list[ClassVerdict]:
    """Return all classes in their order, or those that come first by suspicion if too many."""
    classes = sorted(verdict.classes, key=lambda one: one.index)
    if len(classes) <= N_CLASSES:
        return classes

    def rank(one: ClassVerdict) -> tuple[bool, float, float]:
        p_value = 1.0 if one.p_value is None else one.p_value
        loss = float("inf") if one.loss is None else one.loss
        return (not one.suspect, p_value, loss)

    return sorted(classes, key=rank)[:N_CLASSES]


def effects_section(report: RepairReport) -> Section | None:
    """Show before and after: as measured, and by proxies."""
    stages = report.stages
    proxies = [p for p in report.proxies if any(p.key in stage.proxies for stage in stages)]
    measured = [(stage.name, stage.measured) for stage in stages if stage.measured is not None]
    blocks: list[Block] = []
    if measured:
        blocks += _measured_blocks(report, measured)
    if proxies:
        blocks += _proxy_blocks(stages, proxies, with_tiles=not measured)
    return Section("effects", "Before and after", blocks) if blocks else None


def _measured_blocks(
    report: RepairReport, measured: Sequence[tuple[str, Measured]]
) -> list[Block]:
    (_, first), (_, last) = measured[0], measured[-1]
    keys = [key for key in RATES if any(getattr(m, key) is not None for _, m in measured)]
    tiles = [
        Tile(
            RATES[key],
            percent(getattr(last, key)),
            percent(was) if (was := getattr(first, key)) is not None and len(measured) > 1 else "",
        )
        for key in keys
    ]
    rows = [Row([name, *(percent(getattr(m, key)) for key in keys)]) for name, m in measured]
    columns = ["network", *(RATES[key] for key in keys)]
    blocks: list[Block] = [
        Tiles(tiles),
        Table("Measured on the images that were given, in percent", columns, rows),
    ]
    if report.evaluation:
        blocks.insert(0, Text(report.evaluation))
    if len(measured) > 1 and first.recalls and len(first.recalls) == len(last.recalls):
        blocks.append(_recalls(report, first, last))
    return blocks


def _recalls(report: RepairReport, first: Measured, last: Measured) -> Figures:
    suspects = {one.index for one in report.verdict.suspects} if report.verdict else set()
    pairs = list(enumerate(zip(first.recalls, last.recalls, strict=True)))
    note = ""
    if len(pairs) > N_CLASSES:
        note = left_out(N_CLASSES, len(pairs), "classes, those that lost most,")

        def loss(pair: tuple[int, tuple[float | None, float | None]]) -> float:
            was, now = pair[1]
            return float("inf") if was is None or now is None else now - was

        pairs = sorted(sorted(pairs, key=loss)[:N_CLASSES])
    rows = [(report.subject.label(k), was, now, k in suspects) for k, (was, now) in pairs]
    caption = join_sentences("Recall of each class on images without a trigger.", note)
    legend = [("hollow", "before"), ("s0", "after")]
    if suspects:
        legend.append(("suspect", "after, suspected class"))
    return Figures([Figure(caption, recall_chart(rows), legend)])


def _proxy_blocks(
    stages: Sequence[Stage], proxies: Sequence[Proxy], *, with_tiles: bool
) -> list[Block]:
    tell = {proxy.key: percent if proxy.is_fraction else number for proxy in proxies}
    shown = [stage for stage in stages if any(proxy.key in stage.proxies for proxy in proxies)]
    first, last = shown[0], shown[-1]
    tiles = []
    for proxy in proxies:
        unit = " %" if proxy.is_fraction else ""
        value, was = (tell[proxy.key](stage.proxies.get(proxy.key)) for stage in (last, first))
        is_compared = len(shown) > 1 and was != UNKNOWN
        tiles.append(Tile(f"{proxy.label}{unit}", value, was if is_compared else ""))
    rows = [
        Row(
            [
                f"{proxy.label}{', %' if proxy.is_fraction else ''}",
                proxy.explanation,
                proxy.better,
                *(tell[proxy.key](stage.proxies.get(proxy.key)) for stage in shown),
            ]
        )
        for proxy in proxies
    ]
    columns = ["proxy", "what it is", "better", *(stage.name for stage in shown)]
    table = Table("Proxies, which need no data", columns, rows, n_text=3)
    return [Tiles(tiles), table] if with_tiles else [table]


def images_section(report: RepairReport) -> Section | None:
    """Show images, as many as the page has room for."""
    room = _Room(IMAGE_BUDGET)
    label = report.subject.label
    blocks: list[Block] = []
    cards = []
    for probe in report.probes[:N_IMAGES]:
        if room.takes(probe.image):
            words = f"amplified {number(probe.amplification)} times"
            alt = f"perturbation towards class {label(probe.target)}"
            lines = [f"probe towards {label(probe.target)}", words]
            cards.append(Card([(probe.image, alt)], lines, is_marked=True))
        cards += _cards(probe.examples[:N_IMAGES], room, label)
    total = len(report.probes) + sum(len(probe.examples) for probe in report.probes)
    _add_gallery(blocks, "Probes: perturbations that lead images to one class", cards, total)
    for title, examples in (
        ("Triggered test images, beside what they were", report.triggered),
        ("Surrogate images: synthetic, in place of data", report.surrogates),
    ):
        cards = _cards(examples[:N_IMAGES], room, label)
        _add_gallery(blocks, title, cards, len(examples))
    return Section("images", "Images", blocks) if blocks else None


def _add_gallery(blocks: list[Block], title: str, cards: Sequence[Card], total: int) -> None:
    if cards:
        blocks.append(Gallery(title, cards, left_out(len(cards), total, "images")))


class _Room:
    """How many more characters of images fit on the page."""

    def __init__(self, budget: int) -> None:
        self.left = budget

    def takes(self, *images: str | None) -> bool:
        size = sum(len(image) for image in images if image is not None)
        fits = size <= self.left
        self.left -= size if fits else 0
        return fits


def _cards(examples: Sequence[Example], room: _Room, label: Callable[[int], str]) -> list[Card]:
    return [
        _card(example, label)
        for example in examples
        if room.takes(example.image, example.original)
    ]


def _card(example: Example, label: Callable[[int], str]) -> Card:
    lines = [example.caption] if example.caption else []
    answers = {"is": example.label, "before": example.before, "after": example.after}
    lines += [f"{when}: {label(answer)}" for when, answer in answers.items() if answer is not None]
    alt = "; ".join(lines) or "image"
    images = [(example.image, alt)]
    if example.original is not None:
        images.insert(0, (example.original, f"without the trigger; {alt}"))
    return Card(images, lines)


def repeat_section(report: RepairReport) -> Section | None:
    """Show all that is needed to repeat it."""
    facts = report.provenance
    blocks: list[Block] = []
    if facts.command:
        blocks.append(_code("Command", facts.command))
    if facts.config:
        text = yaml.safe_dump(facts.config, sort_keys=False, allow_unicode=True)
        blocks.append(_code("Configuration (YAML)", text))
    pairs = {
        "Seed": {} if facts.seed is None else {"seed": facts.seed},
        "Hashes (SHA-256)": facts.hashes,
        "Versions": facts.versions,
        "Machine": facts.machine,
    }
    for caption, held in pairs.items():
        rows = [Row([name, _plain(value)]) for name, value in held.items()]
        if rows:
            blocks.append(Table(caption, ("", ""), rows, n_text=2))
    if facts.timings:
        known = [timing.seconds for timing in facts.timings if timing.seconds is not None]
        rows = [Row([timing.stage, number(timing.seconds)]) for timing in facts.timings]
        rows.append(Row(["together", number(sum(known))]))
        blocks.append(Table("Wall time", ("stage", "seconds"), rows))
    return Section("repeat", "To repeat it", blocks) if blocks else None


def glossary_section(report: RepairReport) -> Section | None:
    """Explain the terms that the page uses."""
    terms = glossary(report)
    return Section("terms", "Terms", [Terms(terms)]) if terms else None


def _code(label: str, text: str) -> Code:
    if len(text) > CODE_CHARACTERS:
        text = f"{text[:CODE_CHARACTERS]}\n… cut off here; all of it is in the JSON."
    return Code(label, text)


def _plain(value: object) -> str:
    return "not known" if value is None else str(value)
