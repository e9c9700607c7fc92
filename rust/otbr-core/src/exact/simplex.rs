//! The transportation simplex on a dense cost.
//!
//! Rows are priced block by block; the most negative cell of a block enters. Bulk pricing is in
//! `f64` with a margin above its rounding; when it finds nothing more, a pass in twice the precision
//! looks at every cell that `f64` could not decide. Every pivot has a reduced cost proven negative
//! and a flow proven positive (`masses`), so each lowers the cost and the method ends.

use super::masses::IntegerMasses;
use super::start::greedy_basis;
use super::tree::Tree;
use crate::double_double::Dd;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::pricing::Pricing;
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
    let mut tree = Tree::new(cost, &greedy_basis(cost, masses));
    let mut search = BlockSearch::new(cost.rows());
    let mut n_pivots = 0;
    while let Some((row, col, reduced_cost)) = search.next(problem, &tree, interrupt)? {
        if n_pivots == max_pivots {
            return Ok(Basis { tree, n_pivots, complete: false });
        }
        tree.pivot(row, col, reduced_cost);
        n_pivots += 1;
        if n_pivots % PIVOTS_PER_CHECK == 0 {
            interrupt.check()?;
        }
    }
    Ok(Basis { tree, n_pivots, complete: true })
}

/// Cyclic search for an entering cell, first by `f64`, in the end exactly.
struct BlockSearch {
    rows: usize,
    block: usize,
    at: usize,
    exact: bool,
    arch: pulp::Arch,
}

impl BlockSearch {
    fn new(rows: usize) -> Self {
        let block = (rows / 32).clamp(1, 64);
        Self { rows, block, at: 0, exact: false, arch: pulp::Arch::new() }
    }

    /// The best cell of the first block that has any, going round once from where the last was.
    fn next<T: Scalar>(
        &mut self,
        problem: &Problem<'_, T>,
        tree: &Tree,
        interrupt: Interrupt<'_>,
    ) -> Result<Option<(usize, usize, Dd)>> {
        let (u, v) = tree.rounded_potentials();
        let pricing = Pricing::new(&problem.cost, u, v);
        let mut unseen = self.rows;
        loop {
            if unseen == 0 {
                if self.exact {
                    return Ok(None);
                }
                (self.exact, unseen) = (true, self.rows);
            }
            let end = (self.at + self.block.min(unseen)).min(self.rows);
            let found = if self.exact {
                self.exact_cell(&pricing, tree, end)
            } else {
                self.rough_cell(&pricing, tree, end)
            };
            unseen -= end - self.at;
            self.at = if end == self.rows { 0 } else { end };
            if found.is_some() {
                return Ok(found);
            }
            if self.at == 0 {
                interrupt.check()?;
            }
        }
    }

    fn rough_cell<T: Scalar>(
        &self,
        pricing: &Pricing<'_, T>,
        tree: &Tree,
        end: usize,
    ) -> Option<(usize, usize, Dd)> {
        let (row, col) = pricing.surely_negative(self.at..end, self.arch)?;
        Some((row, col, tree.reduced_cost(pricing.cost.at(row, col), row, col)))
    }

    fn exact_cell<T: Scalar>(
        &self,
        pricing: &Pricing<'_, T>,
        tree: &Tree,
        end: usize,
    ) -> Option<(usize, usize, Dd)> {
        let scale = pricing.cost.max_abs() + pricing.v_max;
        let exact = |cost, i, j| tree.reduced_cost(cost, i, j);
        let found = pricing.least_exact(self.at..end, -EXACT_ZERO * scale, self.arch, exact)?;
        Some((found.row, found.col, found.reduced_cost))
    }
}
