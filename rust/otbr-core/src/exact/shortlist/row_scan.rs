//! The least reduced costs of one row, and a bound on the others, block by block.

use super::BLOCK;
use crate::scalar::Scalar;
use crate::simd::least_of_lanes;

/// Cells of each row with the least reduced costs, about: so many of a row's groups have their least among
/// them, and some groups hold several. Where there are more than the largest number, many are equal.
pub(super) const PER_ROW: usize = 20;
const GROUPS_PER_ROW: u32 = 17;
const MAX_PER_ROW: usize = 32;

/// Entries of a row that are compared: more than that are equal, mostly.
const MAX_NEAR: usize = 64;

/// Entries handled together.
const LANES: usize = 16;

/// A row is cut into so many parts; of each, every `LANES`-th entry makes a group.
const ROW_PARTS: usize = 4;
const GROUPS: usize = ROW_PARTS * LANES;

/// In units: what is not finite in `f32` is more than twice as far.
pub(super) const FAR: f32 = 1e30;

/// One row's cost − v in `f32`, relative to `base` and in `unit`s: enough to choose by. The end is
/// filled up with infinity to whole blocks.
pub(super) struct RowScan {
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
    pub fn new(m: usize, unit: f64) -> Self {
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
    pub fn begin(&mut self, base: f64) {
        self.base = base;
        self.groups = [f32::INFINITY; GROUPS];
    }

    /// Take one block.
    #[inline(always)]
    pub fn reduce<T: Scalar>(&mut self, b: usize, costs: &[T], v: &[f64]) {
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

    /// The entries and places of about as many of the least entries as fit into the core, of equal ones different ones
    /// in different rows.
    #[inline(always)]
    pub fn collect(&mut self, i: u32) -> &[(f32, u32)] {
        let threshold = nth_least(&self.groups, GROUPS_PER_ROW).min(f32::MAX);
        let blocks = self.minima.len();
        let first = i as usize % blocks;
        self.near.clear();
        self.collect_from(first..blocks, threshold);
        let before = self.near.len();
        self.collect_from(0..first, threshold);
        if self.near.len() <= MAX_PER_ROW {
            self.near.rotate_left(before);
            return &self.near;
        }
        self.near.select_nth_unstable_by(PER_ROW - 1, |x, y| x.0.total_cmp(&y.0));
        self.near.truncate(PER_ROW);
        self.near.sort_unstable_by_key(|near| near.1);
        &self.near
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

    /// All entries, filled up to whole blocks.
    #[inline(always)]
    pub fn entries(&self) -> &[[f32; BLOCK]] {
        self.reduced.as_flattened().as_chunks().0
    }

    /// The least of them.
    #[inline(always)]
    pub fn least(&self) -> f32 {
        least_of_lanes(self.groups)
    }

    /// The least of each block.
    #[inline(always)]
    pub fn minima(&self) -> &[f32] {
        &self.minima
    }

    /// Leave what was collected for the core out of the blocks' minima.
    #[inline(always)]
    pub fn leave_out_collected(&mut self) {
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
    pub fn below(&self, reduced: f32) -> f64 {
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
