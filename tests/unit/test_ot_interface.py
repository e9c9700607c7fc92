"""The two faces of `otbr_fast.ot`: kinds, dtypes, keys, refusals; imports; interruption."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import ot as pot
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

import otbr_fast
from otbr_fast import ot, versions

RNG = np.random.default_rng(3)
M = RNG.random((6, 9))
A, B = np.ones(6) / 6, np.ones(9) / 9


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", ["otbr_fast", "otbr_fast.ot"])
def test_imports_are_light(module: str) -> None:
    heavy = "[m for m in ('torch', 'scipy', 'matplotlib', 'pydantic') if m in sys.modules]"
    assert run_python(f"import sys, {module}; print({heavy})").strip() == "[]"


def test_the_codes_hash_tells_a_changed_or_renamed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "_FOLDER", tmp_path)
    (tmp_path / "repair").mkdir()
    (tmp_path / "repair" / "fuse.py").write_text("a = 1\n")
    first = versions.code_hash()
    (tmp_path / "repair" / "fuse.pyc").write_text("made from it\n")
    assert versions.code_hash() == first
    (tmp_path / "repair" / "fuse.py").write_text("a = 2\n")
    changed = versions.code_hash()
    (tmp_path / "repair" / "fuse.py").rename(tmp_path / "fuse.py")
    assert len({first, changed, versions.code_hash()}) == 3


def test_show_versions_tells_what_a_report_needs() -> None:
    facts = otbr_fast.show_versions()
    assert facts["otbr_fast"] == otbr_fast.__version__
    assert facts["simd"] in {"avx512", "avx2", "neon", "portable"}
    assert facts["build_profile"] in {"release", "debug"}
    assert isinstance(facts["threads"], int)


@pytest.mark.parametrize(
    ("call", "n"),
    [
        ("ot.sinkhorn([], [], M, 1e-3, numItermax=10**12, stopThr=0)", 100),
        ("[ot.emd2([], [], M) for _ in range(10**9)]", 1500),
        ("[ot.cost_matrix(M, M) for _ in range(10**9)]", 1500),
    ],
)
def test_ctrl_c_stops_a_solver_that_runs_without_the_gil(call: str, n: int) -> None:
    """A second thread can only ask for the interrupt if the solver lets it run."""
    code = """
import _thread, signal, threading, time, numpy
from otbr_fast import ot, versions
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
begin = threading.Event()
M = numpy.random.default_rng(0).random((CELLS, CELLS))

def interrupt():
    begin.wait()
    time.sleep(0.5)
    _thread.interrupt_main()

threading.Thread(target=interrupt).start()
try:
    begin.set()
    CALL
except KeyboardInterrupt:
    print("interrupted")
""".replace("CALL", call).replace("CELLS", str(n))
    assert run_python(code).strip() == "interrupted"


def test_emd_gives_pots_objective_and_keys() -> None:
    ours, our_log = ot.emd(A, B, M, log=True)
    theirs, their_log = pot.emd(A, B, M, log=True)
    assert set(our_log) == set(their_log)
    assert (ours * M).sum() == pytest.approx((theirs * M).sum(), rel=1e-12)
    assert our_log["cost"] == pytest.approx(their_log["cost"], rel=1e-12)
    assert (our_log["warning"], our_log["result_code"]) == (None, 1)
    assert A @ our_log["u"] == pytest.approx(B @ our_log["v"])


def test_emd2_gives_pots_numbers_and_keys() -> None:
    assert ot.emd2(A, B, M) == pytest.approx(pot.emd2(A, B, M), rel=1e-12)
    several = RNG.random((9, 3))
    several /= several.sum(0)
    np.testing.assert_allclose(ot.emd2(A, several, M), pot.emd2(A, several, M), rtol=1e-12)
    value, log = ot.emd2(A, B, M, log=True, return_matrix=True)
    _, their_log = pot.emd2(A, B, M, log=True, return_matrix=True)
    assert set(log) == set(their_log)
    assert (log["G"] * M).sum() == pytest.approx(value)


def test_sinkhorn_gives_pots_keys_and_several_histograms() -> None:
    _, log = ot.sinkhorn(A, B, M, 0.1, log=True)
    _, plain = pot.sinkhorn(A, B, M, 0.1, log=True)
    _, logarithmic = pot.sinkhorn(A, B, M, 0.1, method="sinkhorn_log", log=True)
    assert set(plain) | set(logarithmic) <= set(log)
    np.testing.assert_allclose(
        log["u"][:, None] * np.exp(-M / 0.1) * log["v"], ot.sinkhorn(A, B, M, 0.1)
    )
    several = RNG.random((9, 3))
    several /= several.sum(0)
    theirs = pot.sinkhorn(A, several, M, 0.1, method="sinkhorn_log")
    np.testing.assert_allclose(ot.sinkhorn(A, several, M, 0.1), theirs, rtol=1e-6)
    with pytest.raises(ValueError, match="screenkhorn"):
        ot.sinkhorn(A, B, M, 0.1, method="screenkhorn")


def test_a_plan_cut_short_is_never_passed_off_as_optimal() -> None:
    big = RNG.random((80, 80))
    with pytest.warns(UserWarning, match="numItermax reached"):
        _, log = ot.emd([], [], big, numItermax=2, log=True)
    assert log["result_code"] == 3
    assert "above the optimum" in log["warning"]
    result = ot.solve(big, numItermax=2)
    assert result.status == "iteration_limit"
    assert result.value - result.certificate.duality_gap <= ot.solve(big).value <= result.value


@pytest.mark.parametrize("function", [ot.emd, ot.emd2, lambda a, b, M: ot.sinkhorn(a, b, M, 0.1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_in_tensors_out(function: object, dtype: torch.dtype) -> None:
    a, b, cost = (torch.tensor(x, dtype=dtype) for x in (A, B, M))
    result = function(a, b, cost)  # type: ignore[operator]
    assert isinstance(result, torch.Tensor)
    assert result.dtype == dtype
    expected = function(A, B, M)  # type: ignore[operator]
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)


def test_solve_and_cost_matrix_keep_the_kind() -> None:
    X = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    cost = ot.cost_matrix(X)
    assert isinstance(cost, torch.Tensor)
    assert cost.dtype == torch.float32
    result = ot.solve(cost)
    assert isinstance(result.dense_plan(), torch.Tensor)
    assert all(isinstance(p, torch.Tensor) for p in result.potentials)
    assert isinstance(ot.solve(cost.numpy()).dense_plan(), np.ndarray)


def test_a_gradient_is_not_lost_in_silence() -> None:
    cost = torch.ones(2, 2, requires_grad=True)
    with pytest.raises(ValueError, match=r"M requires a gradient.*sinkhorn2.*detach"):
        ot.sinkhorn([], [], cost, 1.0)
    with pytest.raises(ValueError, match=r"X requires a gradient.*detach"):
        ot.cost_matrix(cost)


def test_lists_integers_and_strided_arrays_are_taken() -> None:
    assert ot.emd([0.5, 0.5], [0.5, 0.5], [[0, 1], [1, 0]]).tolist() == [[0.5, 0], [0, 0.5]]
    assert ot.emd2([], [], M[::2, ::-3]) == pytest.approx(ot.emd2([], [], M[::2, ::-3].copy()))
    with pytest.raises(ValueError, match="dtype complex"):
        ot.solve([[1j]])
    with pytest.raises(ValueError, match="M is sparse"):
        ot.solve(csr_array(M), A, B)
    with pytest.raises(ValueError, match="shape"):
        ot.solve([1.0, 2.0])
    with pytest.raises(ValueError, match="at least one row"):
        ot.solve(np.empty((0, 3)))


def test_check_marginals_false_scales_b() -> None:
    with pytest.raises(ValueError, match="sums to"):
        ot.emd(A, 2 * B, M)
    plan = ot.emd(A, 2 * B, M, check_marginals=False)
    np.testing.assert_allclose(plan.sum(0), B)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ot.emd, pot.emd),
        (ot.emd2, pot.emd2),
        (ot.sinkhorn, pot.sinkhorn),
        (ot.sinkhorn2, pot.sinkhorn2),
        (ot.sinkhorn_unbalanced, pot.sinkhorn_unbalanced),
        (ot.partial_wasserstein, pot.partial.partial_wasserstein),
        (ot.entropic_partial_wasserstein, pot.partial.entropic_partial_wasserstein),
    ],
)
def test_arguments_are_pots_in_pots_order(
    ours: Callable[..., Any], theirs: Callable[..., Any]
) -> None:
    parameters = signature(theirs).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind != parameter.VAR_KEYWORD]
    assert list(signature(ours).parameters)[: len(names)] == names


def test_a_result_is_its_own_and_can_be_pickled() -> None:
    cost = M.copy()
    for reg in (None, 0.1):
        result = ot.solve(cost, A, B, reg)
        before = result.dense_plan()
        cost *= 10
        again = pickle.loads(pickle.dumps(result))
        np.testing.assert_array_equal(result.dense_plan(), before)
        np.testing.assert_array_equal(again.dense_plan(), before)
        np.testing.assert_array_equal(again.plan.toarray(), before)


def test_single_precision_costs_do_not_narrow_the_plan() -> None:
    plan = ot.emd(A, B, M.astype(np.float32))
    assert plan.dtype == np.float64
    np.testing.assert_allclose(plan.sum(1), A, rtol=1e-15)
    assert ot.solve(M.astype(np.float32), A, B).dense_plan().dtype == np.float64
    assert ot.emd(A.astype(np.float32), B.astype(np.float32), M).dtype == np.float32


def test_counts_are_whole_and_positive() -> None:
    assert ot.emd2(A, B, M, numItermax=1e6) == pytest.approx(ot.emd2(A, B, M))  # type: ignore[arg-type]
    assert ot.solve(M, numItermax=10**30).status == "optimal"
    for bad in (0, -1, 1.5, np.inf, np.nan, "many"):
        with pytest.raises(ValueError, match=rf"n_threads is {bad}"):
            ot.solve(M, n_threads=bad)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=rf"numItermax is {bad}"):
            ot.solve(M, numItermax=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a vector of 6 masses"):
        ot.solve(M, 1.0, B)


def test_a_time_limit_that_never_ends_is_none() -> None:
    for limit in (np.inf, 1e300):
        assert ot.solve(M, A, B, time_limit=limit).status == "optimal"
    for bad in (-1.0, np.nan):
        with pytest.raises(ValueError, match="time_limit is"):
            ot.solve(M, A, B, time_limit=bad)


def test_callbacks_and_starts_of_the_wrong_kind_are_named() -> None:
    with pytest.raises(ValueError, match="callback is 3"):
        ot.solve(M, A, B, callback=3)  # type: ignore[arg-type]
    for reg in (None, 0.1):
        with pytest.raises(ValueError, match=r"warmstart\[1\] has shape \(9, 1\)"):
            ot.solve(M, A, B, reg, warmstart=(None, np.zeros((9, 1))))


def test_results_are_compared_by_what_they_are() -> None:
    result = ot.solve(M, A, B)
    assert result == result
    assert result != ot.solve(M, A, B)
    assert len({result, ot.solve(M, A, B)}) == 2


def test_a_batch_shares_masses_in_a_list() -> None:
    results = ot.solve_batch([M, 2 * M], list(A), list(B))
    assert [r.value for r in results] == pytest.approx([ot.emd2(A, B, M), 2 * ot.emd2(A, B, M)])


def test_the_largest_cost_beside_infinite_ones_is_the_users_own() -> None:
    cost = np.full((60, 60), 9e118)
    cost[0, 0] = np.inf
    with pytest.raises(ValueError, match=r"largest finite \|M\|.* is 9e118"):
        ot.solve(cost)


def test_the_mass_does_not_change_when_sinkhorn_stops() -> None:
    one = ot.solve(M, A, B, 0.05)
    tiny = ot.solve(M, 1e-9 * A, 1e-9 * B, 0.05)
    np.testing.assert_allclose(tiny.dense_plan(), 1e-9 * one.dense_plan(), rtol=1e-6)
    assert tiny.certificate.marginal_error <= 1e-8 * 1e-9


@pytest.mark.parametrize("which", ["M", "a"])
def test_arrays_that_are_not_aligned_are_taken(which: str) -> None:
    def unaligned(x: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = np.frombuffer(b"\0" + x.tobytes(), dtype=np.uint8)[1:]
        return moved.view(np.float64).reshape(x.shape)

    cost, a = (unaligned(M), A) if which == "M" else (M, unaligned(A))
    assert not (cost.flags.aligned and a.flags.aligned)
    assert ot.solve(cost, a, B).value == ot.solve(M, A, B).value


def test_masked_entries_are_refused() -> None:
    masked = np.ma.masked_less(M, 0.1)
    with pytest.raises(ValueError, match="M has masked entries"):
        ot.solve(masked, A, B)
    nothing_masked = np.ma.masked_less(M, -1)
    assert ot.solve(nothing_masked, A, B).value == ot.solve(M, A, B).value


def test_big_endian_masses_and_a_tensor() -> None:
    plan = ot.emd(A.astype(">f8"), B, torch.from_numpy(M))
    assert torch.equal(plan, ot.emd(torch.from_numpy(A), B, torch.from_numpy(M)))


def test_complex_costs_are_refused_even_if_they_are_sparse() -> None:
    for costs in (M * 1j, csr_array(M * 1j)):
        with pytest.raises(ValueError, match="complex"):
            ot.emd(A, B, costs)


@pytest.mark.parametrize(
    "entropic",
    [
        lambda reg: ot.solve(torch.from_numpy(M), A, B, reg),
        lambda reg: ot.sinkhorn(A, B, M, reg),
        lambda reg: ot.sinkhorn2(A, B, M, reg),
        lambda reg: ot.sinkhorn_unbalanced(A, B, M, reg, 1.0),
        lambda reg: ot.entropic_partial_wasserstein(A, B, M, reg, m=0.5),
    ],
)
def test_a_regularisation_that_wants_a_gradient_is_refused(
    entropic: Callable[[Any], object],
) -> None:
    with pytest.raises(ValueError, match=r"reg requires a gradient"):
        entropic(torch.tensor(0.1, requires_grad=True))
    entropic(torch.tensor(0.1))
    with pytest.raises(ValueError, match="reg is"):
        entropic([0.1, 0.2])


def test_half_precision_masses_are_summed_in_full() -> None:
    a = np.full(6, 20000.0, dtype=np.float16)
    b = np.full(9, 6 * 20000.0 / 9)
    told = ot.sinkhorn(a, b, M, 0.1, log=True)[1]
    same = ot.sinkhorn(a.astype(np.float64), b, M, 0.1, log=True)[1]
    assert told["niter"] == same["niter"]


def test_masses_of_another_length_are_told_as_they_came() -> None:
    with pytest.raises(ValueError, match=rf"b has {len(B) + 1} masses, but M has shape"):
        ot.partial_wasserstein(A, np.append(B, 0.1), M, m=0.5)
