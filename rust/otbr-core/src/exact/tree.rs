//! The spanning tree of a transportation basis: structure, flows and potentials.
//!
//! Nodes are the rows 0..n and the columns n..n + m; the root is node 0. Arcs always lead from a row
//! to a column. All nodes are threaded in preorder, in a ring, so a subtree is a stretch of the ring
//! and so is all that is not in it.
//!
//! Potentials are kept in `f64` as long as pivots are many, and in twice that precision in the end:
//! reduced costs then have signs that can be trusted.

use std::hint::select_unpredictable as select;

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

    /// Bring a cell with negative reduced cost into the basis; the cell whose flow reaches zero
    /// first leaves. Without ties there is exactly one.
    pub fn pivot(&mut self, row: usize, col: usize, reduced_cost: Dd) {
        self.enter(row, col, 0, reduced_cost);
    }

    /// Take in a cell outside the basis that carries `flow`: send more or less through it,
    /// whichever does not cost more, until it or a basic cell is empty.
    pub fn absorb(&mut self, row: usize, col: usize, flow: i128, reduced_cost: Dd) {
        self.enter(row, col, flow, reduced_cost);
    }

    fn enter(&mut self, row: usize, col: usize, flow: i128, reduced_cost: Dd) {
        let (row, col) = (row as u32, (self.n + col) as u32);
        let more = reduced_cost.hi < 0.0 || flow == 0;
        let Cycle { join, leaving, theta, on_row_side } = self.cycle(row, col, more);
        if !more && flow <= theta {
            self.push(row, join, -flow, true, 0);
            self.push(col, join, -flow, false, 0);
            return;
        }
        let theta = if more { theta } else { -theta };
        self.exchange((row, col), join, (leaving, on_row_side), (flow, theta), reduced_cost);
    }

    /// Let the arc above a node, whose flow is negative, leave for a cell that joins the two parts
    /// in the other direction.
    pub fn replace(&mut self, leaving: u32, cell: Cell, reduced_cost: Dd) {
        let (row, col) = (cell.row as u32, (self.n + cell.col) as u32);
        let (join, theta) = (self.cycle(row, col, true).join, -self.flow(leaving));
        // Below a column too much arrives: the cell leads out of that part. Below a row, into it.
        let on_row_side = !self.is_row(leaving);
        self.exchange((row, col), join, (leaving, on_row_side), (0, theta), reduced_cost);
    }

    /// Send `theta` more round the cycle that a cell with a flow closes; the leaving node's arc,
    /// which is on the row's or on the column's side, gives way to the cell.
    fn exchange(
        &mut self,
        (row, col): (u32, u32),
        join: u32,
        (leaving, on_row_side): (u32, bool),
        (flow, theta): (i128, i128),
        reduced_cost: Dd,
    ) {
        let (inner, outer) = if on_row_side { (row, col) } else { (col, row) };
        // Ancestors below the join lose the leaving subtree on one side and win it on the other.
        let Node { parent, size, .. } = self.nodes[leaving as usize];
        self.push(parent, join, theta, on_row_side, size.wrapping_neg());
        self.push(outer, join, theta, !on_row_side, size);
        self.reroot(inner, leaving, outer, (flow + theta, theta));
        self.shift(inner, reduced_cost);
    }

    /// The cycle that a cell closes, and the arc on it that more flow, or less, empties first.
    ///
    /// Of two nodes the one with the smaller subtree is no ancestor of the other, so it may step up.
    fn cycle(&self, row: u32, col: u32, more: bool) -> Cycle {
        let mut cycle = Cycle { join: NONE, leaving: NONE, theta: i128::MAX, on_row_side: true };
        let (mut x, mut y) = (row, col);
        while x != y {
            let (x_node, y_node) = (&self.nodes[x as usize], &self.nodes[y as usize]);
            let on_row_side = x_node.size <= y_node.size;
            let at = select(on_row_side, x, y);
            let flow = select(on_row_side, x_node.flow, y_node.flow);
            let is_less = (self.falls(at, on_row_side) == more) & (flow < cycle.theta);
            cycle.leaving = select(is_less, at, cycle.leaving);
            cycle.theta = select(is_less, flow, cycle.theta);
            cycle.on_row_side = select(is_less, on_row_side, cycle.on_row_side);
            (x, y) = (select(on_row_side, x_node.parent, x), select(on_row_side, y, y_node.parent));
        }
        cycle.join = x;
        cycle
    }

    /// Flow goes round row → col → join → row. Below the join it falls on arcs that lead against
    /// that direction: those above rows on the row's side, above columns on the column's side.
    #[inline(always)]
    fn falls(&self, x: u32, on_row_side: bool) -> bool {
        self.is_row(x) == on_row_side
    }

    /// From a node up to the join: `theta` more on the cycle, and `more` nodes below.
    fn push(&mut self, start: u32, join: u32, theta: i128, on_row_side: bool, more: u32) {
        let (mut x, mut theta) = (start, if self.falls(start, on_row_side) { -theta } else { theta });
        while x != join {
            let node = &mut self.nodes[x as usize];
            node.flow += theta;
            theta = -theta;
            node.size = node.size.wrapping_add(more);
            x = node.parent;
        }
    }

    /// Hang the subtree of `leaving` below `outer` by its node `inner` and an arc with a flow, turning
    /// the path between, on which `theta` more goes round.
    fn reroot(&mut self, inner: u32, leaving: u32, outer: u32, (mut flow, mut theta): (i128, i128)) {
        self.cut(leaving);
        let whole = self.nodes[leaving as usize].size;
        let (mut x, mut above, mut size) = (inner, outer, whole);
        let mut end = NONE;
        // Of the node below on the path: its last, and what came before it and after its last.
        let mut below = (NONE, NONE, NONE);
        loop {
            // It falls on the arc above `inner`, where the flow of the new one rises, and so by turns.
            theta = -theta;
            let before = self.prev[x as usize];
            let node = &mut self.nodes[x as usize];
            let Node { parent, last, .. } = *node;
            flow = std::mem::replace(&mut node.flow, flow) + theta;
            size = whole - std::mem::replace(&mut node.size, size);
            node.parent = above;
            let after = if last == below.0 { below.2 } else { self.next[last as usize] };
            let around = (last, before, after);
            // In preorder first comes the subtree of `inner`, then what the next node of the path
            // has besides, and so on.
            if end == NONE {
                end = last;
            } else {
                self.link(end, x);
                end = if last == below.0 { below.1 } else { last };
                if last != below.0 {
                    self.link(below.1, below.2);
                }
            }
            below = around;
            if x == leaving {
                break;
            }
            (x, above) = (parent, x);
        }
        while x != outer {
            self.nodes[x as usize].last = end;
            x = self.nodes[x as usize].parent;
        }
        self.insert(inner, end, outer);
    }

    /// Take the subtree of a node out of the ring.
    fn cut(&mut self, x: u32) {
        let (Node { parent, last, .. }, before) = (self.nodes[x as usize], self.prev[x as usize]);
        self.link(before, self.next[last as usize]);
        self.relast(parent, last, before);
    }

    /// Put the stretch from `first` to `last` behind the node that is its parent.
    fn insert(&mut self, first: u32, last: u32, parent: u32) {
        let after = self.next[parent as usize];
        self.link(parent, first);
        self.link(last, after);
        self.relast(parent, parent, last);
    }

    /// From x up: where the subtree's last node was `old`, it is `new`.
    fn relast(&mut self, mut x: u32, old: u32, new: u32) {
        while x != NONE && self.nodes[x as usize].last == old {
            self.nodes[x as usize].last = new;
            x = self.nodes[x as usize].parent;
        }
    }

    /// Make the cell above `inner` tight again: shift the potentials below it, or those of all
    /// other nodes the other way, whichever are fewer.
    fn shift(&mut self, inner: u32, reduced_cost: Dd) {
        let rows_up = if self.is_row(inner) { reduced_cost } else { -reduced_cost };
        let Node { size, last, .. } = self.nodes[inner as usize];
        let (inside, all) = (size as usize, self.nodes.len());
        if 2 * inside <= all {
            self.shift_stretch(inner, last, inside, rows_up);
        } else {
            let (first, last) = (self.next[last as usize], self.prev[inner as usize]);
            self.shift_stretch(first, last, all - inside, -rows_up);
        }
    }

    /// Add to the rows in a stretch of the ring, of `count` nodes, and subtract from the columns.
    fn shift_stretch(&mut self, first: u32, last: u32, count: usize, rows_up: Dd) {
        self.shifted += count as u64;
        // From both ends: each step waits for the one before it.
        let (mut x, mut y) = (first, last);
        for _ in 0..count / 2 {
            self.shift_node(x, rows_up);
            self.shift_node(y, rows_up);
            (x, y) = (self.next[x as usize], self.prev[y as usize]);
        }
        if count % 2 == 1 {
            self.shift_node(x, rows_up);
        }
    }

    #[inline(always)]
    fn shift_node(&mut self, x: u32, rows_up: Dd) {
        // No processor foretells which kind comes next, so there is no branch: x − n < 0 for rows.
        let row_sign = u64::from(x).wrapping_sub(self.n as u64) & 1 << 63;
        let signed = |part: f64| f64::from_bits((-part).to_bits() ^ row_sign);
        let delta = Dd { hi: signed(rows_up.hi), lo: signed(rows_up.lo) };
        if self.exact {
            let potential = self.potential(x) + delta;
            self.hi[x as usize] = potential.hi;
            self.lo[x as usize] = potential.lo;
        } else {
            self.hi[x as usize] += delta.hi;
        }
    }
}

/// A cycle's highest node, and the arc that is emptied first: the node below it, its flow, its side.
struct Cycle {
    join: u32,
    leaving: u32,
    theta: i128,
    on_row_side: bool,
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
