//! Entropic optimal transport.

mod exponential;
mod sinkhorn;

pub use sinkhorn::{EntropicSolution, SinkhornOptions, dense_plan, sinkhorn};
