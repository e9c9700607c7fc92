"""The page's sections on verdict, effects, choice, images and repeating; none without its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import yaml

from otbr_fast.report.html_blocks import (
    Beside,
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
    LONG,
    UNKNOWN,
    cut,
    glossary,
    join_sentences,
    left_out,
    number,
    p_text,
    percent,
    seconds,
)
from otbr_fast.report.repair_report import (
    ClassVerdict,
    Example,
    Measured,
    Probe,
    Proxy,
    RepairReport,
    Stage,
    Verdict,
)

N_CLASSES = 25
"""Classes that a chart or table shows at most."""

N_IMAGES = 16
"""Images that one gallery shows at most."""

IMAGE_BUDGET = 150_000
"""Characters of base64 that the page spends on one gallery's images."""

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
        chart = verdict_chart(verdict, shown, report.subject)
        figure = Figure(chart, "Statistic of each class", legend=legend)
        rows = [
            Row(
                [
                    cut(report.subject.label(one.index), LONG)
                    + (", suspected" if one.suspect else ""),
                    ", ".join(map(number, one.losses)) or UNKNOWN,
                    number(one.asymmetry),
                    number(one.wave_loss),
                    number(one.statistic),
                    p_text(one.p_value),
                ],
                "marked" if one.suspect else "",
            )
            for one in shown
        ]
        columns = ("class", "probes' losses", "asymmetry", "wave's loss", "statistic", "p-value")
        note = join_sentences(
            "The smaller a loss or the larger the asymmetry, the easier the class is to reach.",
            note,
        )
        table = Table("Each class", columns, rows, note=note)
        blocks += [Figures([figure]), table]
    return Section("verdict", "Verdict", blocks)


def _most_suspicious(verdict: Verdict) -> list[ClassVerdict]:
    """Return all classes in their order, or those that come first by suspicion if too many."""
    classes = sorted(verdict.classes, key=lambda one: one.index)
    if len(classes) <= N_CLASSES:
        return classes

    def rank(one: ClassVerdict) -> tuple[bool, float, float]:
        p_value = 1.0 if one.p_value is None else one.p_value
        statistic = float("-inf") if one.statistic is None else one.statistic
        return (not one.suspect, p_value, -statistic)

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


def _measured_blocks(report: RepairReport, measured: Sequence[tuple[str, Measured]]) -> list[Block]:
    (_, first), (_, last) = measured[0], measured[-1]
    keys = [key for key in RATES if any(getattr(m, key) is not None for _, m in measured)]
    tiles = [
        Tile(
            f"{RATES[key]}, %",
            percent(getattr(last, key)),
            percent(was) if (was := getattr(first, key)) is not None and len(measured) > 1 else "",
        )
        for key in keys
    ]
    rows = [Row([name, *(percent(getattr(m, key)) for key in keys)]) for name, m in measured]
    columns = ["network", *(RATES[key] for key in keys)]
    table = Table("Measured, in percent", columns, rows)
    blocks: list[Block] = [Text(report.evaluation)] if report.evaluation else []
    if len(measured) > 1 and first.recalls and len(first.recalls) == len(last.recalls):
        return [*blocks, Tiles(tiles), Beside([table, _recalls(report, first, last)])]
    return [*blocks, Tiles(tiles), table]


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
    legend = [("hollow", "before"), ("s0", "after")]
    if suspects:
        legend.append(("suspect", "after, suspected class"))
    return Figures([Figure(recall_chart(rows), "Recall of each class", note, legend)])


def _proxy_blocks(
    stages: Sequence[Stage], proxies: Sequence[Proxy], *, with_tiles: bool
) -> list[Block]:
    shown = [stage for stage in stages if any(proxy.key in stage.proxies for proxy in proxies)]
    first, last = shown[0], shown[-1]
    tiles = []
    for proxy in proxies:
        value, was = (percent(stage.proxies.get(proxy.key)) for stage in (last, first))
        is_compared = len(shown) > 1 and was != UNKNOWN
        tiles.append(Tile(f"{proxy.label}, %", value, was if is_compared else ""))
    rows = [
        Row(
            [
                f"{proxy.label}, %",
                proxy.better,
                *(percent(stage.proxies.get(proxy.key)) for stage in shown),
            ]
        )
        for proxy in proxies
    ]
    columns = ["proxy", "better", *(stage.name for stage in shown)]
    table = Table("Proxies, which need no data", columns, rows, n_text=2)
    terms = Terms([(proxy.label, proxy.explanation) for proxy in proxies if proxy.explanation])
    blocks = [Beside([table, terms]) if terms.terms else table]
    return [Tiles(tiles), *blocks] if with_tiles else [*blocks]


def images_section(report: RepairReport) -> Section | None:
    """Show images, as many as the page has room for."""

    def label(index: int) -> str:
        return cut(report.subject.label(index), LONG)

    probes = [card for probe in report.probes for card in _probe_cards(probe, label)]
    triggered, surrogates = (
        [_card(example, label) for example in examples]
        for examples in (report.triggered, report.surrogates)
    )
    galleries = {
        "Probes: perturbations that lead images to one class": probes,
        "Test images with the trigger on": triggered,
        "Surrogate images: synthetic, in place of data": surrogates,
    }
    blocks = [_gallery(title, cards) for title, cards in galleries.items() if cards]
    return Section("images", "Images", blocks) if blocks else None


def _gallery(title: str, cards: Sequence[Card]) -> Gallery:
    shown: list[Card] = []
    room = IMAGE_BUDGET
    for card in cards[:N_IMAGES]:
        room -= sum(len(png) for png, _ in card.images)
        if room < 0:
            break
        shown.append(card)
    return Gallery(title, shown, left_out(len(shown), len(cards), "images"))


def _probe_cards(probe: Probe, label: Callable[[int], str]) -> list[Card]:
    name = label(probe.target)
    lines = [
        f"{probe.kind} probe towards {name}",
        f"lead over other classes {percent(probe.lead)}",
        f"amplified {number(probe.amplification)} times",
    ]
    images = [(probe.image, f"perturbation towards class {name}")]
    examples = (_card(example, label) for example in probe.examples)
    return [Card(images, lines, is_marked=True), *examples]


def _card(example: Example, label: Callable[[int], str]) -> Card:
    lines = [example.caption] if example.caption else []
    answers = {"is": example.label, "before": example.before, "after": example.after}
    lines += [f"{when}: {label(answer)}" for when, answer in answers.items() if answer is not None]
    alt = "; ".join(lines) or "image"
    images = [(example.image, alt)]
    if example.original is not None:
        images.insert(0, (example.original, f"as it was; {alt}"))
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
    blocks += _pairs("SHA-256", facts.hashes)
    tables: list[Block] = []
    if facts.timings:
        known = [timing.seconds for timing in facts.timings if timing.seconds is not None]
        rows = [Row([timing.stage, seconds(timing.seconds)]) for timing in facts.timings]
        rows.append(Row(["together", seconds(sum(known))], "total"))
        tables.append(Table("Wall time", ("stage", "seconds"), rows))
    seed = {} if facts.seed is None else {"seed": facts.seed}
    tables += _pairs("Seed and machine", {**seed, **facts.machine})
    tables += _pairs("Versions", facts.versions)
    if tables:
        blocks.append(Beside(tables))
    return Section("repeat", "To repeat it", blocks) if blocks else None


def glossary_section(report: RepairReport) -> Section | None:
    """Explain the terms that the page uses."""
    terms = glossary(report)
    return Section("terms", "Terms", [Terms(terms)]) if terms else None


def _pairs(caption: str, held: Mapping[str, object]) -> list[Block]:
    rows = [Row([name, _plain(value)]) for name, value in held.items()]
    return [Table(caption, ("", ""), rows, n_text=2)] if rows else []


def _code(label: str, text: str) -> Code:
    if len(text) > CODE_CHARACTERS:
        text = f"{text[:CODE_CHARACTERS]}\n… cut off here; all of it is in the JSON."
    return Code(label, text)


def _plain(value: object) -> str:
    return "not known" if value is None else str(value)
