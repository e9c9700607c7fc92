//! Entropic optimal transport.

mod certify;
mod exponential;
mod kernel;
mod newton;
mod partial;
mod pass;
mod rounding;
mod side;
mod sinkhorn;
mod unbalanced;

pub use certify::dense_plan;
pub use partial::sinkhorn_partial;
pub use rounding::round_plan;
pub use sinkhorn::{EntropicSolution, SinkhornOptions, sinkhorn, sinkhorn_with_plan};
pub use unbalanced::{Reference, Relaxation, sinkhorn_unbalanced};
