//! numpy arrays as slices.

use numpy::{
    Element, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods,
};
use otbr_core::{MatrixView, Result, Scalar, Threads};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

/// A C-contiguous matrix of either element type.
pub enum Matrix<'py> {
    /// `float32`
    F32(PyReadonlyArray2<'py, f32>),
    /// `float64`
    F64(PyReadonlyArray2<'py, f64>),
}

// By hand, since the derived one describes each failed attempt, in 5 microseconds of Python code.
impl<'py> FromPyObject<'_, 'py> for Matrix<'py> {
    type Error = PyErr;

    fn extract(array: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(array) = array.cast::<PyArray2<f64>>() {
            return Ok(Self::F64(array.try_readonly()?));
        }
        if let Ok(array) = array.cast::<PyArray2<f32>>() {
            return Ok(Self::F32(array.try_readonly()?));
        }
        Err(PyTypeError::new_err("a numpy matrix of float32 or float64 is needed"))
    }
}

/// The entries and shape of a matrix, free of Python.
pub struct Entries<'a, T> {
    data: &'a [T],
    shape: [usize; 2],
}

impl<'a, T: Scalar> Entries<'a, T> {
    /// Borrow the entries of an array.
    pub fn new<'py>(name: &str, array: &'a PyReadonlyArray2<'py, T>) -> PyResult<Self>
    where
        T: Element,
    {
        let shape = [array.shape()[0], array.shape()[1]];
        let contiguous = |_| PyValueError::new_err(format!("{name} must be C-contiguous"));
        Ok(Self { data: array.as_slice().map_err(contiguous)?, shape })
    }

    /// As the core sees it, checked.
    pub fn view(&self, name: &'static str, threads: &Threads) -> Result<MatrixView<'a, T>> {
        MatrixView::new(name, self.data, self.shape[0], self.shape[1], threads)
    }

    /// As the core sees it, to be checked by whoever reads all entries.
    pub fn unread(&self, name: &'static str) -> Result<MatrixView<'a, T>> {
        MatrixView::unread(name, self.data, self.shape[0], self.shape[1])
    }

    /// The entries, row by row.
    pub fn data(&self) -> &'a [T] {
        self.data
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.shape[0]
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.shape[1]
    }
}

/// The entries of a vector.
pub fn vector<'a, T: Element>(name: &str, array: &'a PyReadonlyArray1<'_, T>) -> PyResult<&'a [T]> {
    let contiguous = |_| PyValueError::new_err(format!("{name} must be contiguous"));
    array.as_slice().map_err(contiguous)
}

/// Hand a vector over to numpy.
pub fn to_numpy<T: Element>(py: Python<'_>, values: Vec<T>) -> Py<PyArray1<T>> {
    PyArray1::from_vec(py, values).unbind()
}
