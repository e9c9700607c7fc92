//! Sparse maps of weights.

use numpy::PyUntypedArrayMethods;
use numpy::{Element, PyArray3, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray3, PyReadwriteArray3};
use otbr_core::mix::SparseMap;
use otbr_core::{Scalar, Threads};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::arrays::vector;
use crate::call::{run, to_py};

/// Fill `out`, of shape (·, outputs, inner), with what a map takes of `x`, of shape (·, inputs, inner),
/// and `keep` times `base`, of the shape of `out` or None; all of one element type. The map is a matrix
/// in compressed rows; its last column is the mean of the pooled inputs, if any are.
#[pyfunction]
#[pyo3(signature = (indptr, indices, data, pooled, x, keep, base, n_threads, out))]
#[allow(clippy::too_many_arguments)] // One argument for each of Python's.
pub fn mix<'py>(
    py: Python<'py>,
    indptr: PyReadonlyArray1<'py, i32>,
    indices: PyReadonlyArray1<'py, i32>,
    data: PyReadonlyArray1<'py, f64>,
    pooled: PyReadonlyArray1<'py, i32>,
    x: &Bound<'py, PyAny>,
    keep: f64,
    base: Option<&Bound<'py, PyAny>>,
    n_threads: Option<usize>,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let threads = Threads::new(n_threads).map_err(to_py)?;
    let map = Map {
        indptr: vector("indptr", &indptr)?,
        indices: vector("indices", &indices)?,
        data: vector("data", &data)?,
        pooled: vector("pooled", &pooled)?,
    };
    if let Ok(x) = x.cast::<PyArray3<f32>>() {
        let base = base.map(|base| base.extract()).transpose()?;
        map.apply(py, x.try_readonly()?, keep, base, &threads, out.extract()?)
    } else if let Ok(x) = x.cast::<PyArray3<f64>>() {
        let base = base.map(|base| base.extract()).transpose()?;
        map.apply(py, x.try_readonly()?, keep, base, &threads, out.extract()?)
    } else {
        Err(PyTypeError::new_err("x must be a numpy array of three dimensions, float32 or float64"))
    }
}

struct Map<'a> {
    indptr: &'a [i32],
    indices: &'a [i32],
    data: &'a [f64],
    pooled: &'a [i32],
}

impl Map<'_> {
    fn apply<'py, T: Scalar + Element>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray3<'py, T>,
        keep: f64,
        base: Option<PyReadonlyArray3<'py, T>>,
        threads: &Threads,
        mut out: PyReadwriteArray3<'py, T>,
    ) -> PyResult<()> {
        let (shape, shape_out) = ([x.shape()[0], x.shape()[1], x.shape()[2]], out.shape().to_vec());
        let map =
            SparseMap::new(self.indptr, self.indices, self.data, self.pooled, shape[1]).map_err(to_py)?;
        let expected = [shape[0], map.outputs(), shape[2]];
        for found in [Some(shape_out), base.as_ref().map(|base| base.shape().to_vec())].into_iter().flatten()
        {
            if found != expected {
                let told = format!("out or base has shape {found:?}, expected {expected:?}");
                return Err(PyValueError::new_err(told));
            }
        }
        let base = base.as_ref().map(|base| base.as_slice()).transpose()?.unwrap_or(&[]);
        let (x, out) = (x.as_slice()?, out.as_slice_mut()?);
        run(py, |interrupt| otbr_core::mix::mix(&map, x, keep, base, shape[2], out, threads, interrupt))
    }
}
