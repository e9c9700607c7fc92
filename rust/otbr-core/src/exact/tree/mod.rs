//! The spanning tree of a transportation basis: structure, flows and potentials.
//!
//! Nodes are the rows 0..n and the columns n..n + m; the root is node 0. Arcs always lead from a row
//! to a column. All nodes are threaded in preorder, in a ring, so a subtree is a stretch of the ring
//! and so is all that is not in it.
//!
//! Potentials are kept in `f64` as long as pivots are many, and in twice that precision in the end:
//! reduced costs then have signs that can be trusted.

mod pivot;

use super::masses::IntegerMasses;
use crate::double_double::Dd;
use crate::geometry::Geometry;
use crate::pricing::{Cell, Duals, Halves, Potentials};

pub(super) const NONE: u32 = u32::MAX;

/// A basic cell and its flow.
pub(super) struct BasicCell {
    pub row: u32,
    pub col: u32,
    pub flow: i128,
}

/// A spanning tree of the complete bipartite graph.
pub(super) struct Tree {
    n: usize,
    nodes: Vec<Node>,
    /// Next and previous node in preorder.
    next: Vec<u32>,
    prev: Vec<u32>,
    /// High and low parts of the potentials, rows then columns.
    hi: Vec<f64>,
    lo: Vec<f64>,
    /// Whether the low parts are kept up.
    exact: bool,
    /// Nodes that pivots have shifted, each time counted.
    shifted: u64,
}

/// What the walks along a cycle look at, together in memory.
#[derive(Clone, Copy)]
struct Node {
    /// Flow of the arc to the parent.
    flow: i128,
    parent: u32,
    /// Nodes in the subtree, the node included.
    size: u32,
    /// Last node in preorder of the subtree.
    last: u32,
}

impl Tree {
    /// From the n + m − 1 cells of a basis, which must span all nodes.
    pub fn new(cost: &impl Geometry, cells: &[BasicCell]) -> Self {
        let (n, nodes) = (cost.rows(), cost.rows() + cost.cols());
        debug_assert_eq!(cells.len(), nodes - 1);
        let mut tree = Self {
            n,
            nodes: (0..nodes as u32).map(|x| Node { flow: 0, parent: NONE, size: 1, last: x }).collect(),
            next: vec![0; nodes],
            prev: vec![0; nodes],
            hi: vec![0.0; nodes],
            lo: vec![0.0; nodes],
            exact: false,
            shifted: 0,
        };
        let (start, arcs) = adjacency(n, nodes, cells);
        let mut stack: Vec<u32> = vec![0];
        let mut order: Vec<u32> = Vec::with_capacity(nodes);
        while let Some(x) = stack.pop() {
            order.push(x);
            for &cell in &arcs[start[x as usize]..start[x as usize + 1]] {
                let BasicCell { row, col, flow } = cells[cell as usize];
                let y = if tree.is_row(x) { n as u32 + col } else { row };
                if y != tree.nodes[x as usize].parent {
                    let node = &mut tree.nodes[y as usize];
                    (node.parent, node.flow) = (x, flow);
                    stack.push(y);
                }
            }
        }
        debug_assert_eq!(order.len(), nodes, "the cells must span all nodes");
        for (k, &x) in order.iter().enumerate() {
            tree.link(x, order[(k + 1) % nodes]);
        }
        for &x in order[1..].iter().rev() {
            let Node { parent, size, last, .. } = tree.nodes[x as usize];
            let above = &mut tree.nodes[parent as usize];
            above.size += size;
            above.last = if above.last == parent { last } else { above.last };
        }
        tree.refresh_potentials(cost);
        tree
    }

    /// From a basis alone: the flows are those that carry the masses, and may be negative.
    pub fn carrying(cost: &impl Geometry, basis: &[(u32, u32)], masses: &IntegerMasses) -> Self {
        let cells: Vec<_> = basis.iter().map(|&(row, col)| BasicCell { row, col, flow: 0 }).collect();
        let mut tree = Self::new(cost, &cells);
        for (node, &mass) in tree.nodes.iter_mut().zip(masses.supply.iter().chain(&masses.demand)) {
            node.flow = mass;
        }
        let mut x = tree.prev[0];
        while x != 0 {
            let Node { parent, flow, .. } = tree.nodes[x as usize];
            tree.nodes[parent as usize].flow -= flow;
            x = tree.prev[x as usize];
        }
        tree
    }

    /// Nodes whose arcs carry a negative flow.
    pub fn negative(&self) -> impl Iterator<Item = u32> + '_ {
        (1..self.nodes.len() as u32).filter(|&x| self.flow(x) < 0)
    }

    pub fn flow(&self, x: u32) -> i128 {
        self.nodes[x as usize].flow
    }

    /// How many they are.
    pub fn smaller_size(&self, x: u32) -> usize {
        let inside = self.nodes[x as usize].size as usize;
        inside.min(self.nodes.len() - inside)
    }

    /// The fewer of the nodes below the arc above a node and of those that are not; whether they are
    /// those below.
    pub fn smaller_part(&self, x: u32, nodes: &mut Vec<u32>) -> bool {
        let (Node { size, last, .. }, all) = (self.nodes[x as usize], self.nodes.len());
        let inside = size as usize;
        let is_inside = 2 * inside <= all;
        let (mut y, count) = if is_inside { (x, inside) } else { (self.next[last as usize], all - inside) };
        nodes.clear();
        for _ in 0..count {
            nodes.push(y);
            y = self.next[y as usize];
        }
        is_inside
    }

    /// Keep potentials in twice the precision of `f64`.
    pub fn be_exact(&mut self, cost: &impl Geometry) {
        self.exact = true;
        self.refresh_potentials(cost);
    }

    /// Keep potentials in `f64`, which is quicker.
    pub fn be_rough(&mut self) {
        self.exact = false;
    }

    /// Compute the potentials anew, free of what rounding gathered.
    pub fn refresh_potentials(&mut self, cost: &impl Geometry) {
        let mut x = self.next[0];
        while x != 0 {
            let parent = self.nodes[x as usize].parent;
            let (row, col) = if self.is_row(x) { (x, parent) } else { (parent, x) };
            let price = Dd::from(cost.at(row as usize, col as usize - self.n));
            let potential = price - self.potential(parent);
            self.hi[x as usize] = potential.hi;
            self.lo[x as usize] = potential.lo;
            x = self.next[x as usize];
        }
    }

    fn link(&mut self, x: u32, y: u32) {
        self.next[x as usize] = y;
        self.prev[y as usize] = x;
    }

    pub fn is_row(&self, x: u32) -> bool {
        (x as usize) < self.n
    }

    /// Potential of a node: u of a row, v of a column; u + v = cost on tree arcs.
    pub fn potential(&self, x: u32) -> Dd {
        Dd { hi: self.hi[x as usize], lo: self.lo[x as usize] }
    }

    /// Potentials of the rows and of the columns, for costs of at most `cost_scale`.
    pub fn potentials(&self, cost_scale: f64) -> Potentials<'_> {
        let ((u_hi, v_hi), (u_lo, v_lo)) = (self.hi.split_at(self.n), self.lo.split_at(self.n));
        Potentials::new(Halves { hi: u_hi, lo: u_lo }, Halves { hi: v_hi, lo: v_lo }, cost_scale)
    }

    /// The potentials, when the tree is needed no more.
    pub fn into_duals(mut self) -> Duals {
        let (v_hi, v_lo) = (self.hi.split_off(self.n), self.lo.split_off(self.n));
        Duals { u_hi: self.hi, u_lo: self.lo, v_hi, v_lo }
    }

    /// How many potentials pivots have shifted so far.
    pub fn shifted(&self) -> u64 {
        self.shifted
    }

    /// cost − u − v of a cell, in the precision that potentials are kept in.
    pub fn reduced_cost(&self, cell: Cell) -> Dd {
        let (row, col) = (cell.row as u32, (self.n + cell.col) as u32);
        if self.exact {
            Dd::from(cell.cost) - self.potential(row) - self.potential(col)
        } else {
            Dd::from(self.rough_reduced_cost(cell))
        }
    }

    /// The same, in `f64`.
    #[inline(always)]
    pub fn rough_reduced_cost(&self, cell: Cell) -> f64 {
        cell.cost - self.hi[cell.row] - self.hi[self.n + cell.col]
    }

    /// The basic cells.
    pub fn cells(&self) -> impl Iterator<Item = BasicCell> + '_ {
        (1..self.nodes.len() as u32).map(|x| {
            let Node { parent, flow, .. } = self.nodes[x as usize];
            let (row, col) = if self.is_row(x) { (x, parent) } else { (parent, x) };
            BasicCell { row, col: col - self.n as u32, flow }
        })
    }
}

/// For each node the cells that touch it, as offsets and one list of cell numbers.
fn adjacency(n: usize, nodes: usize, cells: &[BasicCell]) -> (Vec<usize>, Vec<u32>) {
    let mut start = vec![0; nodes + 1];
    for cell in cells {
        start[cell.row as usize + 1] += 1;
        start[n + cell.col as usize + 1] += 1;
    }
    for x in 0..nodes {
        start[x + 1] += start[x];
    }
    let mut fill = start.clone();
    let mut arcs = vec![0; 2 * cells.len()];
    for (k, cell) in cells.iter().enumerate() {
        for x in [cell.row as usize, n + cell.col as usize] {
            arcs[fill[x]] = k as u32;
            fill[x] += 1;
        }
    }
    (start, arcs)
}
