"""The page's sections on neurons, layer by layer, and on one layer's transport plan."""

from __future__ import annotations

from collections.abc import Sequence

from otbr_fast.report.html_blocks import Beside, Block, Figure, Figures, Row, Section, Table, Text
from otbr_fast.report.html_charts import N_COLORS
from otbr_fast.report.html_layer_charts import (
    norm_chart,
    order_chart,
    plan_chart,
    position_chart,
    ranking_chart,
)
from otbr_fast.report.html_words import count, join_sentences, left_out, number, percent, seconds
from otbr_fast.report.repair_report import LayerFacts, RepairReport

N_LAYERS = 40
"""Layers that charts and tables show at most."""


def layers_section(report: RepairReport) -> Section | None:
    """Show what neurons were ranked by, which were pruned, and what became of them."""
    if not report.layers:
        return None
    shown = _most_pruned(report.layers)
    note = left_out(len(shown), len(report.layers), "layers, those that lost most neurons,")
    label = report.ranking_label
    figures = []
    ranked = [layer for layer in shown if any(v is not None for v in layer.ranking)]
    if ranked:
        caption = (
            f"{label} of all neurons, a row a layer: heights are square roots of counts, so that "
            "single neurons are seen. At the right, how many were pruned of how many."
        )
        legend = [("kept", "kept"), ("pruned", "pruned")]
        chart = ranking_chart(ranked, label)
        figures.append(Figure(chart, f"{label} of neurons", caption, legend))
    placed = [layer for layer in shown if layer.pruned is not None]
    if placed:
        caption = "Where the pruned neurons lie in their layers, by index."
        legend = [("pruned", "pruned")]
        figures.append(Figure(position_chart(placed), "Where pruned neurons lie", caption, legend))
    blocks: list[Block] = [Text(note, is_quiet=True)] if note else []
    if figures:
        blocks.append(Beside([Figures([figure]) for figure in figures]))
    norms = _norms(shown, label)
    if norms:
        blocks.append(Beside([Figures([figure]) for figure in norms]))
    blocks.append(_table(report.layers, shown))
    return Section("neurons", "Neurons", blocks)


def _most_pruned(layers: Sequence[LayerFacts]) -> list[LayerFacts]:
    """Return as many layers as can be shown, those with most pruned neurons, in their order."""
    places = sorted(range(len(layers)), key=lambda k: -layers[k].n_pruned)
    return [layers[k] for k in sorted(places[:N_LAYERS])]


def _norms(layers: Sequence[LayerFacts], label: str) -> list[Figure]:
    normed = [layer for layer in layers if len(set(layer.norms.values())) > 1]
    networks = list(dict.fromkeys(name for layer in normed for name in layer.norms))[:N_COLORS]
    if not networks:
        return []
    legend = [(f"s{j}", name) for j, name in enumerate(networks)]
    caption = "Smallest to largest norm (thin), middle half (thick), median (dot), by layer."
    if len(normed) < len(layers):
        caption += " Layers whose norms are the same in all networks are left out."
    chart = norm_chart(normed, networks)
    figures = [Figure(chart, "Norms of neurons", caption, legend)]
    layer = max(normed, key=lambda layer: layer.n_pruned)
    there = [name for name in networks if any(v is not None for v in layer.norms.get(name, ()))]
    if layer.ranking and there:
        title = f"Norms in {layer.name}"
        caption = f"Of the layer that lost most neurons, in the order of {label}, largest first."
        legend = [(f"s{networks.index(name)}", name) for name in there]
        figures.append(Figure(order_chart(layer, there, label), title, caption, legend))
    return figures


def _table(layers: Sequence[LayerFacts], shown: Sequence[LayerFacts]) -> Table:
    rows = [
        Row(
            [
                layer.name,
                count(layer.n_neurons),
                count(layer.n_pruned),
                percent(layer.n_pruned / layer.n_neurons),
                number(layer.ot_cost),
                number(layer.duality_gap),
                seconds(layer.seconds),
            ],
        )
        for layer in shown
    ]
    n, n_pruned = sum(layer.n_neurons for layer in layers), sum(x.n_pruned for x in layers)
    costs, times = (
        [value for layer in layers if (value := getattr(layer, key)) is not None]
        for key in ("ot_cost", "seconds")
    )
    rows.append(
        Row(
            [
                "all layers",
                count(n),
                count(n_pruned),
                percent(n_pruned / n),
                number(sum(costs) if costs else None),
                "",
                seconds(sum(times) if times else None),
            ],
            style="total",
        )
    )
    columns = ("layer", "neurons", "pruned", "pruned, %", "transport cost", "duality gap", "s")
    return Table(
        "What was done to each layer",
        columns,
        rows,
        note="A dash: the layer lies before the first that holds a pruned neuron, or it is not "
        "known.",
    )


def plan_section(report: RepairReport) -> Section | None:
    """Show one layer's plan as a heat map."""
    plan = report.plan
    if plan is None:
        return None
    size = len(plan.cells)
    groups = ""
    if size < plan.n_neurons:
        groups = (
            f"The {count(plan.n_neurons)} neurons are shown in {count(size)} groups, each the sum "
            "of its neurons, pruned and kept ones apart."
        )
    caption = join_sentences(
        f"Mass that goes from each neuron of the pruned network (rows) to each of the backdoored "
        f"one (columns) in {plan.layer}; {count(plan.n_pruned)} of {count(plan.n_neurons)} "
        "neurons are pruned and come first. What stays in place lies on the diagonal. The "
        "strength of the colour is the cube root of the mass.",
        groups,
    )
    figure = Figures([Figure(plan_chart(plan))])
    return Section("plan", "Transport plan", [Beside([figure, Text(caption)])])
