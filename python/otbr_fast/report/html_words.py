"""What a report says in words: careful ones. A repaired network is mitigated, never more."""

from __future__ import annotations

from collections.abc import Sequence

from otbr_fast.report.repair_report import RepairReport, Subject, Verdict

UNKNOWN = "–"
LONG = 32
"""Characters of a class's name that are shown outside charts."""

_NAMED = 3

_TERMS = {
    "ACC": "accuracy: images without a trigger taken for what they are.",
    "ASR": "attack success rate: triggered images taken for the attacker's class.",
    "RA": "robust accuracy: triggered images taken for what they are.",
    "TCR": "target class recall: images of the attacker's class, without a trigger, taken for it. "
    "A low ASR is cheap for a network that never answers with that class.",
    "DER": "defence effectiveness rate: gain in ASR against loss in ACC; 50 % is no change.",
    "hDER": "honest DER: gain in ASR against the larger of the losses in ACC and TCR; 50 % is no "
    "change.",
}
_MORE_TERMS = {
    "verdict": {
        "p-value": "how often a network that nobody attacked would look at least as suspicious.",
        "null band": "where the statistic of such networks' classes mostly lies.",
        "probe": "a perturbation, the same for all images, sought so that it leads them to one "
        "class: dense and small, a patch of few pixels, a slight warp, or a plane wave.",
        "lead": "the share of images that a probe leads to its class, less the share that probes "
        "of the kind and size lead to other classes. The larger, the less the probe is made of the "
        "class's own features.",
    },
    "proxies": {
        "proxy": "a figure that needs no data and stands in for one that does.",
        "surrogate images": "synthetic images that stand in for data.",
    },
    "choice": {
        "γ": "the fraction of all neurons that is pruned.",
        "λ": "the share of the transported network in the fusion with the one that came.",
    },
    "layers": {
        "neuron": "one output channel of a convolution, with its incoming weights.",
        "NWC": "neuron weight change: how far unlearning on noise moved a neuron's weights.",
        "pruned": "set to zero, before transport fills the place.",
        "transport": "optimal transport: the cheapest way to carry the pruned network's neurons "
        "to the places of the backdoored one's.",
        "duality gap": "how far from optimal the transport can be at most; 0 is a proof.",
    },
}


def number(value: float | None) -> str:
    """Write a number with four significant digits."""
    return UNKNOWN if value is None else f"{value:.4g}"


def percent(value: float | None) -> str:
    """Write a fraction in percent, with one digit after the point."""
    return UNKNOWN if value is None else f"{100 * value:.1f}"


def seconds(value: float | None) -> str:
    """Write a time, to the hundredth."""
    return UNKNOWN if value is None else f"{value:,.2f}"


def count(value: int | None) -> str:
    """Write a whole number with separators."""
    return UNKNOWN if value is None else f"{value:,}"


def p_text(value: float | None) -> str:
    """Write a p-value."""
    return UNKNOWN if value is None else "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def p_equals(value: float | None) -> str:
    """Write "p = ..." with the right sign."""
    told = p_text(value)
    return f"p {told}" if told.startswith("<") else f"p = {told}"


def cut(name: str, most: int) -> str:
    """Cut a long name at its end, as suits classes, which begin with their number."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def short(name: str, most: int = 14) -> str:
    """Cut a long name in the middle, as suits layers, which end with what tells them apart."""
    if len(name) <= most:
        return name
    tail = (most - 1) * 2 // 3
    return f"{name[: most - 1 - tail]}…{name[-tail:]}"


def verdict_sentence(verdict: Verdict | None, subject: Subject) -> str:
    """Say whether there is a sign of a backdoor."""
    if verdict is None:
        return "No verdict was sought."
    if not verdict.found:
        known = [verdict.p_value] if verdict.p_value is not None else _p_values(verdict)
        least = "the network's" if verdict.p_value is not None else "smallest"
        if not known:
            return "Whether there is a sign of a backdoor cannot be told: the classes are too few."
        return f"No sign of a backdoor found ({least} {p_equals(min(known))})."
    suspects = sorted(verdict.suspects, key=lambda s: 1.0 if s.p_value is None else s.p_value)
    if not suspects:
        told = "" if verdict.p_value is None else f" ({p_equals(verdict.p_value)})"
        return f"Sign of a backdoor found, without a single suspected class{told}."
    named = [
        f"{cut(subject.label(s.index), LONG)} ({p_equals(s.p_value)})" for s in suspects[:_NAMED]
    ]
    rest = len(suspects) - len(named)
    told = ", ".join(named) + (f" and {rest} more" if rest else "")
    return f"Sign of a backdoor found: {'classes' if len(suspects) > 1 else 'class'} {told}."


def action_sentence(report: RepairReport) -> str:
    """Say what was done to the network."""
    if report.action == "unchanged":
        return "The weights were left as they are."
    chosen = report.choice.chosen if report.choice else None
    parts = []
    n, n_pruned = _neurons(report)
    if n:
        parts.append(f"{count(n_pruned)} of {count(n)} neurons pruned ({percent(n_pruned / n)} %)")
    if chosen is not None:
        settings = (("γ", chosen.gamma), ("λ", chosen.lambda_))
        parts += [f"{name} = {value:g}" for name, value in settings if value is not None]
    return "The network was mitigated" + (f": {', '.join(parts)}." if parts else ".")


def unknowns(report: RepairReport) -> list[str]:
    """Say what the figures do not tell."""
    told = []
    verdict = report.verdict
    if verdict is not None and not verdict.found and _p_values(verdict):
        told.append(
            "No sign found is no proof that there is no backdoor: it says that this search, with "
            "these probes, found none."
        )
    if verdict is not None and verdict.found:
        told.append(
            "A sign is no proof: now and then a network that nobody attacked looks as suspicious. "
            "How often is the p-value, as far as its null distribution fits this network."
        )
    if report.action == "mitigated":
        told.append(_not_measured(report))
    return told


def _not_measured(report: RepairReport) -> str:
    measured = [stage.measured for stage in report.stages if stage.measured is not None]
    if any(one.asr is not None for one in measured):
        return (
            "The attack was measured with the trigger that was given; what another trigger would "
            "do is not known."
        )
    if measured:
        return (
            "No triggered images were given, so the attack's success, before and after, is not "
            "known. Mitigated does not mean that the backdoor is gone."
        )
    return (
        "No images were given, so accuracy and the attack's success, before and after, are not "
        "known; proxies stand in for them. Mitigated does not mean that the backdoor is gone."
    )


def glossary(report: RepairReport) -> list[tuple[str, str]]:
    """Return the terms that the report uses, with what they mean."""
    there = {
        "verdict": report.verdict is not None or bool(report.probes),
        "proxies": bool(report.proxies),
        "choice": report.choice is not None,
        "layers": bool(report.layers),
    }
    terms = dict(_TERMS) if report.is_measured else {}
    for part, more in _MORE_TERMS.items():
        terms |= more if there[part] else {}
    return list(terms.items())


def left_out(shown: int, total: int, what: str) -> str:
    """Say how many are not shown; nothing if all are."""
    if shown >= total:
        return ""
    return f"{count(shown)} of {count(total)} {what} are shown; all are in the JSON."


def join_sentences(*sentences: str) -> str:
    """Join those that are not empty."""
    return " ".join(sentence for sentence in sentences if sentence)


def _neurons(report: RepairReport) -> tuple[int, int]:
    layers = report.layers
    return sum(layer.n_neurons for layer in layers), sum(layer.n_pruned for layer in layers)


def _p_values(verdict: Verdict) -> Sequence[float]:
    return [one.p_value for one in verdict.classes if one.p_value is not None]
