"""Properties of masses and of the choice of neurons, over random and degenerate NWCs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from otbr_fast.errors import RepairError
from otbr_fast.repair import mass, round_as_published, select_pruned

# Ties, zeros and magnitudes far apart: what NWCs of dead and of lively neurons look like.
VALUES = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1e12), st.floats(0, 1e-12), st.just(5e-324)
)
LAYERS = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(VALUES, min_size=1, max_size=12).map(np.array), min_size=1
)
GAMMAS = st.floats(0.001, 0.999)


@given(nwc=LAYERS, gamma=GAMMAS)
@settings(max_examples=300)
def test_the_chosen_are_the_largest_and_as_many_as_gamma_says(
    nwc: dict[str, NDArray[np.float64]], gamma: float
) -> None:
    n = sum(values.size for values in nwc.values())
    assume(int(gamma * n) > 0)
    try:
        pruned = select_pruned(nwc, gamma)
    except RepairError as error:
        _check_refusal(nwc, gamma, str(error))
        return
    every = [(-v, i) for i, v in enumerate(np.concatenate(list(nwc.values())))]
    expected = {i for _, i in sorted(every)[: int(gamma * n)]}
    assert list(pruned) == list(nwc)
    assert set(np.flatnonzero(np.concatenate(list(pruned.values())))) == expected
    assert not any(mask.all() for mask in pruned.values())


def _check_refusal(nwc: dict[str, NDArray[np.float64]], gamma: float, message: str) -> None:
    """A refusal is true, and the gamma it offers works and is the largest that does."""
    assert "prunes all neurons" in message
    if "no gamma" in message:
        return
    n = sum(values.size for values in nwc.values())
    offered = float(message.rsplit("gamma=", 1)[1].split(" ")[0])
    assert offered < gamma
    pruned = select_pruned(nwc, offered)
    n_pruned = sum(int(mask.sum()) for mask in pruned.values())
    with pytest.raises(RepairError):
        select_pruned(nwc, (n_pruned + 1.5) / n)


@given(nwc=LAYERS, scale=st.sampled_from([1e-3, 0.5, 2.0, 1024.0]), gamma=GAMMAS)
def test_the_choice_does_not_depend_on_an_exact_scale(
    nwc: dict[str, NDArray[np.float64]], scale: float, gamma: float
) -> None:
    scale = 2.0 ** round(np.log2(scale))  # a power of two keeps ties and order
    assume(all((v == 0).all() or v[v > 0].min() > 1e-300 for v in nwc.values()))
    try:
        pruned = select_pruned(nwc, gamma)
    except RepairError:
        return
    scaled = select_pruned({name: scale * values for name, values in nwc.items()}, gamma)
    assert all(np.array_equal(pruned[name], scaled[name]) for name in nwc)


@given(nwc=st.lists(VALUES, min_size=1, max_size=50).map(np.array))
@settings(max_examples=300)
def test_default_masses_are_positive_sum_to_one_and_keep_the_order(
    nwc: NDArray[np.float64],
) -> None:
    beta = mass("layer", nwc, "default")
    assert beta.sum() == pytest.approx(1, abs=1e-12)
    assert beta.min() >= 0.99e-6 / nwc.size / (1 + 1e-6)
    order = np.argsort(nwc, kind="stable")
    assert (np.diff(beta[order]) >= 0).all()


@given(nwc=st.lists(VALUES, min_size=1, max_size=50).map(np.array))
@settings(max_examples=300)
def test_paper_masses_are_positive_and_sum_to_one_or_are_refused(
    nwc: NDArray[np.float64],
) -> None:
    rounded = round_as_published({"layer": nwc})["layer"]
    if (rounded == 0).any():
        with pytest.raises(RepairError, match="rounds to 0"):
            mass("layer", rounded, "paper")
        return
    beta = mass("layer", rounded, "paper")
    assert (beta > 0).all()
    assert beta.sum() == pytest.approx(1, abs=1e-12)
