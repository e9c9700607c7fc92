//! Exact and entropic optimal transport, and the distances that feed it.
//!
//! Pure Rust: knows nothing of Python. Input is checked once, by [`problem`]; a solver takes a
//! checked problem, a number of threads and an interrupt, and returns a plan with a certificate.

#![forbid(unsafe_code)]

pub mod certificate;
pub mod cost;
mod double_double;
pub mod entropic;
pub mod error;
pub mod exact;
pub mod forbidden;
pub mod geometry;
pub mod interrupt;
pub mod mix;
pub mod plan;
pub mod points;
mod pricing;
pub mod problem;
pub mod scalar;
pub mod simd;
pub mod threads;
mod tiles;
mod zeros;

pub use error::{Error, Result};
pub use interrupt::Interrupt;
pub use problem::{MatrixView, Problem};
pub use scalar::Scalar;
pub use threads::Threads;
