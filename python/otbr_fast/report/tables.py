"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from rich import box
from rich.table import Table

from otbr_fast.evaluate import Metrics, der, hder
from otbr_fast.repair import Candidate, LayerReport, RepairResult, Verdict
from otbr_fast.report.sweep import Row

_METRICS = ("ACC", "ASR", "RA", "TCR", "DER", "hDER")


def metric_table(rows: Sequence[Row]) -> Table:
    """Return γ x (ACC, ASR, RA, TCR, DER, hDER), in percent; what was not measured is a dash.

    A column of λ is there only if several were tried.
    """
    several_lambdas = len({row.lambda_ for row in rows} - {None}) > 1
    table = _table("stage", "γ", *(["λ"] if several_lambdas else []), "pruned", *_METRICS)
    for i, row in enumerate(rows):
        values = row.to_dict()
        table.add_row(
            row.stage,
            _number(row.gamma),
            *([_number(row.lambda_)] if several_lambdas else []),
            str(row.n_pruned),
            *(_percent(values[name.lower()]) for name in _METRICS),
            end_section=[other.gamma for other in rows[i + 1 : i + 2]] != [row.gamma],
        )
    return table


def measured_table(before: Metrics, after: Metrics) -> Table:
    """Return what was measured before and after one repair, in percent."""
    gains = {"der": der(before, after), "hder": hder(before, after)}
    table = _table("measured", *_METRICS)
    for name, metrics, more in (("before", before, {}), ("after", after, gains)):
        values = {**asdict(metrics), **more}
        table.add_row(name, *(_percent(values.get(name.lower())) for name in _METRICS))
    return table


def layer_table(layers: Sequence[LayerReport]) -> Table:
    """Return what one repair did to each layer; dashes where there was no transport."""
    table = _table("layer", "neurons", "pruned", "transport cost", "duality gap")
    for layer in layers:
        table.add_row(
            layer.name,
            str(layer.n_neurons),
            str(layer.n_pruned),
            _number(layer.ot_cost),
            _number(layer.duality_gap, ".1e"),
        )
    return table


def pruned_table(layers: Mapping[float, Sequence[LayerReport]]) -> Table:
    """Return the pruned neurons of each layer for each γ, and the transport's cost in all."""
    table = _table("layer", "neurons", *map(_number, layers))
    table.title = "pruned neurons for each γ"
    for same_layer in zip(*layers.values(), strict=True):
        first = same_layer[0]
        pruned = (str(layer.n_pruned) for layer in same_layer)
        table.add_row(first.name, str(first.n_neurons), *pruned)
    table.add_section()
    costs = (sum(layer.ot_cost or 0.0 for layer in of_gamma) for of_gamma in layers.values())
    table.add_row("transport cost", "", *(_number(cost, ".4g") for cost in costs))
    return table


def candidate_table(result: RepairResult) -> Table:
    """Return what γ and λ were chosen from and what became of it, with the proxies in percent."""
    table = _table("", "gamma", "lambda", "agreement", "on suspect", "probe success", "score")
    table.title = "chosen without data, by proxies"

    def add(name: str, one: Candidate, style: str | None = None) -> None:
        proxies = one.proxies
        shares = (proxies.agreement, proxies.target_agreement, proxies.probe_success, one.score)
        cells = (f"{100 * share:.1f}" for share in shares)
        table.add_row(name, _number(one.gamma), _number(one.lambda_), *cells, style=style)

    chosen = (result.gamma, result.lambda_)
    for one in result.candidates:
        add("fused", one, "bold" if (one.gamma, one.lambda_) == chosen else None)
    if result.mitigated is not None:
        add("mitigated", result.mitigated)
    return table


def verdict_table(verdict: Verdict) -> Table:
    """Return how easy each class is to reach, the easiest to reach in bold if that is a sign."""
    table = _table(
        "class", "loss of its probes", "asymmetry", "loss of its wave", "statistic", "p-value"
    )
    for one in verdict.classes:
        losses = ", ".join(f"{loss:.3g}" for loss in one.losses)
        known = (one.asymmetry, one.wave_loss, one.statistic, one.p_value)
        told = ("-" if value is None else f"{value:.2g}" for value in known)
        style = "bold" if one.target == verdict.suspect else None
        table.add_row(str(one.target), losses, *told, style=style)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _percent(value: object) -> str:
    return f"{100 * value:.2f}" if isinstance(value, float) else "-"


def _number(value: float | None, form: str = "g") -> str:
    return "-" if value is None else format(value, form)
