//! How a caller watches a running solver, and stops it.

use std::cell::Cell;

use crate::error::{Error, Result};

/// A question that long loops ask now and then: should I stop?
///
/// It is asked on the calling thread only, so that a binding may look at its host's signals.
#[derive(Clone, Copy)]
pub struct Interrupt<'a> {
    should_stop: Option<&'a dyn Fn() -> bool>,
    done: Option<&'a Cell<u64>>,
}

impl<'a> Interrupt<'a> {
    /// Stop when `should_stop` says so. It is asked often and should be cheap.
    pub fn new(should_stop: &'a dyn Fn() -> bool) -> Self {
        Self { should_stop: Some(should_stop), done: None }
    }

    /// Likewise; `done` tells how many iterations are done when it is asked.
    pub fn watching(should_stop: &'a dyn Fn() -> bool, done: &'a Cell<u64>) -> Self {
        Self { should_stop: Some(should_stop), done: Some(done) }
    }

    /// Never stop early.
    pub fn never() -> Self {
        Self { should_stop: None, done: None }
    }

    /// The same for a part of the work whose iterations do not count.
    pub(crate) fn uncounted(self) -> Self {
        Self { done: None, ..self }
    }

    /// `Err(Error::Interrupted)` once the caller wants to stop.
    pub fn check(&self) -> Result<()> {
        match self.should_stop {
            Some(should_stop) if should_stop() => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    /// The same, after so many iterations.
    pub fn check_after(&self, done: u64) -> Result<()> {
        if let Some(cell) = self.done {
            cell.set(done);
        }
        self.check()
    }
}
