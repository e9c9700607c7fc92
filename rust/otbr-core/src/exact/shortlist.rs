//! The first reading of all costs: the cells for the core, and bounds on all others.

use super::bounds::{BLOCK, Bound, Bounds};
use super::core::Core;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::problem::{Extent, largest_extent};
use crate::scalar::Scalar;
use crate::simd::{dispatch, least_of_lanes};
use crate::threads::Threads;

/// Cells of each row with the least reduced costs.
const PER_ROW: usize = 20;

/// Cells of each column with the least reduced costs.
const PER_COLUMN: usize = 8;

/// Entries of a row that are compared: more than that are equal, mostly.
const MAX_NEAR: usize = 128;

/// Entries handled together.
const LANES: usize = 16;

/// Rows that share the lists of the columns, at least, and how many parts of rows there are at most.
const ROWS: usize = 512;
const PARTS: usize = 16;

/// What the first reading gives.
pub(super) struct Shortlist<T> {
    pub core: Core<T>,
    pub bounds: Bounds,
}

/// The cells of least cost − v in each row, and of least cost − u − v in each column. `unit` is
/// about what costs measure. What was read is checked later (`Transport::read`).
pub(super) fn shortlist<G: Geometry>(
    geometry: &G,
    v: &[f64],
    column_limits: &[f64],
    unit: f64,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<Shortlist<G::Cost>> {
    let (n, m) = (geometry.rows(), geometry.cols());
    let chunk = n.div_ceil(PARTS).max(ROWS);
    let parts = threads.map_rows_in_steps(n, m, chunk, interrupt, |rows| {
        let mut part = Part::new(rows.len(), column_limits, unit);
        let mut buffer = Vec::new();
        for i in rows {
            let costs = geometry.stretch(i, 0..m, &mut buffer);
            dispatch(
                #[inline(always)]
                || part.take(i as u32, costs, v),
            );
        }
        part
    })?;
    geometry.learn(largest_extent(parts.iter().map(|part| part.extent.value())));
    let mut columns = ColumnLists::new(column_limits, unit);
    let (mut cells, mut bounds) = (Vec::new(), Vec::new());
    for part in parts {
        columns.merge(&part.columns);
        cells.extend(part.cells);
        bounds.extend(part.bounds);
    }
    columns.cells(|i, j| cells.push((i, j)));
    Ok(Shortlist { core: Core::from_cells(geometry, cells), bounds: Bounds::new(bounds, v, unit) })
}

/// What some rows give.
struct Part {
    extent: Extent,
    scan: RowScan,
    columns: ColumnLists,
    cells: Vec<(u32, u32)>,
    bounds: Vec<Bound>,
}

impl Part {
    fn new(rows: usize, column_limits: &[f64], unit: f64) -> Self {
        let m = column_limits.len();
        Self {
            extent: Extent::default(),
            scan: RowScan::new(m, unit),
            columns: ColumnLists::new(column_limits, unit),
            cells: Vec::with_capacity(rows * (PER_ROW + PER_COLUMN)),
            bounds: Vec::with_capacity(rows * m.div_ceil(BLOCK)),
        }
    }

    #[inline(always)]
    fn take<T: Scalar>(&mut self, i: u32, costs: &[T], v: &[f64]) {
        self.scan.reduce(costs, v, &mut self.extent);
        let threshold = self.scan.threshold();
        let least = self.scan.collect(i, threshold, |j| self.cells.push((i, j)));
        self.columns.offer(i, &self.scan.reduced, least);
        self.scan.leave_out_collected();
        let bound = |&least: &f32| Bound::new(self.scan.below(least), 0, self.scan.unit);
        self.bounds.extend(self.scan.minima.iter().map(bound));
    }
}

/// One row's cost − v in `f32`, relative to `base` and in `unit`s: enough to choose by. The end is
/// filled up with infinity to whole blocks.
struct RowScan {
    unit: f64,
    base: f64,
    reduced: Vec<[f32; LANES]>,
    /// Least entry of each block.
    minima: Vec<f32>,
    order: Vec<f32>,
    near: Vec<(f32, u32)>,
}

impl RowScan {
    fn new(m: usize, unit: f64) -> Self {
        let blocks = m.div_ceil(BLOCK);
        let reduced = vec![[f32::INFINITY; LANES]; blocks * (BLOCK / LANES)];
        Self { unit, base: 0.0, reduced, minima: vec![0.0; blocks], order: Vec::new(), near: Vec::new() }
    }

    /// Everything that waits for memory happens here.
    #[inline(always)]
    fn reduce<T: Scalar>(&mut self, costs: &[T], v: &[f64], extent: &mut Extent) {
        self.base = costs[0].to_f64() - v[0];
        let (base, inverse) = (self.base, 1.0 / self.unit);
        let blocks = costs.chunks(BLOCK).zip(v.chunks(BLOCK));
        let reduced = self.reduced.chunks_exact_mut(BLOCK / LANES).zip(&mut self.minima);
        for ((costs, v), (reduced, least)) in blocks.zip(reduced) {
            extent.take(costs);
            for ((r, c), v) in reduced.as_flattened_mut().iter_mut().zip(costs).zip(v) {
                *r = ((c.to_f64() - v - base) * inverse) as f32;
            }
            *least = least_of(reduced);
        }
    }

    /// Not below the `PER_ROW`-th least entry of a long row.
    #[inline(always)]
    fn threshold(&mut self) -> f32 {
        self.order.clone_from(&self.minima);
        let k = PER_ROW.min(self.order.len()) - 1;
        *self.order.select_nth_unstable_by(k, f32::total_cmp).1
    }

    /// The places of the `PER_ROW` least entries, of equal ones different ones in different rows.
    /// Returns the least entry.
    #[inline(always)]
    fn collect(&mut self, i: u32, threshold: f32, mut found: impl FnMut(u32)) -> f32 {
        let blocks = self.minima.len();
        self.near.clear();
        for b in (0..blocks).map(|b| (b + i as usize) % blocks) {
            if self.minima[b] > threshold || self.near.len() >= MAX_NEAR {
                continue;
            }
            let first = b * (BLOCK / LANES);
            for (g, group) in self.reduced[first..first + BLOCK / LANES].iter().enumerate() {
                if !group.iter().fold(false, |any, &r| any | (r <= threshold)) {
                    continue;
                }
                for (k, &r) in group.iter().enumerate() {
                    if r <= threshold && r < f32::INFINITY {
                        self.near.push((r, ((first + g) * LANES + k) as u32));
                    }
                }
            }
        }
        if self.near.len() > PER_ROW {
            self.near.select_nth_unstable_by(PER_ROW - 1, |x, y| x.0.total_cmp(&y.0));
            self.near.truncate(PER_ROW);
        }
        self.near.iter().for_each(|&(_, j)| found(j));
        self.minima.iter().fold(f32::INFINITY, |a, &b| if b < a { b } else { a })
    }

    /// Leave what was collected for the core out of the blocks' minima.
    #[inline(always)]
    fn leave_out_collected(&mut self) {
        for &(_, j) in &self.near {
            self.reduced.as_flattened_mut()[j as usize] = f32::INFINITY;
        }
        for &(_, j) in &self.near {
            let b = j as usize / BLOCK;
            self.minima[b] = least_of(&self.reduced[b * (BLOCK / LANES)..][..BLOCK / LANES]);
        }
    }

    /// Cost − v of an entry.
    fn value(&self, reduced: f32) -> f64 {
        self.base + f64::from(reduced) * self.unit
    }

    /// Not above the cost − v that was rounded to an entry.
    fn below(&self, reduced: f32) -> f64 {
        let reduced = reduced.min(f32::MAX);
        let rounding = f64::from(reduced.abs()) * f64::from(f32::EPSILON) + 1e-30;
        self.value(reduced) - self.unit * rounding - self.base.abs() * 8.0 * f64::EPSILON
    }
}

#[inline(always)]
fn least_of(block: &[[f32; LANES]]) -> f32 {
    let mut lanes = block[0];
    for group in &block[1..] {
        for k in 0..LANES {
            lanes[k] = if group[k] < lanes[k] { group[k] } else { lanes[k] };
        }
    }
    least_of_lanes(lanes)
}

/// For each column the rows of least reduced cost so far.
struct ColumnLists {
    /// What a reduced cost must be below: the greatest in a full list; past the last column −infinity.
    limit: Vec<[f32; LANES]>,
    rows: Vec<[u32; PER_COLUMN]>,
    values: Vec<[f32; PER_COLUMN]>,
}

/// No row.
const NONE: u32 = u32::MAX;

impl ColumnLists {
    fn new(limits: &[f64], unit: f64) -> Self {
        let m = limits.len();
        let mut limit = vec![[f32::NEG_INFINITY; LANES]; m.div_ceil(LANES)];
        for (l, given) in limit.as_flattened_mut().iter_mut().zip(limits) {
            *l = ((given / unit) as f32).next_up();
        }
        Self { limit, rows: vec![[NONE; PER_COLUMN]; m], values: vec![[f32::INFINITY; PER_COLUMN]; m] }
    }

    #[inline(always)]
    fn offer(&mut self, i: u32, reduced: &[[f32; LANES]], least: f32) {
        for (g, group) in reduced.iter().take(self.limit.len()).enumerate() {
            let limit = &self.limit[g];
            let mut any = false;
            for k in 0..LANES {
                any |= group[k] - least < limit[k];
            }
            if any {
                for (k, r) in group.iter().enumerate() {
                    if r - least < self.limit[g][k] {
                        self.insert(g * LANES + k, i, r - least);
                    }
                }
            }
        }
    }

    /// Put a row into a column's list and drop the last.
    fn insert(&mut self, j: usize, row: u32, value: f32) {
        let (rows, values) = (&mut self.rows[j], &mut self.values[j]);
        let mut k = PER_COLUMN - 1;
        while k > 0 && values[k - 1] > value {
            values[k] = values[k - 1];
            rows[k] = rows[k - 1];
            k -= 1;
        }
        (values[k], rows[k]) = (value, row);
        let limit = &mut self.limit[j / LANES][j % LANES];
        *limit = limit.min(values[PER_COLUMN - 1]);
    }

    fn merge(&mut self, later: &Self) {
        for (j, (rows, values)) in later.rows.iter().zip(&later.values).enumerate() {
            for (&row, &value) in rows.iter().zip(values) {
                if row != NONE && value < self.limit[j / LANES][j % LANES] {
                    self.insert(j, row, value);
                }
            }
        }
    }

    fn cells(&self, mut found: impl FnMut(u32, u32)) {
        for (j, rows) in self.rows.iter().enumerate() {
            for &i in rows.iter().filter(|&&i| i != NONE) {
                found(i, j as u32);
            }
        }
    }
}
