//! Entropic solvers, plans from potentials, rounding.

use numpy::{Element, PyArray1, PyReadonlyArray1, PyReadwriteArray2};
use otbr_core::entropic::{
    self as core, Reference, Relaxation, SinkhornOptions, dense_plan, sinkhorn, sinkhorn_partial,
    sinkhorn_unbalanced,
};
use otbr_core::{Problem, Scalar, Threads};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Entries, Matrix, to_numpy, vector};
use crate::call::{run, to_py};

/// Entropic potentials and what they give. Arrays are numpy's.
#[pyclass(frozen, get_all, module = "otbr_fast._core")]
pub struct EntropicSolution {
    f: Py<PyArray1<f64>>,
    g: Py<PyArray1<f64>>,
    errors: Py<PyArray1<f64>>,
    value: f64,
    duality_gap: f64,
    marginal_error: f64,
    converged: bool,
    n_iter: u64,
}

impl EntropicSolution {
    fn new(py: Python<'_>, solution: core::EntropicSolution) -> Self {
        Self {
            f: to_numpy(py, solution.f),
            g: to_numpy(py, solution.g),
            errors: to_numpy(py, solution.errors),
            value: solution.value,
            duality_gap: solution.duality_gap,
            marginal_error: solution.marginal_error,
            converged: solution.converged,
            n_iter: solution.n_iter,
        }
    }
}

/// Entropic optimal transport; `start` are column potentials of an earlier solution. Fills `plan`, of the
/// shape and element type of M, with the plan, which takes no pass of its own.
#[pyfunction]
#[pyo3(signature = (M, a, b, reg, max_iter, stop_threshold, start, n_threads, plan))]
#[allow(non_snake_case, clippy::too_many_arguments)] // One argument for each of Python's.
pub fn solve_entropic(
    py: Python<'_>,
    M: Matrix<'_>,
    a: PyReadonlyArray1<'_, f64>,
    b: PyReadonlyArray1<'_, f64>,
    reg: f64,
    max_iter: u64,
    stop_threshold: f64,
    start: Option<PyReadonlyArray1<'_, f64>>,
    n_threads: Option<usize>,
    plan: &Bound<'_, PyAny>,
) -> PyResult<EntropicSolution> {
    let masses = (vector("a", &a)?, vector("b", &b)?);
    let start = start.as_ref().map(|g| vector("warmstart", g)).transpose()?;
    let options = SinkhornOptions { reg, max_iter, stop_threshold };
    let threads = Threads::new(n_threads).map_err(to_py)?;
    match &M {
        Matrix::F32(cost) => {
            entropic(py, Entries::new("M", cost)?, masses, options, start, &threads, plan.extract()?)
        }
        Matrix::F64(cost) => {
            entropic(py, Entries::new("M", cost)?, masses, options, start, &threads, plan.extract()?)
        }
    }
}

fn entropic<T: Scalar + Element>(
    py: Python<'_>,
    cost: Entries<'_, T>,
    (a, b): (&[f64], &[f64]),
    options: SinkhornOptions,
    start: Option<&[f64]>,
    threads: &Threads,
    mut plan: PyReadwriteArray2<'_, T>,
) -> PyResult<EntropicSolution> {
    let plan = plan.as_slice_mut()?;
    let solution = run(py, |interrupt| {
        let problem = Problem::new(cost.view("M", threads)?, a, b)?;
        sinkhorn(&problem, options, start, plan, threads, interrupt)
    })?;
    Ok(EntropicSolution::new(py, solution))
}

/// Entropic transport with marginals that are paid for: `reg_m` for the rows and for the columns.
#[pyfunction]
#[pyo3(signature = (M, a, b, reg, reg_m, reg_type, max_iter, stop_threshold, n_threads))]
#[allow(non_snake_case, clippy::too_many_arguments)] // One argument for each of Python's.
pub fn solve_unbalanced(
    py: Python<'_>,
    M: Matrix<'_>,
    a: PyReadonlyArray1<'_, f64>,
    b: PyReadonlyArray1<'_, f64>,
    reg: f64,
    reg_m: (f64, f64),
    reg_type: &str,
    max_iter: u64,
    stop_threshold: f64,
    n_threads: Option<usize>,
) -> PyResult<EntropicSolution> {
    let masses = (vector("a", &a)?, vector("b", &b)?);
    let reference = match reg_type {
        "kl" => Reference::Product,
        "entropy" => Reference::Ones,
        other => {
            let message = format!("reg_type is {other:?}; choose \"kl\" or \"entropy\"");
            return Err(PyValueError::new_err(message));
        }
    };
    let relaxation = Relaxation { rows: reg_m.0, columns: reg_m.1, reference };
    let options = SinkhornOptions { reg, max_iter, stop_threshold };
    let threads = Threads::new(n_threads).map_err(to_py)?;
    match &M {
        Matrix::F32(cost) => unbalanced(py, Entries::new("M", cost)?, masses, relaxation, options, &threads),
        Matrix::F64(cost) => unbalanced(py, Entries::new("M", cost)?, masses, relaxation, options, &threads),
    }
}

fn unbalanced<T: Scalar>(
    py: Python<'_>,
    cost: Entries<'_, T>,
    masses: (&[f64], &[f64]),
    relaxation: Relaxation,
    options: SinkhornOptions,
    threads: &Threads,
) -> PyResult<EntropicSolution> {
    let solution = run(py, |interrupt| {
        sinkhorn_unbalanced(cost.view("M", threads)?, masses, relaxation, options, threads, interrupt)
    })?;
    Ok(EntropicSolution::new(py, solution))
}

/// Entropic transport of a part `m` of the mass.
#[pyfunction]
#[pyo3(signature = (M, a, b, reg, m, max_iter, stop_threshold, n_threads))]
#[allow(non_snake_case, clippy::too_many_arguments)] // One argument for each of Python's.
pub fn solve_partial(
    py: Python<'_>,
    M: Matrix<'_>,
    a: PyReadonlyArray1<'_, f64>,
    b: PyReadonlyArray1<'_, f64>,
    reg: f64,
    m: f64,
    max_iter: u64,
    stop_threshold: f64,
    n_threads: Option<usize>,
) -> PyResult<EntropicSolution> {
    let masses = (vector("a", &a)?, vector("b", &b)?);
    let options = SinkhornOptions { reg, max_iter, stop_threshold };
    let threads = Threads::new(n_threads).map_err(to_py)?;
    match &M {
        Matrix::F32(cost) => partial(py, Entries::new("M", cost)?, masses, m, options, &threads),
        Matrix::F64(cost) => partial(py, Entries::new("M", cost)?, masses, m, options, &threads),
    }
}

fn partial<T: Scalar>(
    py: Python<'_>,
    cost: Entries<'_, T>,
    masses: (&[f64], &[f64]),
    m: f64,
    options: SinkhornOptions,
    threads: &Threads,
) -> PyResult<EntropicSolution> {
    let solution = run(py, |interrupt| {
        sinkhorn_partial(cost.view("M", threads)?, masses, m, options, threads, interrupt)
    })?;
    Ok(EntropicSolution::new(py, solution))
}

/// Fill `out`, of the shape and element type of M, with exp((f + g - M) / reg).
#[pyfunction]
#[pyo3(signature = (M, f, g, reg, n_threads, out))]
#[allow(non_snake_case)] // M is the field's name.
pub fn entropic_plan<'py>(
    py: Python<'py>,
    M: Matrix<'py>,
    f: PyReadonlyArray1<'py, f64>,
    g: PyReadonlyArray1<'py, f64>,
    reg: f64,
    n_threads: Option<usize>,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let potentials = (vector("f", &f)?, vector("g", &g)?);
    let threads = Threads::new(n_threads).map_err(to_py)?;
    match &M {
        Matrix::F32(cost) => plan(py, Entries::new("M", cost)?, potentials, reg, &threads, out.extract()?),
        Matrix::F64(cost) => plan(py, Entries::new("M", cost)?, potentials, reg, &threads, out.extract()?),
    }
}

fn plan<T: Scalar + Element>(
    py: Python<'_>,
    cost: Entries<'_, T>,
    (f, g): (&[f64], &[f64]),
    reg: f64,
    threads: &Threads,
    mut out: PyReadwriteArray2<'_, T>,
) -> PyResult<()> {
    let out = out.as_slice_mut()?;
    run(py, |_| dense_plan(&cost.view("M", threads)?, f, g, reg, out, threads))
}

/// Fill `out`, of the shape of G, with the nearest coupling of (a, b) to a plan that is almost one.
#[pyfunction]
#[pyo3(signature = (G, a, b, n_threads, out))]
#[allow(non_snake_case)] // G is the field's name.
pub fn round_plan<'py>(
    py: Python<'py>,
    G: Matrix<'py>,
    a: PyReadonlyArray1<'py, f64>,
    b: PyReadonlyArray1<'py, f64>,
    n_threads: Option<usize>,
    mut out: PyReadwriteArray2<'py, f64>,
) -> PyResult<()> {
    let masses = (vector("a", &a)?, vector("b", &b)?);
    let threads = Threads::new(n_threads).map_err(to_py)?;
    let out = out.as_slice_mut()?;
    match &G {
        Matrix::F32(plan) => rounded(py, Entries::new("G", plan)?, masses, &threads, out),
        Matrix::F64(plan) => rounded(py, Entries::new("G", plan)?, masses, &threads, out),
    }
}

fn rounded<T: Scalar>(
    py: Python<'_>,
    plan: Entries<'_, T>,
    (a, b): (&[f64], &[f64]),
    threads: &Threads,
    out: &mut [f64],
) -> PyResult<()> {
    run(py, |interrupt| core::round_plan(plan.view("G", threads)?, a, b, out, threads, interrupt))
}
