//! The cells of least reduced cost in each column, kept while rows go by.

use super::BLOCK;
use super::row_scan::FAR;
use crate::pricing::Cell;
use crate::scalar::Scalar;

/// Cells of each column with the least reduced costs.
const PER_COLUMN: usize = 8;

/// For each column the cells of least reduced cost so far.
pub(super) struct ColumnLists<T> {
    /// What a reduced cost must be below: the greatest in a full list; past the last column −infinity.
    limit: Vec<[f32; BLOCK]>,
    /// In no order; those of infinite value are none.
    values: Vec<[f32; PER_COLUMN]>,
    cells: Vec<[Listed<T>; PER_COLUMN]>,
    /// The place of the greatest.
    greatest: Vec<u8>,
}

/// A cell in a column's list.
#[derive(Clone, Copy)]
struct Listed<T> {
    row: u32,
    cost: T,
}

impl<T: Scalar> ColumnLists<T> {
    pub fn new(limits: &[f64], unit: f64) -> Self {
        let m = limits.len();
        let mut limit = vec![[f32::NEG_INFINITY; BLOCK]; m.div_ceil(BLOCK)];
        for (l, given) in limit.as_flattened_mut().iter_mut().zip(limits) {
            *l = (given / unit) as f32;
        }
        let cells = vec![[Listed { row: 0, cost: T::ZERO }; PER_COLUMN]; m];
        Self { limit, values: vec![[f32::INFINITY; PER_COLUMN]; m], cells, greatest: vec![0; m] }
    }

    /// Offer one row's entries, of which this is the least.
    #[inline(always)]
    pub fn offer(&mut self, row: u32, least: f32, entries: &[[f32; BLOCK]], costs: &[T]) {
        for (b, block) in entries.iter().enumerate() {
            let mut places = 0_u64;
            for (k, (r, limit)) in block.iter().zip(&self.limit[b]).enumerate() {
                places |= u64::from(r - least < *limit) << k;
            }
            while places != 0 {
                let k = places.trailing_zeros() as usize;
                let j = b * BLOCK + k;
                self.insert(j, block[k] - least, Listed { row, cost: costs[j] });
                places &= places - 1;
            }
        }
    }

    /// Put a cell into a column's list in place of the greatest.
    #[inline(always)]
    fn insert(&mut self, j: usize, value: f32, cell: Listed<T>) {
        let values = &mut self.values[j];
        let place = usize::from(self.greatest[j]) % PER_COLUMN;
        values[place] = value;
        self.cells[j][place] = cell;
        let place = place_of_greatest(values);
        self.greatest[j] = place as u8;
        let limit = &mut self.limit[j / BLOCK][j % BLOCK];
        *limit = limit.min(values[place]);
    }

    pub fn merge(&mut self, later: &Self) {
        for (j, (values, cells)) in later.values.iter().zip(&later.cells).enumerate() {
            for (&value, &cell) in values.iter().zip(cells) {
                if value < self.limit[j / BLOCK][j % BLOCK] {
                    self.insert(j, value, cell);
                }
            }
        }
    }

    /// Not above cost − v less the least of the row, of each column's cells that are not listed.
    pub fn unlisted(&self, unit: f64) -> Vec<f64> {
        let limits = &self.limit.as_flattened()[..self.values.len()];
        let below = |limit: &f32| {
            let limit = f64::from(limit.min(FAR));
            // Half of the rounding is of the cell's cost, half of the difference.
            (limit - limit.abs() * 2.0 * f64::from(f32::EPSILON) - 1e-30) * unit
        };
        limits.iter().map(below).collect()
    }

    pub fn cells(&self) -> Vec<Cell> {
        let mut found = Vec::with_capacity(self.cells.len() * PER_COLUMN);
        for (col, (values, cells)) in self.values.iter().zip(&self.cells).enumerate() {
            let listed = values.iter().zip(cells).filter(|(value, _)| **value < f32::INFINITY);
            found.extend(listed.map(|(_, cell)| Cell {
                row: cell.row as usize,
                col,
                cost: cell.cost.to_f64(),
            }));
        }
        found
    }
}

#[inline(always)]
fn place_of_greatest(values: &[f32; PER_COLUMN]) -> usize {
    let mut place = 0;
    for k in 1..PER_COLUMN {
        place = if values[k] > values[place] { k } else { place };
    }
    place
}
