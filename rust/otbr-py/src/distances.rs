//! Distances.

use numpy::{Element, PyArray2};
use otbr_core::cost::Metric;
use otbr_core::{Scalar, Threads};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::arrays::{Entries, Matrix, matrix_to_numpy};
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
    let metric = metric_of(metric)?;
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

/// The metric of a name.
pub fn metric_of(name: &str) -> PyResult<Metric> {
    match name {
        "euclidean" => Ok(Metric::Euclidean),
        "sqeuclidean" => Ok(Metric::SqEuclidean),
        "cosine" => Ok(Metric::Cosine),
        other => Err(PyValueError::new_err(format!(
            "metric is {other:?}; choose \"euclidean\", \"sqeuclidean\" or \"cosine\""
        ))),
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
