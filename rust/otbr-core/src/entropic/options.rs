//! What entropic solvers take and give.

use crate::error::{Error, Result};

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct SinkhornOptions {
    /// ε, in units of the cost.
    pub reg: f64,
    /// Passes over the matrix, at most; those on the way to a small ε count.
    pub max_iter: u64,
    /// L2 norm of the column marginals' error at which to stop, as a part of the mass they should hold.
    pub stop_threshold: f64,
}

/// Potentials and what they give.
#[derive(Debug, Clone)]
pub struct EntropicSolution {
    /// Potentials of the rows, length n; −∞ where a is 0.
    pub f: Vec<f64>,
    /// Potentials of the columns, length m; −∞ where b is 0.
    pub g: Vec<f64>,
    /// ⟨P, M⟩, without the entropy.
    pub value: f64,
    /// |⟨f, P1 − a⟩ + ⟨g, Pᵀ1 − b⟩|: primal minus dual of the entropic problem.
    pub duality_gap: f64,
    /// L1 distance of the plan's marginals from (a, b).
    pub marginal_error: f64,
    /// L2 error of the column marginals, iteration by iteration, at the final ε.
    pub errors: Vec<f64>,
    /// Whether the stopping threshold was reached.
    pub converged: bool,
    /// Passes made.
    pub n_iter: u64,
}

/// Below this part of the largest cost, rounding of the potentials would show in the plan.
const LEAST_RELATIVE_REG: f64 = 1e-10;

/// Above this, potentials overflow.
const GREATEST_REG: f64 = 1e120;

pub(super) fn check(options: SinkhornOptions, largest_cost: f64) -> Result<()> {
    let SinkhornOptions { reg, max_iter, stop_threshold } = options;
    if !(reg.is_finite() && reg > 0.0) {
        let expected = "a positive finite number, in units of the cost";
        return Err(Error::Parameter { name: "reg", value: reg, expected });
    }
    if reg > GREATEST_REG {
        let expected = "at most 1e120; at 1e10 of the largest cost the plan is that of no cost at all";
        return Err(Error::Parameter { name: "reg", value: reg, expected });
    }
    if reg < LEAST_RELATIVE_REG * largest_cost {
        let expected = "at least 1e-10 of the largest cost; below that use the exact solver";
        return Err(Error::Parameter { name: "reg", value: reg, expected });
    }
    if max_iter == 0 {
        return Err(Error::Parameter { name: "numItermax", value: 0.0, expected: "at least 1" });
    }
    if stop_threshold.is_nan() || stop_threshold < 0.0 {
        let expected = "not negative";
        return Err(Error::Parameter { name: "stopThr", value: stop_threshold, expected });
    }
    Ok(())
}

pub(super) fn check_start(g: &[f64], m: usize) -> Result<&[f64]> {
    if g.len() != m {
        let (found, expected) = (g.len(), m);
        return Err(Error::Shape { name: "warmstart", unit: "column potentials", found, expected });
    }
    if let Some(&value) = g.iter().find(|x| x.is_nan() || **x == f64::INFINITY) {
        let expected = "finite, or -inf where b is 0";
        return Err(Error::Parameter { name: "warmstart", value, expected });
    }
    Ok(g)
}
