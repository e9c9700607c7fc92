//! A feasible basis to start from: greedy on costs less their column minima.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::masses::IntegerMasses;
use super::tree::BasicCell;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::problem::MatrixView;
use crate::scalar::Scalar;

/// A row that fills more columns than this orders all of them at once.
const SCANS: usize = 4;

/// Rows between two questions whether to stop.
const ROWS_PER_CHECK: usize = 64;

/// Row by row, send what is left to the cheapest column that still takes something.
///
/// Each step exhausts a row or a column, and never both before the end since no two partial sums
/// agree (`masses`); so the n + m − 1 cells form a spanning tree. The first few columns of a row are
/// looked for one by one, since most rows need no more; then all are put in order.
pub(super) fn greedy_basis<T: Scalar>(
    cost: &MatrixView<'_, T>,
    masses: &IntegerMasses,
    interrupt: Interrupt<'_>,
) -> Result<Vec<BasicCell>> {
    let column_minima = column_minima(cost);
    let mut demand = masses.demand.clone();
    let mut open: Vec<u32> = (0..cost.cols() as u32).collect();
    let mut cells = Vec::with_capacity(cost.rows() + cost.cols() - 1);
    for (row, &supply) in masses.supply.iter().enumerate() {
        if row % ROWS_PER_CHECK == 0 {
            interrupt.check()?;
        }
        let (mut supply, costs) = (supply, cost.row(row));
        let offer =
            |&col: &u32| Offer { value: costs[col as usize].to_f64() - column_minima[col as usize], col };
        let mut heap = BinaryHeap::new();
        for taken in 0.. {
            let is_open = |col: &&u32| demand[**col as usize] > 0;
            let best = if taken < SCANS {
                open.iter().filter(is_open).map(offer).max()
            } else {
                if taken == SCANS {
                    heap = open.iter().filter(is_open).map(offer).collect();
                }
                heap.pop()
            };
            let Offer { col, .. } = best.expect("what is left to send is left to receive");
            let left = &mut demand[col as usize];
            let flow = supply.min(*left);
            supply -= flow;
            *left -= flow;
            cells.push(BasicCell { row: row as u32, col, flow });
            if supply == 0 {
                break;
            }
        }
        open.retain(|&col| demand[col as usize] > 0);
    }
    Ok(cells)
}

fn column_minima<T: Scalar>(cost: &MatrixView<'_, T>) -> Vec<f64> {
    let mut minima = vec![f64::INFINITY; cost.cols()];
    for i in 0..cost.rows() {
        for (least, &c) in minima.iter_mut().zip(cost.row(i)) {
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
