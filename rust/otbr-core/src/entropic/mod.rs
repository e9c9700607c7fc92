//! Entropic optimal transport.

mod certify;
mod exponential;
mod kernel;
mod newton;
mod pass;
mod sinkhorn;

pub use certify::dense_plan;
pub use sinkhorn::{EntropicSolution, SinkhornOptions, sinkhorn};
