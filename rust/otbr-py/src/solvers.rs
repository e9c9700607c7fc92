//! Distances and solvers.

use numpy::{Element, PyArray1, PyArray2, PyReadonlyArray1, PyReadwriteArray2};
use otbr_core::cost::Metric;
use otbr_core::entropic::{SinkhornOptions, dense_plan, sinkhorn};
use otbr_core::{Problem, Scalar, Threads};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::arrays::{Entries, Matrix, matrix_to_numpy, to_numpy, vector};
use crate::call::{run, to_py};

/// Fill `out`, of the shape and element type of the result, with the distances between rows; X, Y
/// and `out` must have the same element type.
#[pyfunction]
#[pyo3(signature = (X, Y, metric, n_threads, out))]
#[allow(non_snake_case)] // As in the public interface.
pub fn cost_matrix<'py>(
    py: Python<'py>,
    X: Matrix<'py>,
    Y: Matrix<'py>,
    metric: &str,
    n_threads: Option<usize>,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let metric = match metric {
        "euclidean" => Metric::Euclidean,
        "sqeuclidean" => Metric::SqEuclidean,
        "cosine" => Metric::Cosine,
        other => {
            return Err(PyValueError::new_err(format!(
                "metric is {other:?}; choose \"euclidean\", \"sqeuclidean\" or \"cosine\""
            )));
        }
    };
    let threads = Threads::new(n_threads).map_err(to_py)?;
    match (&X, &Y) {
        (Matrix::F32(x), Matrix::F32(y)) => {
            distances(py, Entries::new("X", x)?, Entries::new("Y", y)?, metric, &threads, out.extract()?)
        }
        (Matrix::F64(x), Matrix::F64(y)) => {
            distances(py, Entries::new("X", x)?, Entries::new("Y", y)?, metric, &threads, out.extract()?)
        }
        _ => Err(PyTypeError::new_err("X and Y must both be float32 or both float64")),
    }
}

fn distances<T: Scalar + Element>(
    py: Python<'_>,
    x: Entries<'_, T>,
    y: Entries<'_, T>,
    metric: Metric,
    threads: &Threads,
    mut out: PyReadwriteArray2<'_, T>,
) -> PyResult<()> {
    let out = out.as_slice_mut()?;
    run(py, |interrupt| {
        let (x, y) = (x.view("X", threads)?, y.view("Y", threads)?);
        otbr_core::cost::cost_matrix(x, y, metric, out, threads, interrupt)
    })
}

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

/// Entropic optimal transport; `start` are column potentials of an earlier solution.
#[pyfunction]
#[pyo3(signature = (M, a, b, reg, max_iter, stop_threshold, start, n_threads))]
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
) -> PyResult<EntropicSolution> {
    let (a, b) = (vector("a", &a)?, vector("b", &b)?);
    let start = start.as_ref().map(|g| vector("warmstart", g)).transpose()?;
    let options = SinkhornOptions { reg, max_iter, stop_threshold };
    let threads = Threads::new(n_threads).map_err(to_py)?;
    match &M {
        Matrix::F32(cost) => entropic(py, Entries::new("M", cost)?, a, b, options, start, &threads),
        Matrix::F64(cost) => entropic(py, Entries::new("M", cost)?, a, b, options, start, &threads),
    }
}

fn entropic<T: Scalar>(
    py: Python<'_>,
    cost: Entries<'_, T>,
    a: &[f64],
    b: &[f64],
    options: SinkhornOptions,
    start: Option<&[f64]>,
    threads: &Threads,
) -> PyResult<EntropicSolution> {
    let solution = run(py, |interrupt| {
        let problem = Problem::new(cost.view("M", threads)?, a, b)?;
        sinkhorn(&problem, options, start, threads, interrupt)
    })?;
    Ok(EntropicSolution {
        f: to_numpy(py, solution.f),
        g: to_numpy(py, solution.g),
        errors: to_numpy(py, solution.errors),
        value: solution.value,
        duality_gap: solution.duality_gap,
        marginal_error: solution.marginal_error,
        converged: solution.converged,
        n_iter: solution.n_iter,
    })
}

/// exp((f + g - M) / reg), in the element type of M.
#[pyfunction]
#[pyo3(signature = (M, f, g, reg, n_threads))]
#[allow(non_snake_case)] // M is the field's name.
pub fn entropic_plan<'py>(
    py: Python<'py>,
    M: Matrix<'py>,
    f: PyReadonlyArray1<'py, f64>,
    g: PyReadonlyArray1<'py, f64>,
    reg: f64,
    n_threads: Option<usize>,
) -> PyResult<Bound<'py, PyAny>> {
    let (f, g) = (vector("f", &f)?, vector("g", &g)?);
    let threads = Threads::new(n_threads).map_err(to_py)?;
    match &M {
        Matrix::F32(cost) => Ok(plan(py, Entries::new("M", cost)?, f, g, reg, &threads)?.into_any()),
        Matrix::F64(cost) => Ok(plan(py, Entries::new("M", cost)?, f, g, reg, &threads)?.into_any()),
    }
}

fn plan<'py, T: Scalar + Element>(
    py: Python<'py>,
    cost: Entries<'_, T>,
    f: &[f64],
    g: &[f64],
    reg: f64,
    threads: &Threads,
) -> PyResult<Bound<'py, PyArray2<T>>> {
    let shape = [cost.rows(), cost.cols()];
    let values = run(py, |_| dense_plan(&cost.view("M", threads)?, f, g, reg, threads))?;
    matrix_to_numpy(py, values, shape)
}
