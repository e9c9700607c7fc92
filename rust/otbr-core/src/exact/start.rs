//! A feasible basis to start from: greedy on costs less their column minima.

use super::masses::IntegerMasses;
use super::tree::BasicCell;
use crate::problem::MatrixView;
use crate::scalar::Scalar;

/// Row by row, send what is left to the cheapest column that still takes something.
///
/// Each step exhausts a row or a column, and never both before the end since no two partial sums
/// agree (`masses`); so the n + m − 1 cells form a spanning tree.
pub(super) fn greedy_basis<T: Scalar>(cost: &MatrixView<'_, T>, masses: &IntegerMasses) -> Vec<BasicCell> {
    let column_minima = column_minima(cost);
    let mut demand = masses.demand.clone();
    let mut open: Vec<u32> = (0..cost.cols() as u32).collect();
    let mut cells = Vec::with_capacity(cost.rows() + cost.cols() - 1);
    for (row, &supply) in masses.supply.iter().enumerate() {
        let mut supply = supply;
        while supply > 0 {
            let at = cheapest(cost.row(row), &column_minima, &open);
            let col = open[at];
            let left = &mut demand[col as usize];
            let flow = supply.min(*left);
            supply -= flow;
            *left -= flow;
            if *left == 0 {
                open.swap_remove(at);
            }
            cells.push(BasicCell { row: row as u32, col, flow });
        }
    }
    cells
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

/// Position in `open` of the column with the least cost − minimum.
fn cheapest<T: Scalar>(costs: &[T], column_minima: &[f64], open: &[u32]) -> usize {
    let mut best = (0, f64::INFINITY);
    for (at, &col) in open.iter().enumerate() {
        let value = costs[col as usize].to_f64() - column_minima[col as usize];
        if value < best.1 {
            best = (at, value);
        }
    }
    best.0
}
