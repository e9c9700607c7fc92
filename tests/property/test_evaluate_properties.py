from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from otbr_fast.evaluate import Metrics, Trigger, der, hder

_FRACTIONS = st.floats(0, 1)
_METRICS = st.builds(Metrics, acc=_FRACTIONS, asr=_FRACTIONS, ra=_FRACTIONS, tcr=_FRACTIONS)
_SEEDS = st.integers(0, 2**32)


@given(_METRICS, _METRICS)
def test_rates_stay_within_bounds_and_hder_is_the_stricter(before: Metrics, after: Metrics) -> None:
    lenient, strict = der(before, after), hder(before, after)
    assert lenient is not None
    assert strict is not None
    assert 0 <= strict <= lenient <= 1


@given(_METRICS)
def test_doing_nothing_scores_one_half(metrics: Metrics) -> None:
    assert der(metrics, metrics) == hder(metrics, metrics) == 0.5


@given(_SEEDS)
def test_a_blend_lies_between_image_and_pattern(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, 2, 4, 5, generator=generator)
    mask, pattern = torch.rand(2, 2, 4, 5, generator=generator)
    blended = Trigger(mask, pattern).apply(x)
    assert bool((blended >= torch.minimum(x, pattern) - 1e-6).all())
    assert bool((blended <= torch.maximum(x, pattern) + 1e-6).all())


@given(_SEEDS)
def test_a_mask_of_nothing_and_of_all(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, 2, 4, 5, generator=generator)
    pattern = torch.rand(2, 4, 5, generator=generator)
    nothing, everything = torch.zeros(4, 5), torch.ones(4, 5)
    assert torch.equal(Trigger(nothing, pattern).apply(x), x)
    assert torch.equal(Trigger(everything, pattern).apply(x), pattern.expand_as(x))
