//! Some rows and columns of a problem as a problem of its own, whose costs are not copied.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::core::starts;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::pricing::Potentials;
use crate::problem::Extent;
use crate::scalar::Scalar;
use crate::simd::{dispatch, least_of_lanes};
use crate::threads::Threads;

/// Entries handled together.
const LANES: usize = 32;

/// Rows and columns of a geometry, in order. Reading its rows for the first time reads those between
/// them too, and notes what is outside.
pub(super) struct Selected<'a, G> {
    pub of: &'a G,
    pub rows: &'a [u32],
    pub cols: &'a [u32],
    pub outside: &'a Outside,
}

impl<G: Geometry> Geometry for Selected<'_, G> {
    type Cost = G::Cost;

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn cols(&self) -> usize {
        self.cols.len()
    }

    fn max_abs(&self) -> f64 {
        self.of.max_abs()
    }

    fn read(&self, threads: &Threads) -> Result<f64> {
        self.of.read(threads)
    }

    fn learn(&self, extent: f64) {
        self.of.learn(extent);
    }

    fn survey_beside(&self, rows: Range<usize>) -> f64 {
        let first = if rows.start == 0 { 0 } else { self.rows[rows.start] as usize };
        let end = self.rows.get(rows.end).map_or(self.of.rows(), |&row| row as usize);
        let (mut extent, mut buffer) = (Extent::default(), Vec::new());
        for row in first..end {
            let costs = self.of.stretch(row, 0..self.of.cols(), &mut buffer);
            dispatch(
                #[inline(always)]
                || self.outside.note(row, costs, &mut extent),
            );
        }
        extent.value()
    }

    #[inline(always)]
    fn at(&self, row: usize, col: usize) -> f64 {
        self.of.at(self.rows[row] as usize, self.cols[col] as usize)
    }

    #[inline(always)]
    fn stretch<'a>(&'a self, row: usize, cols: Range<usize>, buffer: &'a mut Vec<G::Cost>) -> &'a [G::Cost] {
        let mut whole = Vec::new();
        let costs = self.of.stretch(self.rows[row] as usize, 0..self.of.cols(), &mut whole);
        buffer.clear();
        buffer.extend(self.cols[cols].iter().map(|&col| costs[col as usize]));
        buffer
    }
}

/// The cells outside a selected problem: of rows in it those to other columns, of other rows all;
/// but for some that are known.
pub(super) struct Outside {
    /// Whether a row is in the selected problem, or equals one that is.
    is_inside: Vec<bool>,
    /// −∞ for the columns that are in it, 0 for others; and 0 for all.
    beside: Vec<f64>,
    zeros: Vec<f64>,
    /// Cells that are known, in order of rows and columns, and where those of a row start.
    known: Vec<u32>,
    start: Vec<usize>,
    /// The least cost of each row's cells, as bits: at first −∞.
    least: Vec<AtomicU64>,
}

impl Outside {
    pub fn new(is_inside: Vec<bool>, m: usize, cols: &[u32], known: &[(u32, u32, f64)]) -> Self {
        let mut beside = vec![0.0; m];
        cols.iter().for_each(|&col| beside[col as usize] = f64::NEG_INFINITY);
        Self {
            beside,
            zeros: vec![0.0; m],
            start: starts(is_inside.len(), known.iter().map(|c| c.0)),
            known: known.iter().map(|c| c.1).collect(),
            least: is_inside.iter().map(|_| AtomicU64::new(f64::NEG_INFINITY.to_bits())).collect(),
            is_inside,
        }
    }

    /// Note the least cost of a row.
    #[inline(always)]
    fn note<T: Scalar>(&self, row: usize, costs: &[T], extent: &mut Extent) {
        let v = if self.is_inside[row] { &self.beside } else { &self.zeros };
        let (mut least, mut start) = ([f64::INFINITY; LANES], 0);
        for &col in &self.known[self.start[row]..self.start[row + 1]] {
            let col = col as usize;
            lower(&mut least, extent, &costs[start..col], &v[start..col]);
            extent.take(&costs[col..=col]);
            start = col + 1;
        }
        lower(&mut least, extent, &costs[start..], &v[start..]);
        self.least[row].store(least_of_lanes(least).to_bits(), Ordering::Relaxed);
    }

    /// For each row whether its least cost proves that none of its reduced costs here is negative.
    pub fn proven(&self, potentials: Potentials<'_>) -> Vec<bool> {
        let beside = potentials.v().iter().zip(&self.beside).filter(|(_, beside)| **beside == 0.0);
        let beside = beside.fold(f64::NEG_INFINITY, |most, (v, _)| most.max(*v));
        let all = potentials.v().iter().fold(f64::NEG_INFINITY, |most, v| most.max(*v));
        let proves = |(row, least): (usize, &AtomicU64)| {
            let most = if self.is_inside[row] { beside } else { all };
            let least = f64::from_bits(least.load(Ordering::Relaxed));
            least - most - potentials.u_at(row) > potentials.rounding(row)
        };
        self.least.iter().enumerate().map(proves).collect()
    }
}

/// Lower what each lane has found to its least cost − v.
#[inline(always)]
fn lower<T: Scalar>(least: &mut [f64; LANES], extent: &mut Extent, costs: &[T], v: &[f64]) {
    let ((costs, costs_rest), (v, v_rest)) = (costs.as_chunks::<LANES>(), v.as_chunks::<LANES>());
    for (costs, v) in costs.iter().zip(v) {
        extent.take(costs);
        for k in 0..LANES {
            let value = costs[k].to_f64() - v[k];
            least[k] = if value < least[k] { value } else { least[k] };
        }
    }
    extent.take(costs_rest);
    for ((least, c), v) in least.iter_mut().zip(costs_rest).zip(v_rest) {
        *least = least.min(c.to_f64() - v);
    }
}
