//! The first reading of all costs: the cells for the core, and bounds on all others.

mod column_lists;
mod row_scan;

use column_lists::ColumnLists;
use row_scan::{FAR, PER_ROW, RowScan};

use super::bounds::{BLOCK, Bound, Bounds, Unlisted};
use super::core::Core;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::problem::{Extent, largest_extent};
use crate::scalar::Scalar;
use crate::simd::dispatch;
use crate::threads::Threads;

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
    unit: f64,
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
            unit,
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
        let unit = self.unit;
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
            let collected = scan.collect(i);
            self.lengths.push(collected.len() as u32);
            self.cols.extend(collected.iter().map(|near| near.1));
            self.costs.extend(collected.iter().map(|near| costs[near.1 as usize]));
            let least = scan.least();
            self.columns.offer(i, least, scan.entries(), costs);
            self.least.push(if least < FAR { scan.below(least) } else { f64::NEG_INFINITY });
            scan.leave_out_collected();
            self.bounds.extend(scan.minima().iter().map(|&least| Bound::new(scan.below(least), 0, unit)));
        }
    }
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
