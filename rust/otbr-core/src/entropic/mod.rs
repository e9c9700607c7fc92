//! Entropic optimal transport.

mod dense_plan;
mod exponential;
mod kernel;
mod newton;
mod options;
mod partial;
mod pass;
mod rounding;
mod side;
mod sinkhorn;
mod unbalanced;

pub use dense_plan::dense_plan;
pub use options::{EntropicSolution, SinkhornOptions};
pub use partial::sinkhorn_partial;
pub use rounding::round_plan;
pub use sinkhorn::sinkhorn;
pub use unbalanced::{Reference, Relaxation, sinkhorn_unbalanced};
