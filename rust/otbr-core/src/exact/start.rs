//! A feasible basis to start from: greedy on costs less their column minima.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::masses::IntegerMasses;
use super::tree::BasicCell;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::scalar::Scalar;

/// A row that fills more columns than this orders all of them at once.
const SCANS: usize = 4;

/// Rows between two questions whether to stop.
const ROWS_PER_CHECK: usize = 64;

/// First each row sends to its favourite column what that one takes, so that a row and its equal
/// among the columns find each other; then, row by row, what is left goes to the cheapest columns
/// that still take something.
///
/// Each step exhausts a row or a column, and never both before the end since no two partial sums
/// agree (`masses`); so the n + m − 1 cells form a spanning tree. The first few columns of a row are
/// looked for one by one, since most rows need no more; then all are put in order.
pub(super) fn greedy_basis<G: Geometry>(
    cost: &G,
    masses: &IntegerMasses,
    interrupt: Interrupt<'_>,
) -> Result<Vec<BasicCell>> {
    let mut greedy = Greedy::new(cost, masses);
    for fill in [Greedy::send_to_favourite, Greedy::send_the_rest] {
        for row in 0..cost.rows() {
            if row % ROWS_PER_CHECK == 0 {
                interrupt.check()?;
            }
            fill(&mut greedy, row);
        }
    }
    Ok(greedy.cells)
}

/// Send what `supply` and `demand` have left to the cheapest columns by cost − v.
pub(super) fn send_leftovers<G: Geometry>(
    cost: &G,
    v: &[f64],
    supply: Vec<i128>,
    demand: Vec<i128>,
    interrupt: Interrupt<'_>,
) -> Result<Vec<BasicCell>> {
    let open = (0..cost.cols() as u32).filter(|&j| demand[j as usize] > 0).collect();
    let mut greedy = Greedy { cost, column_minima: v.to_vec(), supply, demand, open, cells: Vec::new() };
    for row in 0..cost.rows() {
        if row % ROWS_PER_CHECK == 0 {
            interrupt.check()?;
        }
        if greedy.supply[row] > 0 {
            greedy.send_the_rest(row);
        }
    }
    Ok(greedy.cells)
}

/// What is left to send and to receive, and the cells so far.
struct Greedy<'a, G> {
    cost: &'a G,
    column_minima: Vec<f64>,
    supply: Vec<i128>,
    demand: Vec<i128>,
    /// Columns that still take something, in order.
    open: Vec<u32>,
    cells: Vec<BasicCell>,
}

impl<'a, G: Geometry> Greedy<'a, G> {
    fn new(cost: &'a G, masses: &IntegerMasses) -> Self {
        Self {
            cost,
            column_minima: column_minima(cost),
            supply: masses.supply.clone(),
            demand: masses.demand.clone(),
            open: (0..cost.cols() as u32).collect(),
            cells: Vec::with_capacity(cost.rows() + cost.cols() - 1),
        }
    }

    fn offer(&self, row: usize, col: u32) -> Offer {
        let value = self.cost.at(row, col as usize) - self.column_minima[col as usize];
        Offer { value, col }
    }

    /// Of the columns that still take something.
    fn offers(&self, row: usize) -> impl Iterator<Item = Offer> {
        let open = self.open.iter().filter(|&&col| self.demand[col as usize] > 0);
        open.map(move |&col| self.offer(row, col))
    }

    fn send(&mut self, row: usize, col: u32) {
        let flow = self.supply[row].min(self.demand[col as usize]);
        self.supply[row] -= flow;
        self.demand[col as usize] -= flow;
        self.cells.push(BasicCell { row: row as u32, col, flow });
    }

    /// To the cheapest of all columns, if it is open.
    fn send_to_favourite(&mut self, row: usize) {
        let all = 0..self.column_minima.len() as u32;
        if let Some(Offer { col, .. }) = all.map(|col| self.offer(row, col)).max()
            && self.demand[col as usize] > 0
        {
            self.send(row, col);
        }
    }

    /// To the cheapest open columns, until nothing is left.
    fn send_the_rest(&mut self, row: usize) {
        let mut heap = BinaryHeap::new();
        for taken in 0.. {
            if self.supply[row] == 0 {
                break;
            }
            if taken == SCANS {
                heap = self.offers(row).collect();
            }
            let best = if taken < SCANS { self.offers(row).max() } else { heap.pop() };
            self.send(row, best.expect("what is left to send is left to receive").col);
        }
        self.open.retain(|&col| self.demand[col as usize] > 0);
    }
}

fn column_minima<G: Geometry>(cost: &G) -> Vec<f64> {
    let mut buffer = Vec::new();
    let mut minima = vec![f64::INFINITY; cost.cols()];
    for i in 0..cost.rows() {
        for (least, &c) in minima.iter_mut().zip(cost.stretch(i, 0..cost.cols(), &mut buffer)) {
            *least = least.min(c.to_f64());
        }
    }
    minima
}

/// A column and what it costs; the greatest offer is the cheapest, of equal ones the first column.
#[derive(PartialEq)]
struct Offer {
    value: f64,
    col: u32,
}

impl Eq for Offer {}

impl Ord for Offer {
    fn cmp(&self, other: &Self) -> Ordering {
        other.value.total_cmp(&self.value).then(other.col.cmp(&self.col))
    }
}

impl PartialOrd for Offer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
