//! Exact optimal transport: core and certify.
//!
//! The simplex runs on a sparse core of the cells that a plan is likely to use. Then all costs are
//! looked at; cells with negative reduced costs join the core, and so on until there are none: that
//! look is the proof. Where there are few costs, or the core does not settle, the simplex runs on all.

mod augment;
mod bounds;
mod core;
mod duals;
mod look;
mod masses;
mod prepare;
mod shortlist;
mod simplex;
mod spanning;
mod start;
mod tree;

use crate::certificate::{Certificate, certify};
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::plan::SparsePlan;
use crate::pricing::Whole;
use crate::problem::Transport;
use crate::threads::Threads;
use bounds::Bounds;
use look::look;
use masses::IntegerMasses;
use prepare::prepare;
use simplex::Pivots;
use start::greedy_basis;
use tree::Tree;

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

/// Matrices of fewer entries are searched whole.
const WORTH_A_CORE: usize = 1 << 16;

/// Cells of a row that one look at all costs adds to the core.
const ADDED_PER_ROW: usize = 8;

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

/// How to solve.
#[derive(Debug, Clone, Copy)]
pub struct ExactOptions {
    /// Pivots, at most.
    pub max_iter: u64,
    /// Where the simplex looks for cells; the result is optimal either way.
    pub search: Search,
}

impl Default for ExactOptions {
    fn default() -> Self {
        Self { max_iter: u64::MAX, search: Search::Auto }
    }
}

/// Solve a problem exactly.
///
/// # Errors
/// `Error::Interrupted` when `interrupt` says so.
pub fn solve<G: Geometry>(
    problem: &Transport<G>,
    options: ExactOptions,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<ExactSolution> {
    let (cost, masses) = (&problem.cost, IntegerMasses::new(problem));
    let mut pivots = Pivots { done: 0, max: options.max_iter };
    let (mut tree, mut core, mut bounds);
    let on_core = match options.search {
        Search::Auto => cost.rows() * cost.cols() >= WORTH_A_CORE,
        Search::Core => true,
        Search::Whole => false,
    };
    if !on_core {
        tree = Tree::new(cost, &greedy_basis(cost, &masses, interrupt)?);
        (core, bounds) = (None, Bounds::unknown(cost.rows(), cost.cols()));
    } else {
        let prepared = prepare(problem, &masses, threads, interrupt)?;
        (tree, core, bounds) = (prepared.tree, Some(prepared.core), prepared.bounds);
    }
    let mut negative = usize::MAX;
    let (look, complete) = loop {
        let complete = match &core {
            Some(core) => simplex::optimize(core, cost, &mut tree, &mut pivots, interrupt)?,
            None => simplex::optimize(&Whole::new(cost), cost, &mut tree, &mut pivots, interrupt)?,
        };
        let look = look(cost, tree.potentials(cost.max_abs()), &mut bounds, ADDED_PER_ROW, threads);
        if !complete || look.negative.is_empty() || core.is_none() {
            break (look, complete);
        }
        let progress = look.negative.len() <= negative / 2;
        negative = look.negative.len();
        core = core.filter(|_| progress).map(|core| core.with(&look.negative));
    };
    let entries = tree.cells().map(|c| (c.row, c.col, masses.to_mass(c.flow))).collect();
    let plan = SparsePlan::from_entries((cost.rows(), cost.cols()), entries);
    let potentials = tree.potentials(cost.max_abs());
    let certificate = certify(problem, &plan, potentials, look.least);
    let status = match (complete, certificate.proves_optimal()) {
        (false, _) => Status::IterationLimit,
        (true, true) => Status::Optimal,
        (true, false) => Status::NotProven,
    };
    let (u, v) = potentials.to_f64();
    Ok(ExactSolution { plan, u, v, certificate, status, n_iter: pivots.done })
}
