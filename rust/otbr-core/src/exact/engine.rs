//! The simplex on a core, and the look at all costs that proves it or adds to the core.

use std::time::{Duration, Instant};

use super::bounds::Bounds;
use super::look::look;
use super::masses::IntegerMasses;
use super::prepare::{Prepared, prepare, prepare_from};
use super::simplex::{End, optimize};
use super::start::{greedy_basis, send_leftovers};
use super::tree::Tree;
use super::{ExactOptions, Hint, Optimum, Search};
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::pricing::Whole;
use crate::problem::Transport;
use crate::threads::Threads;

/// Matrices of fewer entries are searched whole.
const WORTH_A_CORE: usize = 1 << 16;

/// Cells of a row that one look at all costs adds to the core.
const ADDED_PER_ROW: usize = 16;

/// Looks before a core that does not settle is given up, unless there are fewer negative cells than
/// this part of the rows: a look at little that changed costs little.
const PATIENCE: usize = 4;
const FEW: usize = 16;

/// What cut a solver short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Iterations,
    Time,
}

/// Pivots done, and what they must keep within.
pub(super) struct Limits {
    pub done: u64,
    max: u64,
    deadline: Option<Instant>,
}

impl Limits {
    pub fn new(max: u64, time: Option<Duration>) -> Self {
        Self { done: 0, max, deadline: time.and_then(|time| Instant::now().checked_add(time)) }
    }

    pub fn pivots_spent(&self) -> Option<Limit> {
        (self.done >= self.max).then_some(Limit::Iterations)
    }

    pub fn time_spent(&self) -> Option<Limit> {
        self.deadline.is_some_and(|end| Instant::now() >= end).then_some(Limit::Time)
    }
}

pub(super) fn solve<G: Geometry>(
    problem: &Transport<G>,
    options: ExactOptions<'_>,
    limits: &mut Limits,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<Optimum> {
    let (cost, masses) = (&problem.cost, IntegerMasses::new(problem));
    let on_core = match options.search {
        Search::Auto => cost.rows() * cost.cols() >= WORTH_A_CORE,
        Search::Core => true,
        Search::Whole => false,
    };
    if options.start.is_some() || !on_core {
        problem.read(threads)?;
    }
    let Prepared { mut tree, mut core, mut bounds, smooth } = match options.start {
        Some(start) if on_core => prepare_from(problem, &masses, start, limits, threads, interrupt)?,
        None if on_core => prepare(problem, &masses, threads, interrupt)?,
        start => {
            let cells = match start {
                Some(start) => {
                    let (supply, demand) = (masses.supply.clone(), masses.demand.clone());
                    send_leftovers(cost, start.v, supply, demand, interrupt)?
                }
                None => greedy_basis(problem, &masses, interrupt)?,
            };
            let bounds = Bounds::unknown(cost.rows(), cost.cols());
            Prepared { tree: Tree::new(cost, &cells), core: None, bounds, smooth: Vec::new() }
        }
    };
    let (mut negative, mut rounds) = (usize::MAX, 0);
    let (least, limit) = loop {
        let end = match &core {
            Some(core) => optimize(core, cost, &mut tree, limits, interrupt)?,
            None => optimize(&Whole::new(cost), cost, &mut tree, limits, interrupt)?,
        };
        let limit = match end {
            End::Least(least) if core.is_none() => break (least, None),
            End::Least(_) => None,
            End::Limit(limit) => Some(limit),
        };
        let look = look(
            cost,
            core.as_ref(),
            tree.potentials(cost.max_abs()),
            &mut bounds,
            ADDED_PER_ROW,
            threads,
            interrupt,
        )?;
        if limit.is_some() || look.negative.is_empty() || core.is_none() {
            break (look.least, limit);
        }
        rounds += 1;
        let few = look.negative.len() <= cost.rows() / FEW;
        let settles = few || rounds < PATIENCE || 4 * look.negative.len() <= 3 * negative;
        negative = look.negative.len();
        core = core.filter(|_| settles).map(|core| core.with(&look.negative));
        if core.is_none() {
            // Bounds tell nothing of what was in the core.
            bounds = Bounds::unknown(cost.rows(), cost.cols());
        }
    };
    Ok(Optimum {
        entries: tree.cells().map(|c| (c.row, c.col, masses.to_mass(c.flow))).collect(),
        hint: Hint {
            v: smooth,
            core: core.map_or_else(Vec::new, |core| core.cells()),
            basis: tree.cells().map(|c| (c.row, c.col)).collect(),
        },
        duals: tree.into_duals(),
        least,
        limit,
    })
}
