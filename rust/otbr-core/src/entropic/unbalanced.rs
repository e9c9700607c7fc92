//! Entropic transport whose marginals are paid for instead of met.

use super::options::{EntropicSolution, SinkhornOptions};
use super::side::Side;
use super::sinkhorn::relaxed;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::problem::{MatrixView, Problem, check_masses};
use crate::scalar::Scalar;
use crate::threads::Threads;

/// What the plan's entropy is relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// KL(P | a bᵀ).
    Product,
    /// Σ P (log P − 1).
    Ones,
}

/// How strictly the marginals hold.
#[derive(Debug, Clone, Copy)]
pub struct Relaxation {
    /// ρ of the rows: they cost ρ KL(P1 | a); met exactly where it is infinite.
    pub rows: f64,
    /// The same of the columns.
    pub columns: f64,
    /// What the entropy is relative to.
    pub reference: Reference,
}

/// Minimise ⟨P, M⟩ + ε KL(P | reference) + ρ₁ KL(P1 | a) + ρ₂ KL(Pᵀ1 | b) over P ≥ 0 (Chizat et al.
/// 2018); a and b may have different sums, unless both sides are exact.
///
/// The potentials give the plan as exp((f + g − M) / ε), whatever the reference. The marginal error
/// is that of the optimality conditions P1 = a exp(−f / ρ₁), Pᵀ1 = b exp(−g / ρ₂).
///
/// # Errors
/// As [`super::sinkhorn`]; a strength that is not positive.
pub fn sinkhorn_unbalanced<T: Scalar>(
    cost: MatrixView<'_, T>,
    (a, b): (&[f64], &[f64]),
    relaxation: Relaxation,
    options: SinkhornOptions,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<EntropicSolution> {
    for value in [relaxation.rows, relaxation.columns] {
        if value.is_nan() || value <= 0.0 {
            let expected = "positive, infinite for a marginal that is met exactly";
            return Err(Error::Parameter { name: "reg_m", value, expected });
        }
    }
    let both_exact = relaxation.rows == f64::INFINITY && relaxation.columns == f64::INFINITY;
    let ratio = if both_exact {
        1.0
    } else {
        check_masses("a", a, cost.rows())? / check_masses("b", b, cost.cols())?
    };
    let scaled: Vec<f64> = b.iter().map(|b| b * ratio).collect();
    let problem = Problem::new(cost, a, &scaled)?;
    let side = |masses: &[f64], strength: f64, reference: f64| {
        // The part of the reference measure that this side's potentials hold, relative to the total.
        let offset = |mass: &f64| match relaxation.reference {
            Reference::Product => (mass * reference).ln(),
            Reference::Ones => reference.ln(),
        };
        let masses: Vec<f64> = masses.iter().map(|x| x / problem.total).collect();
        Side { offset: masses.iter().map(offset).collect(), strength, limit: false, masses }
    };
    // P / total = exp((f + g − M) / ε) · (a / total) bᵀ, or / total: one side takes the constant.
    let (rows, columns) = match relaxation.reference {
        Reference::Product => (
            side(&problem.a, relaxation.rows, 1.0),
            side(&problem.b.iter().map(|x| x / ratio).collect::<Vec<_>>(), relaxation.columns, problem.total),
        ),
        Reference::Ones => (
            side(&problem.a, relaxation.rows, 1.0 / problem.total),
            side(&problem.b.iter().map(|x| x / ratio).collect::<Vec<_>>(), relaxation.columns, 1.0),
        ),
    };
    relaxed(&problem, (rows, columns), options, None, &mut [], threads, interrupt)
}
