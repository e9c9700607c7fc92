//! A feasible basis to start from: greedy.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::guess::guess;
use super::masses::IntegerMasses;
use super::tree::{BasicCell, NONE};
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::pricing::{least_difference, least_place, places_up_to};
use crate::problem::Transport;
use crate::scalar::Scalar;
use crate::simd::dispatch;

/// A row that fills more columns than this puts all of them in order at once.
const SCANS: usize = 4;

/// Where fewer than one in so many columns are open, a row is not read whole.
const FEW_OPEN: usize = 8;

/// Where masses likely belong: cost − v exceeds the least of the row by up to so many spreads.
const LIKELY: f64 = 1.5;

/// Classes of what it exceeds that by; cells of one are in no particular order.
const CLASSES: usize = 32;

/// Rows between two questions whether to stop.
const ROWS_PER_CHECK: usize = 64;

/// First masses are sent where they likely belong, then, row by row, what is left goes to the cheapest
/// columns that still take something.
///
/// Each step exhausts a row or a column, and never both before the end since no two partial sums
/// agree (`masses`); so the n + m − 1 cells form a spanning tree.
pub(super) fn greedy_basis<G: Geometry>(
    problem: &Transport<G>,
    masses: &IntegerMasses,
    interrupt: Interrupt<'_>,
) -> Result<Vec<BasicCell>> {
    let cost = &problem.cost;
    let (v, spread) = guess(problem);
    let mut greedy = Greedy::new(cost, &v, masses.supply.clone(), masses.demand.clone());
    for_likely_cells(cost, &v, LIKELY * spread, |row, col| {
        if greedy.supply[row] > 0 && greedy.demand[col] > 0 {
            greedy.send(row, col);
        }
    });
    greedy.send_the_rest(interrupt)?;
    Ok(greedy.cells)
}

/// The cells whose cost − v exceeds the least of their row by no more than so much, roughly in order.
fn for_likely_cells<G: Geometry>(cost: &G, v: &[f64], most: f64, mut f: impl FnMut(usize, usize)) {
    // Row, column, and the cell before it in its class.
    let (mut cells, mut last): (Vec<(u32, u32, u32)>, _) = (Vec::new(), [NONE; CLASSES]);
    let (mut buffer, per_class) = (Vec::new(), CLASSES as f64 / most);
    for row in 0..cost.rows() {
        let costs = cost.stretch(row, 0..v.len(), &mut buffer);
        let least = least_difference(costs, v);
        dispatch(
            #[inline(always)]
            || {
                places_up_to(costs, v, least + most, |col| {
                    let excess = costs[col].to_f64() - v[col] - least;
                    let class = &mut last[((excess * per_class) as usize).min(CLASSES - 1)];
                    let before = std::mem::replace(class, cells.len() as u32);
                    cells.push((row as u32, col as u32, before));
                });
            },
        );
    }
    for mut at in last {
        while let Some(&(row, col, before)) = cells.get(at as usize) {
            f(row as usize, col as usize);
            at = before;
        }
    }
}

/// Send what `supply` and `demand` have left to the cheapest columns by cost − v.
pub(super) fn send_leftovers<G: Geometry>(
    cost: &G,
    v: &[f64],
    supply: Vec<i128>,
    demand: Vec<i128>,
    interrupt: Interrupt<'_>,
) -> Result<Vec<BasicCell>> {
    let mut greedy = Greedy::new(cost, v, supply, demand);
    greedy.send_the_rest(interrupt)?;
    Ok(greedy.cells)
}

/// What is left to send and to receive, and the cells so far.
struct Greedy<'a, G: Geometry> {
    cost: &'a G,
    /// What costs are compared by; −∞ of a column that takes nothing more, which so costs +∞.
    v: Vec<f64>,
    supply: Vec<i128>,
    demand: Vec<i128>,
    /// The columns that took something when the row began, in order.
    open: Vec<u32>,
    cells: Vec<BasicCell>,
    buffer: Vec<G::Cost>,
}

impl<'a, G: Geometry> Greedy<'a, G> {
    fn new(cost: &'a G, v: &[f64], supply: Vec<i128>, demand: Vec<i128>) -> Self {
        let open = |(v, demand): (&f64, &i128)| if *demand > 0 { *v } else { f64::NEG_INFINITY };
        let v = v.iter().zip(&demand).map(open).collect();
        let open = (0..demand.len() as u32).collect();
        Self { cost, v, supply, demand, open, cells: Vec::new(), buffer: Vec::new() }
    }

    fn send(&mut self, row: usize, col: usize) {
        let flow = self.supply[row].min(self.demand[col]);
        self.supply[row] -= flow;
        self.demand[col] -= flow;
        if self.demand[col] == 0 {
            self.v[col] = f64::NEG_INFINITY;
        }
        self.cells.push(BasicCell { row: row as u32, col: col as u32, flow });
    }

    /// Row by row to the cheapest open columns, until nothing is left.
    fn send_the_rest(&mut self, interrupt: Interrupt<'_>) -> Result<()> {
        for row in 0..self.supply.len() {
            if row % ROWS_PER_CHECK == 0 {
                interrupt.check()?;
            }
            if self.supply[row] == 0 {
                continue;
            }
            self.open.retain(|&col| self.demand[col as usize] > 0);
            // Where few columns are open, they are asked one by one.
            let scans = if self.open.len() * FEW_OPEN < self.v.len() { 0 } else { SCANS };
            for _ in 0..scans {
                if self.supply[row] > 0 {
                    let col = cheapest(self.cost, row, &self.v, &mut self.buffer);
                    self.send(row, col);
                }
            }
            if self.supply[row] > 0 {
                self.send_in_order(row);
            }
        }
        Ok(())
    }

    /// The same for one row, by the order of all open columns.
    fn send_in_order(&mut self, row: usize) {
        let open = self.open.iter().filter(|&&col| self.demand[col as usize] > 0);
        let value = |col: usize| self.cost.at(row, col) - self.v[col];
        let mut heap: BinaryHeap<Offer> =
            open.map(|&col| Offer { value: value(col as usize), col }).collect();
        while self.supply[row] > 0 {
            let best = heap.pop().expect("what is left to send is left to receive");
            self.send(row, best.col as usize);
        }
    }
}

/// The first column of a row that has the least cost − v.
fn cheapest<G: Geometry>(cost: &G, row: usize, v: &[f64], buffer: &mut Vec<G::Cost>) -> usize {
    least_place(cost.stretch(row, 0..v.len(), buffer), v)
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
