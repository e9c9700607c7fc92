//! The first reading of all costs: the cells for the core, and bounds on all others.

use super::bounds::{BLOCK, Bound, Bounds};
use super::core::Core;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::problem::largest_extent;
use crate::scalar::Scalar;
use crate::simd::{dispatch, least_of_lanes};
use crate::threads::Threads;

/// Cells of each row with the least reduced costs.
const PER_ROW: usize = 20;

/// Cells of each column with the least reduced costs.
const PER_COLUMN: usize = 8;

/// Entries of a row that are compared: more than that are equal, mostly.
const MAX_NEAR: usize = 64;

/// Entries handled together.
const LANES: usize = 16;

/// A row is cut into so many parts; of each, every `LANES`-th entry makes a group.
const ROW_PARTS: usize = 4;

/// Entries brought near before they are looked at closely: a part of a processor's second cache.
const NEAR: usize = 1 << 15;

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
        for start in rows.clone().step_by((NEAR / m).max(1)) {
            let some = start..(start + (NEAR / m).max(1)).min(rows.end);
            part.extents.push(geometry.survey(some.clone()));
            for i in some {
                let costs = geometry.stretch(i, 0..m, &mut buffer);
                dispatch(
                    #[inline(always)]
                    || part.take(i as u32, costs, v),
                );
            }
        }
        part
    })?;
    geometry.learn(largest_extent(parts.iter().flat_map(|part| part.extents.iter().copied())));
    let mut columns = ColumnLists::new(column_limits, unit);
    let (mut lengths, mut cells, mut bounds) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        columns.merge(&part.columns);
        lengths.extend(part.lengths);
        cells.extend(part.cells);
        bounds.extend(part.bounds);
    }
    let core = Core::merged(&lengths, &cells, columns.cells());
    Ok(Shortlist { core, bounds: Bounds::new(bounds, v, unit) })
}

/// What some rows give.
struct Part<T> {
    extents: Vec<f64>,
    scan: RowScan,
    columns: ColumnLists<T>,
    /// Row by row the columns in order, with their costs, and how many they are.
    cells: Vec<(u32, T)>,
    lengths: Vec<u32>,
    bounds: Vec<Bound>,
}

impl<T: Scalar> Part<T> {
    fn new(rows: usize, column_limits: &[f64], unit: f64) -> Self {
        let m = column_limits.len();
        Self {
            extents: Vec::new(),
            scan: RowScan::new(m, unit),
            columns: ColumnLists::new(column_limits, unit),
            cells: Vec::with_capacity(rows * PER_ROW),
            lengths: Vec::with_capacity(rows),
            bounds: Vec::with_capacity(rows * m.div_ceil(BLOCK)),
        }
    }

    #[inline(always)]
    fn take(&mut self, i: u32, costs: &[T], v: &[f64]) {
        self.scan.reduce(costs, v);
        self.scan.collect(i);
        self.cells.extend(self.scan.near.iter().map(|&(_, j)| (j, costs[j as usize])));
        self.lengths.push(self.scan.near.len() as u32);
        self.columns.offer(i, &self.scan, costs);
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
    /// Least entry of each group.
    groups: [[f32; LANES]; ROW_PARTS],
    /// What was collected, in order of columns.
    near: Vec<(f32, u32)>,
}

impl RowScan {
    fn new(m: usize, unit: f64) -> Self {
        let blocks = m.div_ceil(BLOCK);
        let reduced = vec![[f32::INFINITY; LANES]; blocks * (BLOCK / LANES)];
        let groups = [[f32::INFINITY; LANES]; ROW_PARTS];
        Self { unit, base: 0.0, reduced, minima: vec![0.0; blocks], groups, near: Vec::new() }
    }

    #[inline(always)]
    fn reduce<T: Scalar>(&mut self, costs: &[T], v: &[f64]) {
        self.base = costs[0].to_f64() - v[0];
        let (base, inverse) = (self.base, 1.0 / self.unit);
        let blocks = costs.chunks(BLOCK).zip(v.chunks(BLOCK));
        for ((costs, v), reduced) in blocks.zip(self.reduced.chunks_exact_mut(BLOCK / LANES)) {
            for ((r, c), v) in reduced.as_flattened_mut().iter_mut().zip(costs).zip(v) {
                *r = ((c.to_f64() - v - base) * inverse) as f32;
            }
        }
        let part = self.minima.len().div_ceil(ROW_PARTS);
        let parts = self.reduced.chunks(part * (BLOCK / LANES)).zip(self.minima.chunks_mut(part));
        for ((reduced, minima), group) in parts.zip(&mut self.groups) {
            *group = [f32::INFINITY; LANES];
            for (block, least) in reduced.chunks_exact(BLOCK / LANES).zip(minima) {
                let lanes = least_lanes(block);
                *group = lesser(group, &lanes);
                *least = least_of_lanes(lanes);
            }
        }
    }

    /// The places of the `PER_ROW` least entries, of equal ones different ones in different rows.
    #[inline(always)]
    fn collect(&mut self, i: u32) {
        // As many entries as groups are not above this.
        let mut order = self.groups;
        let threshold = *order.as_flattened_mut().select_nth_unstable_by(PER_ROW - 1, f32::total_cmp).1;
        let threshold = threshold.min(f32::MAX);
        let blocks = self.minima.len();
        self.near.resize(MAX_NEAR + LANES, (0.0, 0));
        let mut count = 0;
        for b in (0..blocks).map(|b| (b + i as usize) % blocks) {
            if self.minima[b] > threshold || count >= MAX_NEAR {
                continue;
            }
            let first = b * (BLOCK / LANES);
            for (g, group) in self.reduced[first..first + BLOCK / LANES].iter().enumerate() {
                if count >= MAX_NEAR || !group.iter().fold(false, |any, &r| any | (r <= threshold)) {
                    continue;
                }
                // All are written, and those that are too large written over.
                for (k, &r) in group.iter().enumerate() {
                    self.near[count] = (r, ((first + g) * LANES + k) as u32);
                    count += usize::from(r <= threshold);
                }
            }
        }
        self.near.truncate(count);
        if count > PER_ROW {
            self.near.select_nth_unstable_by(PER_ROW - 1, |x, y| x.0.total_cmp(&y.0));
            self.near.truncate(PER_ROW);
        }
        self.near.sort_unstable_by_key(|near| near.1);
    }

    /// The least entry.
    #[inline(always)]
    fn least(&self) -> f32 {
        self.minima.iter().fold(f32::INFINITY, |a, &b| if b < a { b } else { a })
    }

    /// Leave what was collected for the core out of the blocks' minima.
    #[inline(always)]
    fn leave_out_collected(&mut self) {
        for &(_, j) in &self.near {
            self.reduced.as_flattened_mut()[j as usize] = f32::INFINITY;
        }
        for near in self.near.chunk_by(|x, y| x.1 as usize / BLOCK == y.1 as usize / BLOCK) {
            let b = near[0].1 as usize / BLOCK;
            let block = &self.reduced[b * (BLOCK / LANES)..][..BLOCK / LANES];
            self.minima[b] = least_of_lanes(least_lanes(block));
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

/// The least entry in each lane.
#[inline(always)]
fn least_lanes(block: &[[f32; LANES]]) -> [f32; LANES] {
    block[1..].iter().fold(block[0], |lanes, group| lesser(&lanes, group))
}

/// The lesser of two entries in each lane.
#[inline(always)]
fn lesser(x: &[f32; LANES], y: &[f32; LANES]) -> [f32; LANES] {
    let mut lesser = *x;
    for k in 0..LANES {
        lesser[k] = if y[k] < x[k] { y[k] } else { x[k] };
    }
    lesser
}

/// For each column the cells of least reduced cost so far.
struct ColumnLists<T> {
    /// What a reduced cost must be below: the greatest in a full list; past the last column −infinity.
    limit: Vec<[f32; LANES]>,
    lists: Vec<[Listed<T>; PER_COLUMN]>,
}

/// A cell in a column's list.
#[derive(Clone, Copy)]
struct Listed<T> {
    value: f32,
    row: u32,
    cost: T,
}

/// No row.
const NONE: u32 = u32::MAX;

impl<T: Scalar> ColumnLists<T> {
    fn new(limits: &[f64], unit: f64) -> Self {
        let m = limits.len();
        let mut limit = vec![[f32::NEG_INFINITY; LANES]; m.div_ceil(LANES)];
        for (l, given) in limit.as_flattened_mut().iter_mut().zip(limits) {
            *l = (given / unit) as f32;
        }
        let none = Listed { value: f32::INFINITY, row: NONE, cost: T::ZERO };
        Self { limit, lists: vec![[none; PER_COLUMN]; m] }
    }

    #[inline(always)]
    fn offer(&mut self, row: u32, scan: &RowScan, costs: &[T]) {
        let least = scan.least();
        for (g, group) in scan.reduced.iter().take(self.limit.len()).enumerate() {
            let limit = &self.limit[g];
            let mut any = false;
            for k in 0..LANES {
                any |= group[k] - least < limit[k];
            }
            if any {
                for (k, r) in group.iter().enumerate() {
                    if r - least < self.limit[g][k] {
                        let j = g * LANES + k;
                        self.insert(j, Listed { value: r - least, row, cost: costs[j] });
                    }
                }
            }
        }
    }

    /// Put a cell into a column's list and drop the last.
    fn insert(&mut self, j: usize, cell: Listed<T>) {
        let list = &mut self.lists[j];
        let mut k = PER_COLUMN - 1;
        while k > 0 && list[k - 1].value > cell.value {
            list[k] = list[k - 1];
            k -= 1;
        }
        list[k] = cell;
        let limit = &mut self.limit[j / LANES][j % LANES];
        *limit = limit.min(list[PER_COLUMN - 1].value);
    }

    fn merge(&mut self, later: &Self) {
        for (j, list) in later.lists.iter().enumerate() {
            for cell in list {
                if cell.row != NONE && cell.value < self.limit[j / LANES][j % LANES] {
                    self.insert(j, *cell);
                }
            }
        }
    }

    /// Rows, columns and costs, column by column.
    fn cells(&self) -> Vec<(u32, u32, T)> {
        let of_column = |(j, list): (usize, &[Listed<T>; PER_COLUMN])| {
            let listed = list.iter().filter(|cell| cell.row != NONE);
            listed.map(|cell| (cell.row, j as u32, cell.cost)).collect::<Vec<_>>()
        };
        self.lists.iter().enumerate().flat_map(of_column).collect()
    }
}
