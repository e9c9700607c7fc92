//! Running the core from Python: without the GIL, open to Ctrl-C, panics turned into errors.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use otbr_core::{Error, Interrupt};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// Python is asked for signals this often at most.
const BETWEEN_SIGNALS: Duration = Duration::from_millis(50);

/// The exception for an error of the core.
pub fn to_py(error: Error) -> PyErr {
    match error {
        Error::Threads { .. } | Error::Interrupted => PyRuntimeError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

/// Call into the core. A pending signal, Ctrl-C for one, ends the call with its exception.
pub fn run<R: Send>(
    py: Python<'_>,
    f: impl FnOnce(Interrupt<'_>) -> otbr_core::Result<R> + Send,
) -> PyResult<R> {
    run_watched(py, None, f)
}

/// The same; now and then `callback` is told how many iterations are done, and what it raises ends
/// the call.
pub fn run_watched<R: Send>(
    py: Python<'_>,
    callback: Option<&Py<PyAny>>,
    f: impl FnOnce(Interrupt<'_>) -> otbr_core::Result<R> + Send,
) -> PyResult<R> {
    if let Some(callback) = callback.filter(|callback| !callback.bind(py).is_callable()) {
        let message = format!("callback is {callback}; it must be a function of the iterations done");
        return Err(PyValueError::new_err(message));
    }
    py.detach(|| {
        let signal: RefCell<Option<PyErr>> = RefCell::new(None);
        let (last, done) = (Cell::new(Instant::now()), Cell::new(0));
        let look_at_python = |py: Python<'_>| -> PyResult<()> {
            py.check_signals()?;
            callback.map_or(Ok(()), |callback| callback.call1(py, (done.get(),)).map(drop))
        };
        let should_stop = || {
            if last.get().elapsed() >= BETWEEN_SIGNALS {
                last.set(Instant::now());
                *signal.borrow_mut() = Python::attach(look_at_python).err();
            }
            signal.borrow().is_some()
        };
        // The state a panic leaves behind is dropped unseen, so unwinding past it is safe.
        let outcome = catch_unwind(AssertUnwindSafe(|| f(Interrupt::watching(&should_stop, &done))));
        match outcome {
            Ok(Err(Error::Interrupted)) => Err(signal.take().unwrap_or_else(|| to_py(Error::Interrupted))),
            Ok(result) => result.map_err(to_py),
            Err(_) => Err(PyRuntimeError::new_err(
                "internal error in otbr_fast (the panic's message is on stderr); please report it",
            )),
        }
    })
}
