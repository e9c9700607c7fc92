//! A flow on the core by shortest augmenting paths, each of which may give up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::core::Core;
use super::masses::IntegerMasses;
use super::tree::BasicCell;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::scalar::Scalar;

const NONE: u32 = u32::MAX;

/// A search that has seen so many rows gives up: twice as many take longer than the pivots they save, and half
/// as many leave too many pivots.
const MAX_ROWS: usize = 32;

/// Rows between two questions whether to stop.
const ROWS_PER_CHECK: usize = 64;

/// What was sent, and what is left.
pub(super) struct Sent {
    /// The cells that carry something.
    pub cells: Vec<BasicCell>,
    pub supply: Vec<i128>,
    pub demand: Vec<i128>,
    /// Potentials of the columns.
    pub v: Vec<f64>,
}

/// A distance and a column.
#[derive(PartialEq)]
struct Reach(f64, u32);

impl Eq for Reach {}

impl PartialOrd for Reach {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reach {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

/// What is sent so far, and potentials under which no core cell has a negative reduced cost and
/// every cell that carries something has none.
pub(super) struct Augmentation<'a, T> {
    core: &'a Core<T>,
    row_of: Vec<u32>,
    u: Vec<f64>,
    v: Vec<f64>,
    supply: Vec<i128>,
    demand: Vec<i128>,
    flow: Vec<i128>,
    /// Cells by which a column is supplied.
    carriers: Vec<Vec<u32>>,
    row_distance: Vec<f64>,
    col_distance: Vec<f64>,
    /// The cell by which a row or column was reached.
    row_from: Vec<u32>,
    col_from: Vec<u32>,
    done: Vec<bool>,
    rows_seen: Vec<u32>,
    cols_seen: Vec<u32>,
    heap: BinaryHeap<Reverse<Reach>>,
    /// Least distance of a column reached that still takes something.
    nearest: f64,
    /// Rows that searches may still see.
    budget: usize,
}

impl<'a, T: Scalar> Augmentation<'a, T> {
    /// Nothing is sent yet; `v` need not be feasible. All searches together will see at most
    /// `rows_per_row` times the number of rows.
    pub fn new(core: &'a Core<T>, masses: &IntegerMasses, mut v: Vec<f64>, rows_per_row: usize) -> Self {
        let (n, m) = (masses.supply.len(), v.len());
        let mut row_of = vec![0; core.cols.len()];
        for i in 0..n {
            row_of[core.row(i)].fill(i as u32);
        }
        // Raise v until each column has a tight cell for the best u, then find u anew.
        let mut least = vec![f64::INFINITY; m];
        for i in 0..n {
            let u = core.least_difference(i, &v);
            for (j, cost) in core.row_cells(i) {
                least[j] = least[j].min(cost - u);
            }
        }
        for (v, least) in v.iter_mut().zip(least) {
            *v = if least < f64::INFINITY { least } else { *v };
        }
        let u = (0..n).map(|i| core.least_difference(i, &v)).collect();
        Self {
            core,
            row_of,
            u,
            v,
            supply: masses.supply.clone(),
            demand: masses.demand.clone(),
            flow: vec![0; core.cols.len()],
            carriers: vec![Vec::new(); m],
            row_distance: vec![0.0; n],
            col_distance: vec![f64::INFINITY; m],
            row_from: vec![NONE; n],
            col_from: vec![NONE; m],
            done: vec![false; m],
            rows_seen: Vec::new(),
            cols_seen: Vec::new(),
            heap: BinaryHeap::new(),
            nearest: f64::INFINITY,
            budget: n * rows_per_row,
        }
    }

    /// Send along cells without reduced cost, then, row by row, along shortest paths.
    pub fn run(mut self, interrupt: Interrupt<'_>) -> Result<Sent> {
        for i in 0..self.u.len() {
            self.send_tight(i);
        }
        for i in 0..self.u.len() {
            if i % ROWS_PER_CHECK == 0 {
                interrupt.check()?;
            }
            while self.supply[i] > 0 && self.budget > 0 && self.search(i as u32) {}
        }
        for i in 0..self.u.len() {
            self.send_directly(i);
        }
        let carrying = (0..self.flow.len()).filter(|&e| self.flow[e] > 0);
        let cell = |e| BasicCell { row: self.row_of[e], col: self.core.cols[e], flow: self.flow[e] };
        let cells = carrying.map(cell).collect();
        Ok(Sent { cells, supply: self.supply, demand: self.demand, v: self.v })
    }

    /// Send along a cell what its row has and its column takes.
    fn send(&mut self, e: u32) {
        let (i, j) = (self.row_of[e as usize] as usize, self.core.cols[e as usize] as usize);
        let flow = self.supply[i].min(self.demand[j]);
        if flow > 0 {
            self.supply[i] -= flow;
            self.demand[j] -= flow;
            self.add_flow(e, flow);
        }
    }

    fn send_tight(&mut self, i: usize) {
        for e in self.core.row(i) {
            let j = self.core.cols[e] as usize;
            if self.reduced(e, i, j) <= 0.0 {
                self.send(e as u32);
            }
        }
    }

    /// Send what is left to the row's own columns, the cheapest first.
    fn send_directly(&mut self, i: usize) {
        if self.supply[i] == 0 {
            return;
        }
        let open = self.core.row(i).filter(|&e| self.demand[self.core.cols[e] as usize] > 0);
        let value = |e| self.reduced(e, i, self.core.cols[e] as usize);
        let mut cells: Vec<(f64, u32)> = open.map(|e| (value(e), e as u32)).collect();
        cells.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
        for (_, e) in cells {
            self.send(e);
        }
    }

    fn reduced(&self, e: usize, i: usize, j: usize) -> f64 {
        self.core.costs[e].to_f64() - self.u[i] - self.v[j]
    }

    fn add_flow(&mut self, e: u32, flow: i128) {
        let before = self.flow[e as usize];
        let now = before + flow;
        self.flow[e as usize] = now;
        let carriers = &mut self.carriers[self.core.cols[e as usize] as usize];
        if before == 0 {
            carriers.push(e);
        } else if now == 0 {
            carriers.retain(|&x| x != e);
        }
    }

    /// Find the nearest column that still takes something and send to it; false if none is near.
    fn search(&mut self, start: u32) -> bool {
        self.row_from[start as usize] = NONE;
        self.settle(start, 0.0);
        let mut reached = None;
        let mut radius = 0.0;
        while let Some(Reverse(Reach(distance, j))) = self.heap.pop() {
            if self.done[j as usize] {
                continue;
            }
            radius = distance;
            if self.demand[j as usize] > 0 {
                reached = Some(j);
                break;
            }
            if self.rows_seen.len() >= MAX_ROWS {
                break;
            }
            self.done[j as usize] = true;
            for k in 0..self.carriers[j as usize].len() {
                let e = self.carriers[j as usize][k];
                let i = self.row_of[e as usize];
                if i != start && self.row_from[i as usize] == NONE {
                    self.row_from[i as usize] = e;
                    self.settle(i, distance);
                }
            }
        }
        self.budget = self.budget.saturating_sub(self.rows_seen.len());
        for &i in &self.rows_seen {
            self.u[i as usize] += radius - self.row_distance[i as usize];
        }
        for &j in &self.cols_seen {
            if self.done[j as usize] {
                self.v[j as usize] -= radius - self.col_distance[j as usize];
            }
        }
        if let Some(j) = reached {
            self.augment(start, j);
        }
        for &i in &self.rows_seen {
            self.row_from[i as usize] = NONE;
        }
        for &j in &self.cols_seen {
            self.done[j as usize] = false;
            self.col_distance[j as usize] = f64::INFINITY;
        }
        self.rows_seen.clear();
        self.cols_seen.clear();
        self.heap.clear();
        self.nearest = f64::INFINITY;
        reached.is_some()
    }

    fn settle(&mut self, i: u32, distance: f64) {
        self.rows_seen.push(i);
        self.row_distance[i as usize] = distance;
        for e in self.core.row(i as usize) {
            let j = self.core.cols[e] as usize;
            let d = distance + self.reduced(e, i as usize, j).max(0.0);
            if d < self.col_distance[j] && d < self.nearest {
                if self.demand[j] > 0 {
                    self.nearest = d;
                }
                if self.col_distance[j] == f64::INFINITY {
                    self.cols_seen.push(j as u32);
                }
                self.col_distance[j] = d;
                self.col_from[j] = e as u32;
                self.heap.push(Reverse(Reach(d, j as u32)));
            }
        }
    }

    fn augment(&mut self, start: u32, end: u32) {
        let mut amount = self.supply[start as usize].min(self.demand[end as usize]);
        let mut j = end;
        loop {
            let i = self.row_of[self.col_from[j as usize] as usize];
            if i == start {
                break;
            }
            let back = self.row_from[i as usize];
            amount = amount.min(self.flow[back as usize]);
            j = self.core.cols[back as usize];
        }
        self.supply[start as usize] -= amount;
        self.demand[end as usize] -= amount;
        let mut j = end;
        loop {
            let forth = self.col_from[j as usize];
            let i = self.row_of[forth as usize];
            self.add_flow(forth, amount);
            if i == start {
                break;
            }
            let back = self.row_from[i as usize];
            self.add_flow(back, -amount);
            j = self.core.cols[back as usize];
        }
    }
}
