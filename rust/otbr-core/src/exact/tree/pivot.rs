//! Pivots: the cycle that a cell closes, the arc that leaves, the part of the tree that hangs elsewhere.

use std::hint::select_unpredictable as select;

use super::{NONE, Node, Tree};
use crate::double_double::Dd;
use crate::pricing::Cell;

impl Tree {
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
