//! The spanning tree of a transportation basis: structure, flows and potentials.
//!
//! Nodes are the rows 0..n and the columns n..n + m; the root is node 0. A node's flow is that of
//! the arc to its parent. Arcs always lead from a row to a column. Potentials are kept in twice
//! the precision of `f64`, so reduced costs have signs that can be trusted and thousands of
//! updates do not drift.

use crate::double_double::Dd;
use crate::problem::MatrixView;
use crate::scalar::Scalar;

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
    parent: Vec<u32>,
    first_child: Vec<u32>,
    next: Vec<u32>,
    prev: Vec<u32>,
    /// Nodes in the subtree, the node included.
    size: Vec<u32>,
    flow: Vec<i128>,
    /// High parts of the potentials, rows then columns: what pricing reads.
    hi: Vec<f64>,
    lo: Vec<f64>,
}

impl Tree {
    /// From the n + m − 1 cells of a basis, which must span all nodes.
    pub fn new<T: Scalar>(cost: &MatrixView<'_, T>, cells: &[BasicCell]) -> Self {
        let (n, nodes) = (cost.rows(), cost.rows() + cost.cols());
        debug_assert_eq!(cells.len(), nodes - 1);
        let mut tree = Self {
            n,
            parent: vec![NONE; nodes],
            first_child: vec![NONE; nodes],
            next: vec![NONE; nodes],
            prev: vec![NONE; nodes],
            size: vec![1; nodes],
            flow: vec![0; nodes],
            hi: vec![0.0; nodes],
            lo: vec![0.0; nodes],
        };
        let (start, arcs) = adjacency(n, nodes, cells);
        let mut order: Vec<u32> = vec![0];
        let mut at = 0;
        while at < order.len() {
            let x = order[at];
            at += 1;
            for &cell in &arcs[start[x as usize]..start[x as usize + 1]] {
                let BasicCell { row, col, flow } = cells[cell as usize];
                let y = if tree.is_row(x) { n as u32 + col } else { row };
                if y == tree.parent[x as usize] {
                    continue;
                }
                tree.attach(y, x);
                tree.flow[y as usize] = flow;
                let price = Dd::from(cost.at(row as usize, col as usize));
                tree.set_potential(y, price - tree.potential(x));
                order.push(y);
            }
        }
        debug_assert_eq!(order.len(), nodes, "the cells must span all nodes");
        for &x in order[1..].iter().rev() {
            tree.size[tree.parent[x as usize] as usize] += tree.size[x as usize];
        }
        tree
    }

    fn is_row(&self, x: u32) -> bool {
        (x as usize) < self.n
    }

    /// Potential of a node: u of a row, v of a column; u + v = cost on tree arcs.
    pub fn potential(&self, x: u32) -> Dd {
        Dd { hi: self.hi[x as usize], lo: self.lo[x as usize] }
    }

    fn set_potential(&mut self, x: u32, value: Dd) {
        self.hi[x as usize] = value.hi;
        self.lo[x as usize] = value.lo;
    }

    /// Rounded potentials of the rows and of the columns.
    pub fn rounded_potentials(&self) -> (&[f64], &[f64]) {
        self.hi.split_at(self.n)
    }

    /// Potentials of the rows and of the columns.
    pub fn potentials(&self) -> (Vec<Dd>, Vec<Dd>) {
        let mut u: Vec<Dd> = (0..self.hi.len() as u32).map(|x| self.potential(x)).collect();
        let v = u.split_off(self.n);
        (u, v)
    }

    /// cost − u − v of a cell.
    pub fn reduced_cost(&self, cost: f64, row: usize, col: usize) -> Dd {
        Dd::from(cost) - self.potential(row as u32) - self.potential((self.n + col) as u32)
    }

    /// The basic cells.
    pub fn cells(&self) -> impl Iterator<Item = BasicCell> + '_ {
        (1..self.parent.len() as u32).map(|x| {
            let parent = self.parent[x as usize];
            let (row, col) = if self.is_row(x) { (x, parent) } else { (parent, x) };
            BasicCell { row, col: col - self.n as u32, flow: self.flow[x as usize] }
        })
    }

    fn attach(&mut self, x: u32, parent: u32) {
        let sibling = std::mem::replace(&mut self.first_child[parent as usize], x);
        self.parent[x as usize] = parent;
        self.prev[x as usize] = NONE;
        self.next[x as usize] = sibling;
        if sibling != NONE {
            self.prev[sibling as usize] = x;
        }
    }

    fn detach(&mut self, x: u32) {
        let (prev, next) = (self.prev[x as usize], self.next[x as usize]);
        if prev == NONE {
            self.first_child[self.parent[x as usize] as usize] = next;
        } else {
            self.next[prev as usize] = next;
        }
        if next != NONE {
            self.prev[next as usize] = prev;
        }
    }

    /// Bring a cell with negative reduced cost into the basis; the cell whose flow reaches zero
    /// first leaves. Without ties there is exactly one.
    pub fn pivot(&mut self, row: usize, col: usize, reduced_cost: Dd) {
        let (row, col) = (row as u32, (self.n + col) as u32);
        let join = self.join(row, col);
        let (leaving, theta, on_row_side) = self.ratio_test(row, col, join);
        self.push(row, join, theta, true);
        self.push(col, join, theta, false);
        let (inner, outer) = if on_row_side { (row, col) } else { (col, row) };
        self.resize(leaving, outer, join);
        self.reroot(inner, leaving, outer, theta);
        self.shift(inner, reduced_cost);
    }

    /// Lowest common ancestor. Of two nodes the one with the smaller subtree is no ancestor of the
    /// other, so it may step up.
    fn join(&self, mut x: u32, mut y: u32) -> u32 {
        while x != y {
            if self.size[x as usize] <= self.size[y as usize] {
                x = self.parent[x as usize];
            } else {
                y = self.parent[y as usize];
            }
        }
        x
    }

    /// Flow goes round row → col → join → row. Below the join it falls on arcs that lead against
    /// that direction: those above rows on the row's side, above columns on the column's side.
    fn ratio_test(&self, row: u32, col: u32, join: u32) -> (u32, i128, bool) {
        let mut best = (NONE, i128::MAX, true);
        for (start, row_side) in [(row, true), (col, false)] {
            let mut x = start;
            while x != join {
                if self.is_row(x) == row_side && self.flow[x as usize] < best.1 {
                    best = (x, self.flow[x as usize], row_side);
                }
                x = self.parent[x as usize];
            }
        }
        best
    }

    fn push(&mut self, start: u32, join: u32, theta: i128, row_side: bool) {
        let mut x = start;
        while x != join {
            let falls = self.is_row(x) == row_side;
            self.flow[x as usize] += if falls { -theta } else { theta };
            x = self.parent[x as usize];
        }
    }

    /// Ancestors below the join lose the leaving subtree on one side and win it on the other.
    fn resize(&mut self, leaving: u32, outer: u32, join: u32) {
        let moved = self.size[leaving as usize];
        let mut x = self.parent[leaving as usize];
        while x != join {
            self.size[x as usize] -= moved;
            x = self.parent[x as usize];
        }
        let mut x = outer;
        while x != join {
            self.size[x as usize] += moved;
            x = self.parent[x as usize];
        }
    }

    /// Hang the subtree of `leaving` below `outer` by its node `inner`, turning the path between.
    fn reroot(&mut self, inner: u32, leaving: u32, outer: u32, theta: i128) {
        let whole = self.size[leaving as usize];
        let (mut x, mut above, mut flow, mut size) = (inner, outer, theta, whole);
        loop {
            let parent = self.parent[x as usize];
            self.detach(x);
            self.attach(x, above);
            flow = std::mem::replace(&mut self.flow[x as usize], flow);
            size = whole - std::mem::replace(&mut self.size[x as usize], size);
            if x == leaving {
                return;
            }
            (x, above) = (parent, x);
        }
    }

    /// Make the cell above `inner` tight again: shift the potentials below it, or those of all
    /// other nodes the other way, whichever are fewer.
    fn shift(&mut self, inner: u32, reduced_cost: Dd) {
        let rows_up = if self.is_row(inner) { reduced_cost } else { -reduced_cost };
        if 2 * self.size[inner as usize] as usize <= self.parent.len() {
            self.shift_subtree(inner, NONE, rows_up);
        } else {
            self.shift_subtree(0, inner, -rows_up);
        }
    }

    /// Add to the rows below `top`, subtract from the columns; leave out the subtree of `skip`.
    fn shift_subtree(&mut self, top: u32, skip: u32, rows_up: Dd) {
        let mut x = top;
        loop {
            if x != skip {
                let delta = if self.is_row(x) { rows_up } else { -rows_up };
                self.set_potential(x, self.potential(x) + delta);
                if self.first_child[x as usize] != NONE {
                    x = self.first_child[x as usize];
                    continue;
                }
            }
            while x != top && self.next[x as usize] == NONE {
                x = self.parent[x as usize];
            }
            if x == top {
                return;
            }
            x = self.next[x as usize];
        }
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
