//! From the basis of one problem to a basis of another: the dual simplex on the core.
//!
//! Under changed masses the arcs of a basis carry flows that may be negative, while reduced costs
//! stay what they were. An arc with a negative flow leaves; of the cells that can do its work, the
//! one with the least reduced cost enters.

use super::core::{Core, starts};
use super::engine::Limits;
use super::masses::IntegerMasses;
use super::simplex::PIVOTS_PER_CHECK;
use super::spanning::spans;
use super::tree::Tree;
use crate::double_double::Dd;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::pricing::{Cell, Rows, SHIFTS};
use crate::scalar::Scalar;

/// Pivots for each node after which the basis is given up: it is of another problem altogether.
const PIVOTS_PER_NODE: u64 = 4;

/// Of the negative arcs one in so many leaves before they are put in order anew.
const PARTS: usize = 4;

/// A tree from a basis of a problem like this, in which no flow is negative; None if that is no
/// basis, leads nowhere, or takes longer than there is time for.
pub(super) fn repaired<G: Geometry>(
    cost: &G,
    core: &Core<G::Cost>,
    masses: &IntegerMasses,
    basis: &[(u32, u32)],
    limits: &mut Limits,
    interrupt: Interrupt<'_>,
) -> Result<Option<Tree>> {
    let nodes = cost.rows() + cost.cols();
    if !spans(cost.rows(), cost.cols(), basis) {
        return Ok(None);
    }
    let mut tree = Tree::carrying(cost, basis, masses);
    let mut crossing = Crossing::new(core, cost.cols());
    let before = limits.done;
    loop {
        let mut negative: Vec<u32> = tree.negative().collect();
        if negative.is_empty() {
            return Ok(Some(tree));
        }
        // Large flows first, and before them those whose arcs cut off few nodes: they take least work.
        negative.sort_by_cached_key(|&x| tree.flow(x) / (tree.smaller_size(x) as i128).pow(2));
        negative.truncate(negative.len().div_ceil(PARTS));
        for x in negative {
            // Earlier pivots may have moved the arc to another node, or raised its flow.
            if tree.flow(x) >= 0 {
                continue;
            }
            if limits.pivots_spent().is_some() || limits.done - before >= PIVOTS_PER_NODE * nodes as u64 {
                return Ok(None);
            }
            let Some((cell, reduced_cost)) = crossing.least(&tree, x) else { return Ok(None) };
            tree.replace(x, cell, reduced_cost);
            limits.done += 1;
            if limits.done.is_multiple_of(PIVOTS_PER_CHECK) {
                interrupt.check_after(limits.done)?;
                if limits.time_spent().is_some() {
                    return Ok(None);
                }
            }
            if limits.done.is_multiple_of(u64::from(SHIFTS)) {
                tree.refresh_potentials(cost);
            }
        }
    }
}

/// The search for cells of the core between two parts of a tree.
struct Crossing<'a, T> {
    core: &'a Core<T>,
    /// Column by column the rows and costs of the core, and where each column's start.
    start: Vec<usize>,
    rows: Vec<u32>,
    costs: Vec<T>,
    /// The smaller part, and for each node whether it belongs to it.
    part: Vec<u32>,
    belongs: Vec<bool>,
}

impl<'a, T: Scalar> Crossing<'a, T> {
    fn new(core: &'a Core<T>, cols: usize) -> Self {
        let (n, start) = (core.count(), starts(cols, core.cols.iter().copied()));
        let (mut rows, mut costs, mut fill) = (vec![0; core.cols.len()], core.costs.clone(), start.clone());
        for i in 0..n {
            for e in core.row(i) {
                let place = &mut fill[core.cols[e] as usize];
                (rows[*place], costs[*place]) = (i as u32, core.costs[e]);
                *place += 1;
            }
        }
        Self { core, start, rows, costs, part: Vec::new(), belongs: vec![false; n + cols] }
    }

    /// The cell of least reduced cost that can take the place of the arc above a node. Its flow is
    /// negative: below a row too little is sent, below a column too much.
    fn least(&mut self, tree: &Tree, x: u32) -> Option<(Cell, Dd)> {
        let below = tree.smaller_part(x, &mut self.part);
        for &y in &self.part {
            self.belongs[y as usize] = true;
        }
        // The cell leads out of the part with too much, from a row to a column.
        let out = below != tree.is_row(x);
        let mut best: Option<(Cell, f64)> = None;
        for &y in self.part.iter().filter(|&&y| tree.is_row(y) == out) {
            let consider = |cell: Cell| {
                let reduced_cost = tree.rough_reduced_cost(cell);
                if best.is_none_or(|b| reduced_cost < b.1) {
                    best = Some((cell, reduced_cost));
                }
            };
            self.cells_across(y as usize, out).for_each(consider);
        }
        for &y in &self.part {
            self.belongs[y as usize] = false;
        }
        best.map(|(cell, _)| (cell, tree.reduced_cost(cell)))
    }

    /// The cells of a row (column) of the part to what does not belong to it.
    fn cells_across(&self, y: usize, is_row: bool) -> impl Iterator<Item = Cell> {
        let n = self.core.count();
        let places = if is_row { self.core.row(y) } else { self.start[y - n]..self.start[y - n + 1] };
        places.filter_map(move |e| {
            let cell = if is_row {
                Cell { row: y, col: self.core.cols[e] as usize, cost: self.core.costs[e].to_f64() }
            } else {
                Cell { row: self.rows[e] as usize, col: y - n, cost: self.costs[e].to_f64() }
            };
            let other = if is_row { n + cell.col } else { cell.row };
            (!self.belongs[other]).then_some(cell)
        })
    }
}
