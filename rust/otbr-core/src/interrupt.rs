//! How a caller stops a running solver.

use crate::error::{Error, Result};

/// A question that long loops ask now and then: should I stop?
///
/// It is asked on the calling thread only, so that a binding may look at its host's signals.
#[derive(Clone, Copy)]
pub struct Interrupt<'a>(Option<&'a dyn Fn() -> bool>);

impl<'a> Interrupt<'a> {
    /// Stop when `should_stop` says so. It is asked often and should be cheap.
    pub fn new(should_stop: &'a dyn Fn() -> bool) -> Self {
        Self(Some(should_stop))
    }

    /// Never stop early.
    pub fn never() -> Self {
        Self(None)
    }

    /// `Err(Error::Interrupted)` once the caller wants to stop.
    pub fn check(&self) -> Result<()> {
        match self.0 {
            Some(should_stop) if should_stop() => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }
}
