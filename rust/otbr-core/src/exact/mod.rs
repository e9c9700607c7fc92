//! Exact optimal transport.

mod masses;
mod simplex;
mod start;
mod tree;

use crate::certificate::{Certificate, certify};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::plan::SparsePlan;
use crate::problem::Problem;
use crate::scalar::Scalar;
use crate::threads::Threads;
use masses::IntegerMasses;

/// How a solver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The certificate proves the plan optimal to a relative 1e-9.
    Optimal,
    /// The pivots ran out; the gap says how much may be lost.
    IterationLimit,
    /// The solver ended, but the certificate proves less than it should: a defect of the solver, or
    /// costs beyond the precision of its arithmetic.
    NotProven,
}

/// A plan, the potentials that go with it, and what they prove.
#[derive(Debug, Clone)]
pub struct ExactSolution {
    /// The plan; at most n + m − 1 entries.
    pub plan: SparsePlan,
    /// Potentials of the rows, length n.
    pub u: Vec<f64>,
    /// Potentials of the columns, length m.
    pub v: Vec<f64>,
    /// What plan and potentials prove, computed anew from the cost.
    pub certificate: Certificate,
    /// How the solver ended.
    pub status: Status,
    /// Pivots made.
    pub n_iter: u64,
}

/// Solve a problem exactly, with at most `max_iter` pivots.
///
/// # Errors
/// `Error::Interrupted` when `interrupt` says so.
pub fn solve<T: Scalar>(
    problem: &Problem<'_, T>,
    max_iter: u64,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<ExactSolution> {
    let masses = IntegerMasses::new(problem);
    let basis = simplex::solve(problem, &masses, max_iter, interrupt)?;
    let entries = basis.tree.cells().map(|c| (c.row, c.col, masses.to_mass(c.flow))).collect();
    let shape = (problem.cost.rows(), problem.cost.cols());
    let plan = SparsePlan::from_entries(shape, entries);
    let (u, v) = basis.tree.potentials();
    let certificate = certify(problem, &plan, &u, &v, threads);
    let status = match (basis.complete, certificate.proves_optimal()) {
        (false, _) => Status::IterationLimit,
        (true, true) => Status::Optimal,
        (true, false) => Status::NotProven,
    };
    Ok(ExactSolution {
        plan,
        u: u.iter().map(|x| x.to_f64()).collect(),
        v: v.iter().map(|x| x.to_f64()).collect(),
        certificate,
        status,
        n_iter: basis.n_pivots,
    })
}
