//! The first reading of all costs: the cells for the core, and bounds on all others.

use super::bounds::{BLOCK, Bound, Bounds, Unlisted};
use super::core::Core;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::pricing::Cell;
use crate::problem::{Extent, largest_extent};
use crate::scalar::Scalar;
use crate::simd::{dispatch, least_of_lanes};
use crate::threads::Threads;

/// Cells of each row with the least reduced costs, about: so many of a row's groups have their least among
/// them, and some groups hold several. Where there are more than the largest number, many are equal.
const PER_ROW: usize = 20;
const GROUPS_PER_ROW: u32 = 17;
const MAX_PER_ROW: usize = 32;

/// Cells of each column with the least reduced costs.
const PER_COLUMN: usize = 8;

/// Entries of a row that are compared: more than that are equal, mostly.
const MAX_NEAR: usize = 64;

/// Entries handled together.
const LANES: usize = 16;

/// A row is cut into so many parts; of each, every `LANES`-th entry makes a group.
const ROW_PARTS: usize = 4;
const GROUPS: usize = ROW_PARTS * LANES;

/// In units: what is not finite in `f32` is more than twice as far.
const FAR: f32 = 1e30;

/// Rows read side by side: memory gives more from several places at once.
const TOGETHER: usize = 4;

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
        let mut buffers = [const { Vec::new() }; TOGETHER];
        for first in rows.clone().step_by(TOGETHER) {
            let some = first..(first + TOGETHER).min(rows.end);
            part.beside = largest_extent([part.beside, geometry.survey_beside(some.clone())]);
            let mut costs: [&[G::Cost]; TOGETHER] = [&[]; TOGETHER];
            for ((costs, buffer), i) in costs.iter_mut().zip(&mut buffers).zip(some.clone()) {
                *costs = geometry.stretch(i, 0..m, buffer);
            }
            dispatch(
                #[inline(always)]
                || part.take(first as u32, &costs[..some.len()], v),
            );
        }
        part
    })?;
    geometry.learn(largest_extent(parts.iter().flat_map(|part| [part.beside, part.extent.value()])));
    let mut columns = ColumnLists::new(column_limits, unit);
    let (mut lengths, mut cols, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut bounds, mut of_rows) = (Vec::new(), Vec::new());
    for part in parts {
        columns.merge(&part.columns);
        lengths.extend(part.lengths);
        cols.extend(part.cols);
        costs.extend(part.costs);
        bounds.extend(part.bounds);
        of_rows.extend(part.least);
    }
    let core = Core::from_rows(&lengths, cols, costs).with(&columns.cells());
    let unlisted = Unlisted { of_rows, of_cols: columns.unlisted(unit) };
    Ok(Shortlist { core, bounds: Bounds::new(bounds, v, unit, Some(unlisted)) })
}

/// What some rows give.
struct Part<T> {
    /// Of what was read, and of what the geometry has beside.
    extent: Extent,
    beside: f64,
    scans: [RowScan; TOGETHER],
    columns: ColumnLists<T>,
    /// Row by row how many cells, their columns in order, and their costs.
    lengths: Vec<u32>,
    cols: Vec<u32>,
    costs: Vec<T>,
    bounds: Vec<Bound>,
    /// Not above the least cost − v of each row.
    least: Vec<f64>,
}

impl<T: Scalar> Part<T> {
    fn new(rows: usize, column_limits: &[f64], unit: f64) -> Self {
        let m = column_limits.len();
        Self {
            extent: Extent::default(),
            beside: 0.0,
            scans: std::array::from_fn(|_| RowScan::new(m, unit)),
            columns: ColumnLists::new(column_limits, unit),
            lengths: Vec::with_capacity(rows),
            cols: Vec::with_capacity(rows * PER_ROW),
            costs: Vec::with_capacity(rows * PER_ROW),
            bounds: Vec::with_capacity(rows * m.div_ceil(BLOCK)),
            least: Vec::with_capacity(rows),
        }
    }

    /// Take the costs of a few rows from `first` on.
    #[inline(always)]
    fn take(&mut self, first: u32, rows: &[&[T]], v: &[f64]) {
        for (scan, costs) in self.scans.iter_mut().zip(rows) {
            scan.begin(costs[0].to_f64() - v[0]);
        }
        for (b, v) in v.chunks(BLOCK).enumerate() {
            for (scan, costs) in self.scans.iter_mut().zip(rows) {
                let costs = &costs[b * BLOCK..][..v.len()];
                self.extent.take(costs);
                scan.reduce(b, costs, v);
            }
        }
        for (k, (scan, costs)) in self.scans.iter_mut().zip(rows).enumerate() {
            let i = first + k as u32;
            scan.collect(i);
            self.lengths.push(scan.near.len() as u32);
            self.cols.extend(scan.near.iter().map(|near| near.1));
            self.costs.extend(scan.near.iter().map(|near| costs[near.1 as usize]));
            let least = least_of_lanes(scan.groups);
            self.columns.offer(i, least, scan, costs);
            self.least.push(if least < FAR { scan.below(least) } else { f64::NEG_INFINITY });
            scan.leave_out_collected();
            let bound = |&least: &f32| Bound::new(scan.below(least), 0, scan.unit);
            self.bounds.extend(scan.minima.iter().map(bound));
        }
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
    /// Least entry of each group, and how many blocks those of a part are made of.
    groups: [f32; GROUPS],
    blocks_per_part: usize,
    /// What was collected, in order of columns.
    near: Vec<(f32, u32)>,
}

impl RowScan {
    fn new(m: usize, unit: f64) -> Self {
        let blocks = m.div_ceil(BLOCK);
        Self {
            unit,
            base: 0.0,
            reduced: vec![[f32::INFINITY; LANES]; blocks * (BLOCK / LANES)],
            minima: vec![0.0; blocks],
            groups: [f32::INFINITY; GROUPS],
            blocks_per_part: blocks.div_ceil(ROW_PARTS),
            near: Vec::new(),
        }
    }

    #[inline(always)]
    fn begin(&mut self, base: f64) {
        self.base = base;
        self.groups = [f32::INFINITY; GROUPS];
    }

    /// Take one block.
    #[inline(always)]
    fn reduce<T: Scalar>(&mut self, b: usize, costs: &[T], v: &[f64]) {
        let (base, inverse) = (self.base, 1.0 / self.unit);
        let block = &mut self.reduced[b * (BLOCK / LANES)..][..BLOCK / LANES];
        for ((r, c), v) in block.as_flattened_mut().iter_mut().zip(costs).zip(v) {
            *r = ((c.to_f64() - v - base) * inverse) as f32;
        }
        let lanes = least_lanes(block);
        let groups = &mut self.groups.as_chunks_mut::<LANES>().0[b / self.blocks_per_part];
        *groups = lesser(groups, &lanes);
        self.minima[b] = least_of_lanes(lanes);
    }

    /// The places of about as many of the least entries as fit into the core, of equal ones different ones
    /// in different rows.
    #[inline(always)]
    fn collect(&mut self, i: u32) {
        let threshold = nth_least(&self.groups, GROUPS_PER_ROW).min(f32::MAX);
        let blocks = self.minima.len();
        let first = i as usize % blocks;
        self.near.clear();
        self.collect_from(first..blocks, threshold);
        let before = self.near.len();
        self.collect_from(0..first, threshold);
        if self.near.len() <= MAX_PER_ROW {
            self.near.rotate_left(before);
            return;
        }
        self.near.select_nth_unstable_by(PER_ROW - 1, |x, y| x.0.total_cmp(&y.0));
        self.near.truncate(PER_ROW);
        self.near.sort_unstable_by_key(|near| near.1);
    }

    /// Collect what is not above a threshold, until there is enough.
    #[inline(always)]
    fn collect_from(&mut self, blocks: std::ops::Range<usize>, threshold: f32) {
        for b in blocks {
            if self.minima[b] > threshold || self.near.len() >= MAX_NEAR {
                continue;
            }
            let first = b * (BLOCK / LANES);
            let block = self.reduced[first..first + BLOCK / LANES].as_flattened();
            let mut places = 0_u64;
            for (k, r) in block.iter().enumerate() {
                places |= u64::from(*r <= threshold) << k;
            }
            while places != 0 {
                let k = places.trailing_zeros() as usize;
                self.near.push((block[k], (b * BLOCK + k) as u32));
                places &= places - 1;
            }
        }
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

/// The n-th least of the entries of all groups.
#[inline(always)]
fn nth_least(entries: &[f32; GROUPS], n: u32) -> f32 {
    let mut not_above = [0_u32; GROUPS];
    for y in entries {
        for (count, x) in not_above.iter_mut().zip(entries) {
            *count += u32::from(y <= x);
        }
    }
    let mut above = *entries;
    for (x, count) in above.iter_mut().zip(not_above) {
        *x = if count < n { f32::INFINITY } else { *x };
    }
    least_of_lanes(above)
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
    fn new(limits: &[f64], unit: f64) -> Self {
        let m = limits.len();
        let mut limit = vec![[f32::NEG_INFINITY; BLOCK]; m.div_ceil(BLOCK)];
        for (l, given) in limit.as_flattened_mut().iter_mut().zip(limits) {
            *l = (given / unit) as f32;
        }
        let cells = vec![[Listed { row: 0, cost: T::ZERO }; PER_COLUMN]; m];
        Self { limit, values: vec![[f32::INFINITY; PER_COLUMN]; m], cells, greatest: vec![0; m] }
    }

    #[inline(always)]
    fn offer(&mut self, row: u32, least: f32, scan: &RowScan, costs: &[T]) {
        for (b, block) in scan.reduced.as_flattened().as_chunks::<BLOCK>().0.iter().enumerate() {
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

    fn merge(&mut self, later: &Self) {
        for (j, (values, cells)) in later.values.iter().zip(&later.cells).enumerate() {
            for (&value, &cell) in values.iter().zip(cells) {
                if value < self.limit[j / BLOCK][j % BLOCK] {
                    self.insert(j, value, cell);
                }
            }
        }
    }

    /// Not above cost − v less the least of the row, of each column's cells that are not listed.
    fn unlisted(&self, unit: f64) -> Vec<f64> {
        let limits = &self.limit.as_flattened()[..self.values.len()];
        let below = |limit: &f32| {
            let limit = f64::from(limit.min(FAR));
            // Half of the rounding is of the cell's cost, half of the difference.
            (limit - limit.abs() * 2.0 * f64::from(f32::EPSILON) - 1e-30) * unit
        };
        limits.iter().map(below).collect()
    }

    fn cells(&self) -> Vec<Cell> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::problem::MatrixView;

    proptest! {
        #[test]
        fn what_bounds_leave_out_is_above_the_limit(
            (n, m) in (1..90_usize, 1..200_usize),
            levels in prop_oneof![Just(5_u32), Just(1 << 30)],
            scale in prop_oneof![Just(1.0), Just(1e-30), Just(1e100)],
            draws in prop::collection::vec(any::<u32>(), 64),
            // Of v, of its changes, and of the columns' limits.
            (spread, rise, limit) in (0.0..1.0_f64, 0.0..2.0_f64, prop_oneof![0.0..0.5_f64, Just(f64::INFINITY)]),
        ) {
            let draw = |k: usize| {
                let bits = draws[k % draws.len()].rotate_left((k / draws.len() % 31) as u32);
                scale * f64::from(bits % levels) / f64::from(levels)
            };
            let vector = |factor: f64, salt: usize| -> Vec<f64> {
                (0..m).map(|j| factor * draw(11 * j + salt)).collect()
            };
            let costs: Vec<f64> = (0..n * m).map(|k| draw(7 * k)).collect();
            let v = vector(spread, 3);
            let limits = if limit.is_finite() { vector(limit, 5) } else { vec![limit; m] };
            let view = MatrixView::unread("M", &costs, n, m).unwrap();
            let Shortlist { core, mut bounds } =
                shortlist(&view, &v, &limits, scale, &Threads::one(), Interrupt::never()).unwrap();
            let present: Vec<f64> = v.iter().zip(vector(rise, 17)).map(|(v, rise)| v + rise).collect();
            let (bounds, rises) = bounds.advance(&present);
            for (row, bounds) in bounds.chunks(rises.blocks()).enumerate() {
                let value = |j: usize| costs[row * m + j] - present[j];
                let in_core = &core.cols[core.row(row)];
                for limit in (0..m).step_by(1 + m / 5).map(value) {
                    let row_rises = rises.of_row(row, limit);
                    for (block, bound) in bounds.iter().enumerate() {
                        let known = row_rises.least(block, *bound);
                        if known <= limit {
                            continue;
                        }
                        for j in block * BLOCK..((block + 1) * BLOCK).min(m) {
                            prop_assert!(value(j) > limit || in_core.contains(&(j as u32)));
                        }
                    }
                }
            }
        }
    }
}
