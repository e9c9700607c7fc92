//! Distances and the exact solver.

use numpy::{Element, PyArray1, PyArray2, PyReadonlyArray1};
use otbr_core::cost::Metric;
use otbr_core::exact::{Status, solve};
use otbr_core::{Problem, Scalar, Threads};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::arrays::{Entries, Matrix, matrix_to_numpy, to_numpy, vector};
use crate::call::{run, to_py};

/// Distances between rows; X and Y must have the same element type.
#[pyfunction]
#[pyo3(signature = (x, y, metric, n_threads))]
pub fn cost_matrix<'py>(
    py: Python<'py>,
    x: Matrix<'py>,
    y: Matrix<'py>,
    metric: &str,
    n_threads: Option<usize>,
) -> PyResult<Bound<'py, PyAny>> {
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
    match (&x, &y) {
        (Matrix::F32(x), Matrix::F32(y)) => {
            Ok(distances(py, Entries::new("X", x)?, Entries::new("Y", y)?, metric, &threads)?.into_any())
        }
        (Matrix::F64(x), Matrix::F64(y)) => {
            Ok(distances(py, Entries::new("X", x)?, Entries::new("Y", y)?, metric, &threads)?.into_any())
        }
        _ => Err(PyTypeError::new_err("X and Y must both be float32 or both float64")),
    }
}

fn distances<'py, T: Scalar + Element>(
    py: Python<'py>,
    x: Entries<'_, T>,
    y: Entries<'_, T>,
    metric: Metric,
    threads: &Threads,
) -> PyResult<Bound<'py, PyArray2<T>>> {
    let shape = [x.rows(), y.rows()];
    let values = run(py, |interrupt| {
        let (x, y) = (x.view("X", threads)?, y.view("Y", threads)?);
        let mut out = vec![T::ZERO; shape[0] * shape[1]];
        otbr_core::cost::cost_matrix(x, y, metric, &mut out, threads, interrupt)?;
        Ok(out)
    })?;
    matrix_to_numpy(py, values, shape)
}

/// An exact plan with its proof. Arrays are numpy's.
#[pyclass(frozen, get_all, module = "otbr_fast._core")]
pub struct ExactSolution {
    rows: Py<PyArray1<u32>>,
    cols: Py<PyArray1<u32>>,
    masses: Py<PyArray1<f64>>,
    u: Py<PyArray1<f64>>,
    v: Py<PyArray1<f64>>,
    value: f64,
    duality_gap: f64,
    worst_reduced_cost: f64,
    marginal_error: f64,
    status: &'static str,
    n_iter: u64,
}

/// Exact optimal transport.
#[pyfunction]
#[pyo3(signature = (M, a, b, max_iter, n_threads))]
#[allow(non_snake_case)] // M is the field's name.
pub fn solve_exact(
    py: Python<'_>,
    M: Matrix<'_>,
    a: PyReadonlyArray1<'_, f64>,
    b: PyReadonlyArray1<'_, f64>,
    max_iter: u64,
    n_threads: Option<usize>,
) -> PyResult<ExactSolution> {
    let (a, b) = (vector("a", &a)?, vector("b", &b)?);
    let threads = Threads::new(n_threads).map_err(to_py)?;
    match &M {
        Matrix::F32(cost) => exact(py, Entries::new("M", cost)?, a, b, max_iter, &threads),
        Matrix::F64(cost) => exact(py, Entries::new("M", cost)?, a, b, max_iter, &threads),
    }
}

fn exact<T: Scalar>(
    py: Python<'_>,
    cost: Entries<'_, T>,
    a: &[f64],
    b: &[f64],
    max_iter: u64,
    threads: &Threads,
) -> PyResult<ExactSolution> {
    let solution = run(py, |interrupt| {
        let problem = Problem::new(cost.view("M", threads)?, a, b)?;
        solve(&problem, max_iter, threads, interrupt)
    })?;
    Ok(ExactSolution {
        rows: to_numpy(py, solution.plan.rows),
        cols: to_numpy(py, solution.plan.cols),
        masses: to_numpy(py, solution.plan.masses),
        u: to_numpy(py, solution.u),
        v: to_numpy(py, solution.v),
        value: solution.certificate.value,
        duality_gap: solution.certificate.duality_gap,
        worst_reduced_cost: solution.certificate.worst_reduced_cost,
        marginal_error: solution.certificate.marginal_error,
        status: match solution.status {
            Status::Optimal => "optimal",
            Status::IterationLimit => "iteration_limit",
            Status::NotProven => "not_proven",
        },
        n_iter: solution.n_iter,
    })
}
