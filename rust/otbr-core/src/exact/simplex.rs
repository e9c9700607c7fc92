//! Pivots, and the search for cells to enter.
//!
//! Rows are priced block by block; each block gives candidates, the best of which enter one after
//! the other. Bulk pricing is in `f64` with a margin above its rounding; when it finds nothing more,
//! cells that `f64` cannot decide are looked at in twice the precision. Every pivot has a reduced
//! cost proven negative and a flow proven positive (`masses`), so each lowers the cost and the
//! method ends.

use super::candidates::Candidates;
use super::engine::{Limit, Limits};
use super::tree::Tree;
use crate::double_double::Dd;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::pricing::{Cell, Rows, SHIFTS};

/// Pivots between two questions whether to stop.
pub(super) const PIVOTS_PER_CHECK: u64 = 32;

/// Blocks that rows are priced in, unless blocks get longer than this.
const BLOCKS: usize = 4;
const MAX_BLOCK: usize = 2048;

/// How the simplex ends.
pub(super) enum End {
    /// With all cells priced exactly, none of which is negative: the least of their reduced costs.
    Least(f64),
    /// Cut short.
    Limit(Limit),
}

/// Pivot until none of the cells has a negative reduced cost, or a limit is reached.
pub(super) fn optimize(
    cells: &impl Rows,
    cost: &impl Geometry,
    tree: &mut Tree,
    limits: &mut Limits,
    interrupt: Interrupt<'_>,
) -> Result<End> {
    let mut search = BlockSearch::new(cells, cost.max_abs());
    tree.be_rough();
    loop {
        let Some((entering, reduced_cost)) = search.next(tree, interrupt)? else {
            if search.exact {
                return Ok(End::Least(search.least));
            }
            tree.be_exact(cost);
            search.be_exact();
            continue;
        };
        if let Some(limit) = limits.pivots_spent() {
            return Ok(End::Limit(limit));
        }
        tree.pivot(entering.row, entering.col, reduced_cost);
        limits.done += 1;
        if limits.done.is_multiple_of(PIVOTS_PER_CHECK) {
            interrupt.check_after(limits.done)?;
            if let Some(limit) = limits.time_spent() {
                return Ok(End::Limit(limit));
            }
        }
        if !search.exact && limits.done.is_multiple_of(u64::from(SHIFTS)) {
            tree.refresh_potentials(cost);
        }
    }
}

/// Cyclic search for entering cells, first by `f64`, in the end exactly.
///
/// A block of rows is priced at a time and gives one candidate a row; as long as candidates still
/// have negative reduced costs the best of them enters, and no other cell is read.
struct BlockSearch<'a, R> {
    cells: &'a R,
    cost_scale: f64,
    block: usize,
    at: usize,
    /// What the last block gave; kept for its memory.
    found: Vec<Cell>,
    candidates: Candidates,
    /// Rows of which nothing is known since the last candidates came up.
    unseen: usize,
    exact: bool,
    /// Where exact, the least reduced cost of the rows seen since then.
    least: f64,
}

impl<'a, R: Rows> BlockSearch<'a, R> {
    fn new(cells: &'a R, cost_scale: f64) -> Self {
        let rows = cells.count();
        Self {
            cells,
            cost_scale,
            block: (rows / BLOCKS).clamp(1, MAX_BLOCK),
            at: 0,
            found: Vec::new(),
            candidates: Candidates::default(),
            unseen: rows,
            exact: false,
            least: f64::INFINITY,
        }
    }

    /// A cell with negative reduced cost; none are left when all rows were seen without any.
    fn next(&mut self, tree: &Tree, interrupt: Interrupt<'_>) -> Result<Option<(Cell, Dd)>> {
        loop {
            if let Some(best) = self.candidates.take_best(tree) {
                return Ok(Some(best));
            }
            if self.unseen == 0 {
                return Ok(None);
            }
            self.price_block(tree);
            if self.at == 0 {
                interrupt.check()?;
            }
        }
    }

    fn be_exact(&mut self) {
        (self.exact, self.unseen) = (true, self.cells.count());
    }

    /// Price the next block.
    fn price_block(&mut self, tree: &Tree) {
        let potentials = tree.potentials(self.cost_scale);
        let rows = self.at..(self.at + self.block).min(self.cells.count());
        let zero = if self.exact { potentials.zero() } else { potentials.rough_zero() };
        if self.exact {
            for row in rows.clone() {
                let Some((cell, reduced_cost)) = potentials.least_exact(self.cells, row, f64::MAX) else {
                    continue;
                };
                self.least = self.least.min(reduced_cost.to_f64());
                self.found.extend((reduced_cost.to_f64() < zero).then_some(cell));
            }
        } else {
            potentials.least_below(self.cells, rows.clone(), zero, &mut self.found);
        }
        let all = self.cells.count();
        if self.found.is_empty() {
            self.unseen = self.unseen.saturating_sub(rows.len());
        } else {
            (self.unseen, self.least) = (all, f64::INFINITY);
        }
        self.at = if rows.end == all { 0 } else { rows.end };
        self.candidates.fill(self.found.drain(..), zero);
    }
}
