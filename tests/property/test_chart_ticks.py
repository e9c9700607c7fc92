"""Ticks of a chart's axis: round, within the range, and neither too few nor too many."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from otbr_fast.report.html_svg import ticks


@given(
    low=st.floats(-1e6, 1e6),
    length=st.floats(-9, 9).map(lambda power: 10.0**power),
    most=st.integers(1, 8),
)
def test_ticks_are_round_and_neither_too_few_nor_too_many(
    low: float, length: float, most: int
) -> None:
    length = max(length, 1e-6 * abs(low))  # no finer than an axis's labels
    high = low + length
    found = ticks(low, high, most)
    assert (2 if most >= 5 else 0) <= len(found) <= most
    assert all(low - 1e-6 * length <= tick <= high + 1e-6 * length for tick in found)
    if len(found) > 1:
        step = found[1] - found[0]
        leading = step / 10.0 ** math.floor(math.log10(step) + 1e-6)
        assert min(abs(leading - digit) for digit in (1, 2, 5)) < 1e-3
        assert min(found[0] - low, high - found[-1]) < step
