//! Distances.

use numpy::{Element, PyReadwriteArray2};
use otbr_core::cost::{self, Metric, self_distances};
use otbr_core::{Scalar, Threads};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::arrays::{Entries, Matrix};
use crate::call::{run, to_py};

/// Fill `out`, of the shape and element type of the result, with the distances between rows of X and
/// Y, or of X itself; X, Y and `out` must have the same element type.
#[pyfunction]
#[pyo3(signature = (X, Y, metric, n_threads, out))]
#[allow(non_snake_case)] // As in the public interface.
pub fn cost_matrix<'py>(
    py: Python<'py>,
    X: Matrix<'py>,
    Y: Option<Matrix<'py>>,
    metric: &str,
    n_threads: Option<usize>,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let metric = metric_of(metric)?;
    let threads = Threads::new(n_threads).map_err(to_py)?;
    match (&X, &Y) {
        (Matrix::F32(x), None) => {
            distances(py, Entries::new("X", x)?, None, metric, &threads, out.extract()?)
        }
        (Matrix::F64(x), None) => {
            distances(py, Entries::new("X", x)?, None, metric, &threads, out.extract()?)
        }
        (Matrix::F32(x), Some(Matrix::F32(y))) => distances(
            py,
            Entries::new("X", x)?,
            Some(Entries::new("Y", y)?),
            metric,
            &threads,
            out.extract()?,
        ),
        (Matrix::F64(x), Some(Matrix::F64(y))) => distances(
            py,
            Entries::new("X", x)?,
            Some(Entries::new("Y", y)?),
            metric,
            &threads,
            out.extract()?,
        ),
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

fn distances<T: Scalar + Element>(
    py: Python<'_>,
    x: Entries<'_, T>,
    y: Option<Entries<'_, T>>,
    metric: Metric,
    threads: &Threads,
    mut out: PyReadwriteArray2<'_, T>,
) -> PyResult<()> {
    let out = out.as_slice_mut()?;
    run(py, |interrupt| {
        let x = x.view("X", threads)?;
        match y {
            Some(y) => cost::cost_matrix(x, y.view("Y", threads)?, metric, out, threads, interrupt),
            None => self_distances(x, metric, out, threads, interrupt),
        }
    })
}
