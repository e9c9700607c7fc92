//! The transportation simplex on a dense cost.
//!
//! Rows are priced block by block; each block gives candidates, the best of which enter one after
//! the other. Bulk pricing is in `f64` with a margin above its rounding; when it finds nothing more,
//! a pass in twice the precision looks at every cell that `f64` could not decide. Every pivot has a reduced cost proven negative
//! and a flow proven positive (`masses`), so each lowers the cost and the method ends.

use super::masses::IntegerMasses;
use super::start::greedy_basis;
use super::tree::Tree;
use crate::double_double::Dd;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::pricing::{Candidate, Cell, Pricing};
use crate::problem::Problem;
use crate::scalar::Scalar;

/// A reduced cost above −2⁻⁸⁰ of the scale of the numbers it comes from counts as zero: the
/// rounding of potentials in twice the precision of `f64` stays below that.
const EXACT_ZERO: f64 = 1.0 / (1u128 << 80) as f64;

/// Pivots between two questions whether to stop.
const PIVOTS_PER_CHECK: u64 = 32;

/// An optimal basis, or the best one when the pivots ran out.
pub(super) struct Basis {
    pub tree: Tree,
    pub n_pivots: u64,
    pub complete: bool,
}

/// Pivot until no cell has a negative reduced cost or `max_pivots` are done.
pub(super) fn solve<T: Scalar>(
    problem: &Problem<'_, T>,
    masses: &IntegerMasses,
    max_pivots: u64,
    interrupt: Interrupt<'_>,
) -> Result<Basis> {
    let cost = &problem.cost;
    let mut tree = Tree::new(cost, &greedy_basis(cost, masses, interrupt)?);
    let mut search = BlockSearch::new(cost.rows());
    let mut n_pivots = 0;
    while let Some(entering) = search.next(problem, &tree, interrupt)? {
        if n_pivots == max_pivots {
            return Ok(Basis { tree, n_pivots, complete: false });
        }
        tree.pivot(entering.row, entering.col, entering.reduced_cost);
        n_pivots += 1;
        if n_pivots % PIVOTS_PER_CHECK == 0 {
            interrupt.check()?;
        }
    }
    Ok(Basis { tree, n_pivots, complete: true })
}

/// Cyclic search for entering cells, first by `f64`, in the end exactly.
///
/// A block of rows is priced at a time and gives one candidate a row; as long as candidates still
/// have negative reduced costs the best of them enters, and the matrix is not read.
struct BlockSearch {
    rows: usize,
    block: usize,
    at: usize,
    candidates: Vec<Cell>,
    /// A reduced cost above this counts as zero.
    threshold: f64,
    /// Rows of which nothing is known since the last candidates came up.
    unseen: usize,
    exact: bool,
    arch: pulp::Arch,
}

impl BlockSearch {
    fn new(rows: usize) -> Self {
        let block = (rows / 16).clamp(1, 64);
        let arch = pulp::Arch::new();
        Self { rows, block, at: 0, candidates: Vec::new(), threshold: 0.0, unseen: rows, exact: false, arch }
    }

    /// A cell with negative reduced cost; none are left when all rows were seen without any.
    fn next<T: Scalar>(
        &mut self,
        problem: &Problem<'_, T>,
        tree: &Tree,
        interrupt: Interrupt<'_>,
    ) -> Result<Option<Candidate>> {
        loop {
            if let Some(best) = self.best_candidate(tree) {
                return Ok(Some(best));
            }
            if self.unseen == 0 {
                if self.exact {
                    return Ok(None);
                }
                (self.exact, self.unseen) = (true, self.rows);
            }
            self.price_block(problem, tree);
            if self.at == 0 {
                interrupt.check()?;
            }
        }
    }

    /// The most negative of the candidates; those that are no longer negative are dropped.
    fn best_candidate(&mut self, tree: &Tree) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        self.candidates.retain(|cell| {
            let reduced_cost = tree.reduced_cost(cell.cost, cell.row, cell.col);
            let negative = (reduced_cost - Dd::from(self.threshold)).to_f64() < 0.0;
            if negative && best.is_none_or(|b| reduced_cost.hi < b.reduced_cost.hi) {
                best = Some(Candidate { row: cell.row, col: cell.col, reduced_cost });
            }
            negative
        });
        best
    }

    /// Price the next block.
    fn price_block<T: Scalar>(&mut self, problem: &Problem<'_, T>, tree: &Tree) {
        let (u, v) = tree.rounded_potentials();
        let pricing = Pricing::new(&problem.cost, u, v);
        let end = (self.at + self.block).min(self.rows);
        self.threshold = -EXACT_ZERO * (problem.cost.max_abs() + pricing.v_max);
        if self.exact {
            let exact = |cost, row, col| tree.reduced_cost(cost, row, col);
            let found = pricing.least_exact(self.at..end, self.threshold, self.arch, exact);
            let cell = |c: Candidate| Cell { row: c.row, col: c.col, cost: problem.cost.at(c.row, c.col) };
            self.candidates.extend(found.map(cell));
        } else {
            pricing.surely_negative(self.at..end, self.arch, &mut self.candidates);
        }
        self.unseen =
            if self.candidates.is_empty() { self.unseen.saturating_sub(end - self.at) } else { self.rows };
        self.at = if end == self.rows { 0 } else { end };
    }
}
