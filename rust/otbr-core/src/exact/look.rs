//! A look at all costs under present potentials: what is negative, or the proof that nothing is.

use super::bounds::{BLOCK, Bound, Bounds, Rises};
use super::core::Core;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::pricing::{Cell, Potentials};
use crate::scalar::Scalar;
use crate::simd::{dispatch, least_of_lanes};
use crate::threads::Threads;

/// Rows looked at together.
const CHUNK: usize = 64;

/// Entries handled together.
const LANES: usize = 32;

/// What a look found.
pub(super) struct Look {
    /// The least reduced cost.
    pub least: f64,
    /// In each row that has negative reduced costs, the cells with the least.
    pub negative: Vec<Cell>,
}

/// Look at the cells of the core and at all others that bounds do not exclude; `per_row` cells of a
/// row that has any negative outside the core. A sign that `f64` cannot tell is found in twice the precision.
pub(super) fn look<G: Geometry>(
    geometry: &G,
    core: Option<&Core<G::Cost>>,
    potentials: Potentials<'_>,
    bounds: &mut Bounds,
    per_row: usize,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<Look> {
    let (bounds, rises) = bounds.advance(potentials.v());
    let are_integers = potentials.are_integers();
    let parts = threads.map_rows_mut(
        bounds,
        rises.blocks(),
        CHUNK,
        geometry.cols(),
        interrupt,
        |first, bounds| {
            let mut view = RowView {
                geometry,
                core,
                potentials,
                are_integers,
                rises: &rises,
                open_v: potentials.v().to_vec(),
                open: Vec::new(),
                near: Vec::new(),
                is_exact: false,
                buffer: Vec::new(),
            };
            let mut look = Look { least: f64::MAX, negative: Vec::new() };
            for (k, row_bounds) in bounds.chunks_mut(rises.blocks()).enumerate() {
                view.take(first + k, row_bounds, per_row, &mut look);
            }
            look
        },
    )?;
    let least = parts.iter().fold(f64::MAX, |a, part| a.min(part.least));
    Ok(Look { least, negative: parts.into_iter().flat_map(|part| part.negative).collect() })
}

/// One row at a time.
struct RowView<'a, G: Geometry> {
    geometry: &'a G,
    core: Option<&'a Core<G::Cost>>,
    potentials: Potentials<'a>,
    /// Whether these are: against costs that are integers too, nothing is rounded.
    are_integers: bool,
    rises: &'a Rises<'a>,
    /// Potentials of the columns, −∞ of those whose cell is in the core.
    open_v: Vec<f64>,
    /// Blocks to read.
    open: Vec<usize>,
    /// Blocks read, with their least cost − v outside the core.
    near: Vec<(usize, f64)>,
    /// Whether nothing was rounded in them.
    is_exact: bool,
    buffer: Vec<G::Cost>,
}

impl<G: Geometry> RowView<'_, G> {
    fn take(&mut self, row: usize, bounds: &mut [Bound], per_row: usize, look: &mut Look) {
        let rounding = self.potentials.rounding(row);
        let zero = self.potentials.zero();
        // Below what is known, or negative: no other cell matters.
        let limit = |look: &Look| if look.least < zero { zero } else { look.least };
        if let Some((_, reduced_cost)) =
            self.core.and_then(|core| self.potentials.least_exact(core, row, limit(look)))
        {
            look.least = look.least.min(reduced_cost.to_f64());
        }
        let (u, limit) = (self.potentials.u_at(row), limit(look));
        self.read(row, bounds, u + limit + 2.0 * rounding);
        let least = self.near.iter().fold(f64::INFINITY, |a, b| a.min(b.1));
        if least - u > limit + rounding || self.is_exact && least - u >= limit {
            return;
        }
        let (cell, reduced_cost) = self.least_exact(row, least + 2.0 * rounding);
        look.least = look.least.min(reduced_cost);
        if reduced_cost < zero {
            look.negative.push(cell);
            self.more(cell, per_row, &mut look.negative);
        }
    }

    fn columns(&self, block: usize) -> std::ops::Range<usize> {
        block * BLOCK..((block + 1) * BLOCK).min(self.geometry.cols())
    }

    /// Read the blocks that may hold a cost − v up to `limit` outside the core.
    fn read(&mut self, row: usize, bounds: &mut [Bound], limit: f64) {
        self.near.clear();
        self.is_exact = self.are_integers;
        let core_cols = self.core.map_or(&[][..], |core| &core.cols[core.row(row)]);
        core_cols.iter().for_each(|&col| self.open_v[col as usize] = f64::NEG_INFINITY);
        // Which, without a branch: only then what is read comes from memory in an even flow.
        let (rises, mut count) = (self.rises.of_row(row, limit), 0);
        self.open.resize(bounds.len(), 0);
        for (block, bound) in bounds.iter().enumerate() {
            self.open[count] = block;
            count += usize::from(rises.least(block, *bound) <= limit);
        }
        dispatch(
            #[inline(always)]
            || {
                for &block in &self.open[..count] {
                    let columns = self.columns(block);
                    let costs = self.geometry.stretch(row, columns.clone(), &mut self.buffer);
                    let least = least_of_block(costs, &self.open_v[columns]);
                    self.is_exact = self.is_exact && are_integers(costs);
                    bounds[block] = self.rises.bound(least);
                    self.near.push((block, least));
                }
            },
        );
        let v = self.potentials.v();
        core_cols.iter().for_each(|&col| self.open_v[col as usize] = v[col as usize]);
    }

    /// The cell of least reduced cost, exactly, among blocks whose least cost − v is up to `bound`.
    fn least_exact(&mut self, row: usize, bound: f64) -> (Cell, f64) {
        let (mut least, mut col) = (f64::INFINITY, 0);
        for k in 0..self.near.len() {
            if self.near[k].1 > bound {
                continue;
            }
            let columns = self.columns(self.near[k].0);
            let first = columns.start;
            let costs = self.geometry.stretch(row, columns, &mut self.buffer);
            let of_block = self.potentials.least_of_stretch(row, first, costs);
            (least, col) = if of_block.0 < least { of_block } else { (least, col) };
        }
        (Cell { row, col, cost: self.geometry.at(row, col) }, least)
    }

    /// Beside the first up to `count` − 1 more cells of its row, in order of their reduced costs,
    /// from the blocks that were read: they may become negative next.
    fn more(&mut self, first: Cell, count: usize, found: &mut Vec<Cell>) {
        let (row, mut others) = (first.row, Vec::new());
        // So many blocks hold so many of the least.
        if self.near.len() > count {
            self.near.select_nth_unstable_by(count - 1, |x, y| x.1.total_cmp(&y.1).then(x.0.cmp(&y.0)));
            self.near.truncate(count);
        }
        // Half as many would do: then no more are compared than there are up to the blocks' least.
        let most = self.near.iter().fold(f64::NEG_INFINITY, |most, near| most.max(near.1));
        let most = if 2 * self.near.len() >= count { most } else { f64::INFINITY };
        for k in 0..self.near.len() {
            let columns = self.columns(self.near[k].0);
            let start = columns.start;
            let costs = self.geometry.stretch(row, columns, &mut self.buffer);
            for (k, c) in costs.iter().enumerate().filter(|(k, _)| start + k != first.col) {
                let value = c.to_f64() - self.potentials.v()[start + k];
                if value <= most {
                    others.push((value, start + k, c.to_f64()));
                }
            }
        }
        if others.len() >= count {
            others.select_nth_unstable_by(count - 1, |x, y| x.0.total_cmp(&y.0).then(x.1.cmp(&y.1)));
            others.truncate(count - 1);
        }
        found.extend(others.into_iter().map(|(_, col, cost)| Cell { row, col, cost }));
    }
}

/// Whether all are integers.
#[inline(always)]
fn are_integers<T: Scalar>(costs: &[T]) -> bool {
    costs.iter().fold(true, |all, c| all & (c.to_f64().round_ties_even() == c.to_f64()))
}

/// The least cost − v of a block.
#[inline(always)]
fn least_of_block<T: Scalar>(costs: &[T], v: &[f64]) -> f64 {
    let (mut lanes, mut least) = ([f64::INFINITY; LANES], f64::INFINITY);
    let ((costs, costs_rest), (v, v_rest)) = (costs.as_chunks::<LANES>(), v.as_chunks::<LANES>());
    for (costs, v) in costs.iter().zip(v) {
        for k in 0..LANES {
            let value = costs[k].to_f64() - v[k];
            lanes[k] = if value < lanes[k] { value } else { lanes[k] };
        }
    }
    for (c, v) in costs_rest.iter().zip(v_rest) {
        least = least.min(c.to_f64() - v);
    }
    least.min(least_of_lanes(lanes))
}
