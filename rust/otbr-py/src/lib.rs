//! The Python face of otbr-core: converts, releases the GIL, maps errors. No maths.

mod arrays;
mod call;
mod distances;
mod entropic;
mod exact;
mod mix;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

/// Name of the SIMD path in use: "avx512", "avx2", "neon" or "portable".
#[pyfunction]
fn simd_path() -> PyResult<&'static str> {
    otbr_core::simd::path().map_err(PyImportError::new_err)
}

/// Threads used when `n_threads` is None.
#[pyfunction]
fn default_threads() -> PyResult<usize> {
    Ok(otbr_core::Threads::new(None).map_err(call::to_py)?.count())
}

/// Compiled part of otbr_fast.
#[pymodule]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    simd_path()?; // A wish that cannot be granted is better refused before anything runs.
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add("build_profile", if cfg!(debug_assertions) { "debug" } else { "release" })?;
    m.add_class::<exact::ExactSolution>()?;
    m.add_class::<entropic::EntropicSolution>()?;
    m.add_function(wrap_pyfunction!(simd_path, m)?)?;
    m.add_function(wrap_pyfunction!(default_threads, m)?)?;
    m.add_function(wrap_pyfunction!(distances::cost_matrix, m)?)?;
    m.add_function(wrap_pyfunction!(mix::mix, m)?)?;
    m.add_function(wrap_pyfunction!(exact::solve_exact, m)?)?;
    m.add_function(wrap_pyfunction!(exact::solve_points, m)?)?;
    m.add_function(wrap_pyfunction!(entropic::solve_entropic, m)?)?;
    m.add_function(wrap_pyfunction!(entropic::solve_unbalanced, m)?)?;
    m.add_function(wrap_pyfunction!(entropic::solve_partial, m)?)?;
    m.add_function(wrap_pyfunction!(entropic::entropic_plan, m)?)?;
    m.add_function(wrap_pyfunction!(entropic::round_plan, m)?)?;
    Ok(())
}
