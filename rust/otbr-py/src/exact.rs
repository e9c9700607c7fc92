//! Exact solvers.

use std::time::Duration;

use numpy::{PyArray1, PyReadonlyArray1, PyReadonlyArray2};
use otbr_core::exact::{ExactOptions, Hint, Search, Start, Status, solve};
use otbr_core::forbidden::Allowed;
use otbr_core::points::PointCloud;
use otbr_core::problem::Transport;
use otbr_core::{Error, MatrixView, Problem, Scalar, Threads};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Entries, Matrix, to_numpy, vector};
use crate::call::{run_watched, to_py};
use crate::distances::metric_of;

/// An exact plan with its proof. Arrays are numpy's.
#[pyclass(frozen, module = "otbr_fast._core")]
pub struct ExactSolution {
    #[pyo3(get)]
    rows: Py<PyArray1<u32>>,
    #[pyo3(get)]
    cols: Py<PyArray1<u32>>,
    #[pyo3(get)]
    masses: Py<PyArray1<f64>>,
    #[pyo3(get)]
    u: Py<PyArray1<f64>>,
    #[pyo3(get)]
    v: Py<PyArray1<f64>>,
    #[pyo3(get)]
    value: f64,
    #[pyo3(get)]
    duality_gap: f64,
    #[pyo3(get)]
    worst_reduced_cost: f64,
    #[pyo3(get)]
    marginal_error: f64,
    #[pyo3(get)]
    status: &'static str,
    #[pyo3(get)]
    n_iter: u64,
    hint: Hint,
}

/// What the next problem can use. Most have no next one, so these become arrays when asked for.
#[pymethods]
impl ExactSolution {
    /// Whether there is more to start from than the basis.
    #[getter]
    fn has_hint(&self) -> bool {
        !self.hint.v.is_empty()
    }

    #[getter]
    fn hint_v<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, &self.hint.v)
    }

    #[getter]
    fn core_rows<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        PyArray1::from_iter(py, self.hint.core.iter().map(|cell| cell.0))
    }

    #[getter]
    fn core_cols<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        PyArray1::from_iter(py, self.hint.core.iter().map(|cell| cell.1))
    }

    #[getter]
    fn basis_rows<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        PyArray1::from_iter(py, self.hint.basis.iter().map(|cell| cell.0))
    }

    #[getter]
    fn basis_cols<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        PyArray1::from_iter(py, self.hint.basis.iter().map(|cell| cell.1))
    }
}

/// Exact optimal transport; `start` is (v, rows, columns, rows, columns): potentials of the columns,
/// a core and a basis.
#[pyfunction]
#[pyo3(signature = (M, a, b, max_iter, n_threads, *, time_limit=None, metric=false, start=None,
    callback=None, search=None))]
#[allow(non_snake_case, clippy::too_many_arguments)] // One argument for each of Python's.
pub fn solve_exact<'py>(
    py: Python<'py>,
    M: Matrix<'py>,
    a: PyReadonlyArray1<'py, f64>,
    b: PyReadonlyArray1<'py, f64>,
    max_iter: u64,
    n_threads: Option<usize>,
    time_limit: Option<f64>,
    metric: bool,
    start: Option<StartArrays<'py>>,
    callback: Option<Py<PyAny>>,
    search: Option<&str>,
) -> PyResult<ExactSolution> {
    let (a, b) = (vector("a", &a)?, vector("b", &b)?);
    let start = start.as_ref().map(StartArrays::known).transpose()?;
    let options = ExactOptions {
        max_iter,
        time_limit: time_limit.map(seconds).transpose()?,
        search: search_of(search)?,
        metric,
        start: start.as_ref().map(Known::start),
    };
    let threads = Threads::new(n_threads).map_err(to_py)?;
    match &M {
        Matrix::F32(cost) => exact(py, Entries::new("M", cost)?, a, b, options, callback.as_ref(), &threads),
        Matrix::F64(cost) => exact(py, Entries::new("M", cost)?, a, b, options, callback.as_ref(), &threads),
    }
}

/// What is known from an earlier problem, as it comes from Python: potentials of the columns, rows
/// and columns of a core, rows and columns of a basis.
#[derive(FromPyObject)]
pub struct StartArrays<'py>(
    PyReadonlyArray1<'py, f64>,
    PyReadonlyArray1<'py, u32>,
    PyReadonlyArray1<'py, u32>,
    PyReadonlyArray1<'py, u32>,
    PyReadonlyArray1<'py, u32>,
);

/// The same, free of Python.
struct Known<'a> {
    v: &'a [f64],
    core: Vec<(u32, u32)>,
    basis: Vec<(u32, u32)>,
}

impl StartArrays<'_> {
    fn known(&self) -> PyResult<Known<'_>> {
        let of = |array| vector("warmstart", array);
        let zipped = |rows: &[u32], cols: &[u32]| rows.iter().copied().zip(cols.iter().copied()).collect();
        Ok(Known {
            v: vector("warmstart", &self.0)?,
            core: zipped(of(&self.1)?, of(&self.2)?),
            basis: zipped(of(&self.3)?, of(&self.4)?),
        })
    }
}

impl Known<'_> {
    fn start(&self) -> Start<'_> {
        Start { v: self.v, core: &self.core, basis: &self.basis }
    }
}

fn seconds(time: f64) -> PyResult<Duration> {
    if time >= 0.0 {
        // What is too long for a duration never ends.
        return Ok(Duration::try_from_secs_f64(time).unwrap_or(Duration::MAX));
    }
    let message = format!("time_limit is {time}; it must be a number of seconds, not negative");
    Err(PyValueError::new_err(message))
}

fn search_of(name: Option<&str>) -> PyResult<Search> {
    match name {
        None => Ok(Search::Auto),
        Some("core") => Ok(Search::Core),
        Some("whole") => Ok(Search::Whole),
        Some(other) => {
            Err(PyValueError::new_err(format!("search is {other:?}; choose \"core\" or \"whole\"")))
        }
    }
}

/// Exact optimal transport between points, whose distances are never held as a matrix.
#[pyfunction]
#[pyo3(signature = (X, Y, a, b, metric, max_iter, n_threads, *, time_limit=None, start=None,
    callback=None))]
#[allow(non_snake_case, clippy::too_many_arguments)] // One argument for each of Python's.
pub fn solve_points<'py>(
    py: Python<'py>,
    X: PyReadonlyArray2<'py, f64>,
    Y: PyReadonlyArray2<'py, f64>,
    a: PyReadonlyArray1<'py, f64>,
    b: PyReadonlyArray1<'py, f64>,
    metric: &str,
    max_iter: u64,
    n_threads: Option<usize>,
    time_limit: Option<f64>,
    start: Option<StartArrays<'py>>,
    callback: Option<Py<PyAny>>,
) -> PyResult<ExactSolution> {
    let (a, b) = (vector("a", &a)?, vector("b", &b)?);
    let (x, y, metric) = (Entries::new("X", &X)?, Entries::new("Y", &Y)?, metric_of(metric)?);
    let start = start.as_ref().map(StartArrays::known).transpose()?;
    let options = ExactOptions {
        max_iter,
        time_limit: time_limit.map(seconds).transpose()?,
        start: start.as_ref().map(Known::start),
        ..ExactOptions::default()
    };
    let threads = Threads::new(n_threads).map_err(to_py)?;
    let solution = run_watched(py, callback.as_ref(), |interrupt| {
        let points = PointCloud::new(x.view("X", &threads)?, y.view("Y", &threads)?, metric)?;
        solve(&Transport::new(points, a, b)?, options, &threads, interrupt)
    })?;
    Ok(to_python(py, solution))
}

fn exact<T: Scalar>(
    py: Python<'_>,
    cost: Entries<'_, T>,
    a: &[f64],
    b: &[f64],
    options: ExactOptions<'_>,
    callback: Option<&Py<PyAny>>,
    threads: &Threads,
) -> PyResult<ExactSolution> {
    let solution = run_watched(py, callback, |interrupt| {
        let problem = Problem::unread(cost.unread("M")?, a, b)?;
        match solve(&problem, options, threads, interrupt) {
            Err(Error::NonFinite { value: f64::INFINITY, .. }) => {
                let allowed = Allowed::new(cost.data(), cost.cols())?;
                let view = MatrixView::unread("M", &allowed.data, cost.rows(), cost.cols())?;
                let solution = solve(&Problem::unread(view, a, b)?, options, threads, interrupt)?;
                allowed.without_forbidden(cost.data(), solution)
            }
            solution => solution,
        }
    })?;
    Ok(to_python(py, solution))
}

/// The solution as Python sees it.
fn to_python(py: Python<'_>, solution: otbr_core::exact::ExactSolution) -> ExactSolution {
    ExactSolution {
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
            Status::TimeLimit => "time_limit",
            Status::NotProven => "not_proven",
        },
        n_iter: solution.n_iter,
        hint: solution.hint,
    }
}
