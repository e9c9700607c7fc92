//! Exact optimal transport: core and certify.
//!
//! The simplex runs on a sparse core of the cells that a plan is likely to use. Then all costs are
//! looked at; cells with negative reduced costs join the core, and so on until there are none: that
//! look is the proof. Where there are few costs, or the core does not settle, the simplex runs on all.

mod augment;
mod bounds;
mod candidates;
mod coarse;
mod core;
mod duals;
mod engine;
mod guess;
mod look;
mod masses;
mod prepare;
mod reduce;
mod repair;
mod scaling;
mod selected;
mod shortlist;
mod simplex;
mod spanning;
mod start;
mod tree;

use std::time::Duration;

use crate::certificate::{Certificate, certify};
use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::plan::SparsePlan;
use crate::pricing::Duals;
use crate::problem::Transport;
use crate::threads::Threads;
use engine::{Limit, Limits};

/// How a solver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The certificate proves the plan optimal to a relative 1e-9.
    Optimal,
    /// The pivots ran out; the gap says how much may be lost.
    IterationLimit,
    /// The time ran out; the gap says how much may be lost.
    TimeLimit,
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
    /// A start for problems like this one.
    pub hint: Hint,
}

/// What a solver found on its way that the next one can use.
#[derive(Debug, Clone, Default)]
pub struct Hint {
    /// The potentials of the columns that the simplex started from: smoother than those of the
    /// optimum, and so a better start where masses change. Empty if it started from none.
    pub v: Vec<f64>,
    /// The cells the simplex ran on, in order; empty if it ran on all.
    pub core: Vec<(u32, u32)>,
    /// The cells of the optimum's basis.
    pub basis: Vec<(u32, u32)>,
}

/// Where the simplex looks for cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Search {
    /// On a core where there are many costs.
    #[default]
    Auto,
    /// On a core.
    Core,
    /// Everywhere.
    Whole,
}

/// What is known from a problem of the same shape: a hint, the result is optimal without it.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Potentials of the columns.
    pub v: &'a [f64],
    /// The core, where known, in any order.
    pub core: &'a [(u32, u32)],
    /// A basis, where known, in any order.
    pub basis: &'a [(u32, u32)],
}

/// How to solve.
#[derive(Debug, Clone, Copy)]
pub struct ExactOptions<'a> {
    /// Pivots, at most.
    pub max_iter: u64,
    /// Time, at most. It is looked at between pivots: what comes before the first is not cut short.
    pub time_limit: Option<Duration>,
    /// Where the simplex looks for cells; the result is optimal either way.
    pub search: Search,
    /// Costs are a metric's: not negative, 0 only between points that are the same, and the
    /// triangle inequality holds. Where they are not, time is lost, and nothing else.
    pub metric: bool,
    /// What to start from.
    pub start: Option<Start<'a>>,
}

impl Default for ExactOptions<'_> {
    fn default() -> Self {
        Self { max_iter: u64::MAX, time_limit: None, search: Search::Auto, metric: false, start: None }
    }
}

/// Solve a problem exactly.
///
/// # Errors
/// A start of the wrong shape, or `Error::Interrupted` when `interrupt` says so.
pub fn solve<G: Geometry>(
    problem: &Transport<G>,
    options: ExactOptions<'_>,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<ExactSolution> {
    if let Some(start) = options.start {
        check_start(problem, start)?;
    }
    let mut limits = Limits::new(options.max_iter, options.time_limit);
    if options.metric
        && let Some(optimum) = reduce::solve(problem, options, &mut limits, threads, interrupt)?
    {
        let solution = finish(problem, optimum, limits.done);
        if solution.status != Status::NotProven {
            return Ok(solution);
        }
    }
    let optimum = engine::solve(problem, options, &mut limits, threads, interrupt)?;
    Ok(finish(problem, optimum, limits.done))
}

/// What a solver found.
struct Optimum {
    /// Cells and their masses.
    entries: Vec<(u32, u32, f64)>,
    duals: Duals,
    /// Least reduced cost of all cells.
    least: f64,
    /// What cut it short.
    limit: Option<Limit>,
    hint: Hint,
}

fn finish<G: Geometry>(problem: &Transport<G>, optimum: Optimum, n_iter: u64) -> ExactSolution {
    let Optimum { entries, duals, least, limit, hint } = optimum;
    let cost = &problem.cost;
    let plan = SparsePlan::from_entries((cost.rows(), cost.cols()), entries);
    let certificate = certify(problem, &plan, duals.potentials(cost.max_abs()), least);
    let status = match limit {
        Some(Limit::Iterations) => Status::IterationLimit,
        Some(Limit::Time) => Status::TimeLimit,
        None if certificate.proves_optimal() => Status::Optimal,
        None => Status::NotProven,
    };
    let (u, v) = duals.to_f64();
    ExactSolution { plan, u, v, certificate, status, n_iter, hint }
}

fn check_start<G: Geometry>(problem: &Transport<G>, start: Start<'_>) -> Result<()> {
    let (n, m) = (problem.cost.rows(), problem.cost.cols());
    let name = "warmstart";
    if start.v.len() != m {
        let unit = "column potentials";
        return Err(Error::Shape { name, unit, found: start.v.len(), expected: m });
    }
    if let Some(&value) = start.v.iter().find(|x| !x.is_finite()) {
        return Err(Error::Parameter { name, value, expected: "finite potentials" });
    }
    if let Some(&(i, j)) =
        start.core.iter().chain(start.basis).find(|&&(i, j)| i as usize >= n || j as usize >= m)
    {
        let (unit, found, expected) = ("rows or columns", i.max(j) as usize + 1, n.max(m));
        return Err(Error::Shape { name, unit, found, expected });
    }
    Ok(())
}
