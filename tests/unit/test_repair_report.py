"""The data of a report: they survive JSON, hold no NaN, and do not contradict themselves."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from report_helpers import candidates, full_report, image, layer, least_report

from otbr_fast.errors import OtbrFastError
from otbr_fast.report.repair_report import (
    Choice,
    ClassVerdict,
    Example,
    LayerFacts,
    PlanMap,
    RepairReport,
)


@pytest.mark.parametrize("is_measured", [True, False])
def test_json_and_back(is_measured: bool) -> None:
    report = full_report(is_measured=is_measured)
    assert RepairReport.from_json(report.to_json()) == report


def test_least_report_and_back() -> None:
    report = least_report()
    assert RepairReport.from_json(report.to_json().encode()) == report


@given(value=st.floats() | st.none())
def test_a_number_is_finite_or_not_known(value: float | None) -> None:
    told = ClassVerdict(index=0, statistic=value).statistic
    is_known = value is not None and math.isfinite(value)
    assert told == (value if is_known else None)


@given(values=st.lists(st.floats(width=32), min_size=1, max_size=9))
def test_many_numbers_survive_json(values: list[float]) -> None:
    ranking = np.array(values, dtype=np.float32)
    facts = LayerFacts.model_validate(
        {"name": "a", "n_neurons": len(values), "n_pruned": 0, "ranking": ranking}
    )
    report = least_report(layers=(facts,))
    text = report.to_json()
    assert RepairReport.from_json(text) == report
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
    for told, value in zip(facts.ranking, values, strict=True):
        if math.isfinite(value):
            assert told == pytest.approx(value, rel=1e-5)
        else:
            assert told is None


def test_two_chosen_candidates_are_refused() -> None:
    chosen = next(candidate for candidate in candidates(False) if candidate.chosen)
    with pytest.raises(ValidationError, match="2 candidates are marked"):
        Choice(candidates=(chosen, chosen))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ranking": (1.0,)}, "ranking has 1 values for 8"),
        ({"norms": {"fused": (1.0, 2.0)}}, "fused has 2 values for 8"),
        ({"n_pruned": 9, "pruned": None}, "9 of 8 neurons"),
        ({"pruned": (0, 1, 2)}, "n_pruned is 2, but 3"),
        ({"pruned": (0, 0)}, "n_pruned is 2, but 1"),
        ({"pruned": (0, 8)}, "not one of the 8"),
    ],
)
def test_a_layer_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LayerFacts.model_validate({**layer().model_dump(), **changes})


@pytest.mark.parametrize("cells", [(), ((1.0, 2.0),), ((1.0,), (1.0,))])
def test_a_plan_that_is_no_square_is_refused(cells: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ValidationError, match="square"):
        PlanMap(layer="a", n_neurons=2, n_pruned=1, cells=cells, pruned_cells=0)


@pytest.mark.parametrize(
    "text", ["x", "javascript:alert(1)", base64.b64encode(b"<svg onload=alert(1)>").decode()]
)
def test_only_png_is_an_image(text: str) -> None:
    with pytest.raises(ValidationError, match=r"base64|PNG"):
        Example(image=text)
    Example(image=image())


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"asked": 1}'])
def test_what_is_no_report_is_refused(text: str) -> None:
    with pytest.raises(OtbrFastError, match="not the JSON of a repair report"):
        RepairReport.from_json(text)


def test_a_key_that_is_not_known_is_named() -> None:
    document = json.loads(least_report().to_json())
    with pytest.raises(OtbrFastError, match="colour"):
        RepairReport.from_json(json.dumps({**document, "colour": "red"}))
