//! Some rows and columns of a problem as a problem of its own, whose costs are not copied.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::bounds::BLOCK;
use super::core::starts;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::pricing::Potentials;
use crate::problem::Extent;
use crate::scalar::Scalar;
use crate::simd::{dispatch, least_of_lanes};
use crate::threads::Threads;

/// Rows read together.
const TOGETHER: usize = 4;

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
        let (mut extent, mut buffers) = (Extent::default(), [const { Vec::new() }; TOGETHER]);
        for first in (first..end).step_by(TOGETHER) {
            let count = TOGETHER.min(end - first);
            let mut costs: [&[G::Cost]; TOGETHER] = [&[]; TOGETHER];
            for (k, (costs, buffer)) in costs.iter_mut().zip(&mut buffers).take(count).enumerate() {
                *costs = self.of.stretch(first + k, 0..self.of.cols(), buffer);
            }
            dispatch(
                #[inline(always)]
                || self.outside.note(first, &costs[..count], &mut extent),
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

    /// Note the least costs of a few rows from `first` on.
    #[inline(always)]
    fn note<T: Scalar>(&self, first: usize, rows: &[&[T]], extent: &mut Extent) {
        let mut least = [f64::INFINITY; TOGETHER];
        let mut known: [&[u32]; TOGETHER] = [&[]; TOGETHER];
        for (k, known) in known.iter_mut().enumerate().take(rows.len()) {
            *known = &self.known[self.start[first + k]..self.start[first + k + 1]];
        }
        for start in (0..self.zeros.len()).step_by(BLOCK) {
            let columns = start..(start + BLOCK).min(self.zeros.len());
            for (k, costs) in rows.iter().enumerate() {
                let (costs, v) = (
                    &costs[columns.clone()],
                    if self.is_inside[first + k] { &self.beside } else { &self.zeros },
                );
                extent.take(costs);
                let mut differences = [f64::INFINITY; BLOCK];
                for ((d, c), v) in differences.iter_mut().zip(costs).zip(&v[columns.clone()]) {
                    *d = c.to_f64() - v;
                }
                while let Some((&col, rest)) =
                    known[k].split_first().filter(|(col, _)| (**col as usize) < columns.end)
                {
                    differences[col as usize - start] = f64::INFINITY;
                    known[k] = rest;
                }
                least[k] = least[k].min(least_of_lanes(differences));
            }
        }
        for (least, noted) in least.iter().zip(&self.least[first..]).take(rows.len()) {
            noted.store(least.to_bits(), Ordering::Relaxed);
        }
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
