//! A sparse core: the few cells of each row and column that a plan is likely to use.

use crate::geometry::Geometry;
use crate::pricing::{Cell, Rows};
use crate::scalar::Scalar;

/// Cells compared side by side.
const LANES: usize = 4;

/// Cells by row, columns in order.
pub(super) struct Core<T> {
    start: Vec<usize>,
    pub cols: Vec<u32>,
    pub costs: Vec<T>,
}

impl<T: Scalar> Core<T> {
    /// From cells in any order, each taken once.
    pub fn from_cells(geometry: &impl Geometry<Cost = T>, mut cells: Vec<(u32, u32)>) -> Self {
        cells.sort_unstable();
        cells.dedup();
        let cost = |&(i, j): &(u32, u32)| T::from_f64(geometry.at(i as usize, j as usize));
        Self {
            start: starts(geometry.rows(), cells.iter().map(|c| c.0)),
            costs: cells.iter().map(cost).collect(),
            cols: cells.into_iter().map(|c| c.1).collect(),
        }
    }

    /// From the cells of all rows, columns in order, and how many each row has.
    pub fn from_rows(lengths: &[u32], cols: Vec<u32>, costs: Vec<T>) -> Self {
        let ends = lengths.iter().scan(0, |end, &length| {
            *end += length as usize;
            Some(*end)
        });
        Self { start: std::iter::once(0).chain(ends).collect(), cols, costs }
    }

    /// With more cells, in any order.
    pub fn with(self, cells: &[Cell]) -> Self {
        if cells.is_empty() {
            return self;
        }
        let first = starts(self.count(), cells.iter().map(|c| c.row as u32));
        let (mut by_row, mut fill) = (vec![(0, T::ZERO); cells.len()], first.clone());
        for c in cells {
            let place = &mut fill[c.row];
            by_row[*place] = (c.col as u32, T::from_f64(c.cost));
            *place += 1;
        }
        let count = self.cols.len() + cells.len();
        let mut all = Self {
            start: Vec::with_capacity(self.start.len()),
            cols: Vec::with_capacity(count),
            costs: Vec::with_capacity(count),
        };
        for i in 0..self.count() {
            all.start.push(all.cols.len());
            all.push_row(&self, self.row(i), &mut by_row[first[i]..first[i + 1]]);
        }
        all.start.push(all.cols.len());
        all
    }

    /// A row of another core and more cells.
    fn push_row(&mut self, of: &Self, mut own: std::ops::Range<usize>, more: &mut [(u32, T)]) {
        more.sort_unstable_by_key(|c| c.0);
        let first = self.cols.len();
        for &(col, cost) in more.iter() {
            let before = of.cols[own.clone()].partition_point(|&c| c < col);
            self.push_cells(of, own.start..own.start + before);
            own.start += before;
            let is_own = of.cols[own.clone()].first() == Some(&col);
            if !is_own && self.cols[first..].last() != Some(&col) {
                self.cols.push(col);
                self.costs.push(cost);
            }
        }
        self.push_cells(of, own);
    }

    fn push_cells(&mut self, of: &Self, cells: std::ops::Range<usize>) {
        self.cols.extend_from_slice(&of.cols[cells.clone()]);
        self.costs.extend_from_slice(&of.costs[cells]);
    }

    /// The cells of one row, as places in `cols` and `costs`.
    pub fn row(&self, i: usize) -> std::ops::Range<usize> {
        self.start[i]..self.start[i + 1]
    }

    /// By how much a row's reduced costs exceed their least, on average.
    pub fn spread(&self, v: &[f64]) -> f64 {
        let row_spread = |i| {
            let sum: f64 = self.row_cells(i).map(|(j, cost)| cost - v[j]).sum();
            sum / self.row(i).len() as f64 - self.least_difference(i, v)
        };
        (0..self.count()).map(row_spread).sum::<f64>() / self.count() as f64
    }

    /// Whether every row has a cell.
    pub fn covers_rows(&self) -> bool {
        self.start.windows(2).all(|w| w[0] < w[1])
    }

    /// All cells.
    pub fn cells(&self) -> Vec<(u32, u32)> {
        let mut cells = Vec::with_capacity(self.cols.len());
        for i in 0..self.count() {
            cells.extend(self.cols[self.row(i)].iter().map(|&col| (i as u32, col)));
        }
        cells
    }

    /// Columns and costs of one row.
    pub fn row_cells(&self, i: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let range = self.row(i);
        let cells = self.cols[range.clone()].iter().zip(&self.costs[range]);
        cells.map(|(&col, cost)| (col as usize, cost.to_f64()))
    }

    /// A row's least cost − v.
    pub fn least_difference(&self, row: usize, v: &[f64]) -> f64 {
        let range = self.row(row);
        let (cols, cols_tail) = self.cols[range.clone()].as_chunks::<LANES>();
        let (costs, costs_tail) = self.costs[range].as_chunks::<LANES>();
        let mut least = [f64::INFINITY; LANES];
        for (cols, costs) in cols.iter().zip(costs) {
            for k in 0..LANES {
                let value = costs[k].to_f64() - v[cols[k] as usize];
                least[k] = if value < least[k] { value } else { least[k] };
            }
        }
        let tail = cols_tail.iter().zip(costs_tail).map(|(&col, cost)| cost.to_f64() - v[col as usize]);
        tail.chain(least).fold(f64::INFINITY, |a, b| if b < a { b } else { a })
    }
}

/// Where each row's (column's) cells start when they are in order, from the rows of all.
pub(super) fn starts(n: usize, rows: impl Iterator<Item = u32>) -> Vec<usize> {
    let mut start = vec![0; n + 1];
    for i in rows {
        start[i as usize + 1] += 1;
    }
    for i in 0..n {
        start[i + 1] += start[i];
    }
    start
}

impl<T: Scalar> Rows for Core<T> {
    fn count(&self) -> usize {
        self.start.len() - 1
    }

    fn least(&self, row: usize, v: &[f64]) -> f64 {
        self.least_difference(row, v)
    }

    fn near(&self, row: usize, v: &[f64], bound: f64, mut found: impl FnMut(Cell)) {
        for (col, cost) in self.row_cells(row).filter(|&(col, cost)| cost - v[col] <= bound) {
            found(Cell { row, col, cost });
        }
    }
}
