//! From a flow to a basis.

use super::tree::{BasicCell, Tree};
use crate::geometry::Geometry;
use crate::pricing::Cell;

/// The basis that a flow comes to when the cycles in its support are emptied, each in the
/// direction that does not cost more.
///
/// No proper part of the nodes is balanced (`masses`), so the support joins them all.
pub(super) fn basis(cost: &impl Geometry, mut cells: Vec<BasicCell>) -> Tree {
    cells.sort_unstable_by_key(|c| (c.row, c.col));
    cells.dedup_by(|later, kept| {
        let same = (later.row, later.col) == (kept.row, kept.col);
        if same {
            kept.flow += later.flow;
        }
        same
    });
    cells.sort_by_key(|c| std::cmp::Reverse(c.flow));
    let mut sets = Sets::new(cost.rows() + cost.cols());
    let joins = |c: &BasicCell| sets.join(c.row as usize, cost.rows() + c.col as usize);
    let (tree, rest): (Vec<_>, Vec<_>) = cells.into_iter().partition(joins);
    let mut tree = Tree::new(cost, &tree);
    for BasicCell { row, col, flow } in rest {
        let (row, col) = (row as usize, col as usize);
        let reduced_cost = tree.reduced_cost(Cell { row, col, cost: cost.at(row, col) });
        tree.absorb(row, col, flow, reduced_cost);
    }
    tree
}

/// Whether cells are a basis: a spanning tree of all rows and columns.
pub(super) fn spans(rows: usize, cols: usize, cells: &[(u32, u32)]) -> bool {
    let mut sets = Sets::new(rows + cols);
    cells.len() + 1 == rows + cols && cells.iter().all(|&(i, j)| sets.join(i as usize, rows + j as usize))
}

/// Disjoint sets of nodes.
struct Sets {
    parent: Vec<u32>,
}

impl Sets {
    fn new(nodes: usize) -> Self {
        Self { parent: (0..nodes as u32).collect() }
    }

    fn find(&mut self, mut x: usize) -> usize {
        while self.parent[x] as usize != x {
            self.parent[x] = self.parent[self.parent[x] as usize];
            x = self.parent[x] as usize;
        }
        x
    }

    /// Make one set of two; false if they were one.
    fn join(&mut self, x: usize, y: usize) -> bool {
        let (x, y) = (self.find(x), self.find(y));
        self.parent[x] = y as u32;
        x != y
    }
}
