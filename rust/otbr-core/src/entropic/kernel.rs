//! The plan of one pass, kept to iterate on without looking at the costs.
//!
//! Row i holds R = P / aᵢ, which sums to 1. Where most entries count it is a matrix of `f32`,
//! rounded down; where few do, only those above [`TRUNCATION`] are kept, in `f64`. Entries only get
//! smaller or lost, so diag(c) − Rᵀ diag(a) R stays positive semidefinite for the true column sums c.

use std::slice::ChunksExactMut;

use pulp::{Simd, WithSimd};

use super::pass::chunk_rows;
use crate::threads::Threads;
use crate::zeros::Zeros;

/// Entries of a row-stochastic matrix below this are dropped from a sparse record.
pub(super) const TRUNCATION: f64 = 1e-10;

/// Entries below this are 0 in a dense record, so that no product of three is a denormal.
const NEGLIGIBLE: f32 = 1e-18;

/// Rows of a dense record that go through the registers together.
const TOGETHER: usize = 4;

/// Rows after which partial sums in `f32` are widened.
const WIDEN_AFTER: usize = 32;

/// Below this share of entries a sparse record is faster.
const SPARSE_BELOW: f64 = 0.2;

/// Chunks of a sparse record that share partial sums.
const SPARSE_GROUP: usize = 8;

/// How to record a plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Format {
    Dense,
    Sparse,
}

/// The rows of a dense record.
struct Dense {
    values: Zeros,
    /// Entries above [`TRUNCATION`], chunk by chunk.
    kept: Vec<usize>,
}

/// A chunk of the rows of a sparse record.
#[derive(Default)]
pub(super) struct SparseRows {
    ends: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<f64>,
}

impl SparseRows {
    fn clear(&mut self) {
        self.ends.clear();
        self.columns.clear();
        self.values.clear();
    }
}

/// A chunk of rows that is being recorded.
pub(super) enum Part<'k> {
    Dense { rows: ChunksExactMut<'k, f32>, kept: &'k mut usize },
    Sparse(&'k mut SparseRows),
}

/// The next row for a part: `weights` times `scale`.
pub(super) struct Record<'a, 'k> {
    pub part: &'a mut Part<'k>,
    pub weights: &'a [f64],
    pub scale: f64,
}

impl WithSimd for Record<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        const BLOCK: usize = 16;
        let Self { part, weights, scale } = self;
        match part {
            Part::Dense { rows, kept } => {
                // Less by more than f32's rounding adds.
                let scale = scale * (1.0 - f64::from(f32::EPSILON));
                let out = rows.next().unwrap_or_default();
                for (v, w) in out.iter_mut().zip(weights) {
                    let r = (w * scale) as f32;
                    *v = if r > NEGLIGIBLE { r } else { 0.0 };
                }
                let count: u32 = out.iter().map(|v| u32::from(*v > TRUNCATION as f32)).sum();
                **kept += count as usize;
            }
            Part::Sparse(SparseRows { ends, columns, values }) => {
                let least = TRUNCATION / scale;
                for (block, chunk) in weights.chunks(BLOCK).enumerate() {
                    if chunk.iter().fold(false, |any, &w| any | (w > least)) {
                        // Every entry is written, and only those that count are kept: no branches.
                        let (mut j, mut r, mut count) = ([0; BLOCK], [0.0; BLOCK], 0);
                        for (k, &w) in chunk.iter().enumerate() {
                            (j[count], r[count]) = ((block * BLOCK + k) as u32, w * scale);
                            count += usize::from(w > least);
                        }
                        columns.extend_from_slice(&j[..count]);
                        values.extend_from_slice(&r[..count]);
                    }
                }
                ends.push(columns.len());
            }
        }
    }
}

/// What is recorded.
enum Recorded {
    Nothing,
    Dense(Dense),
    Sparse(Vec<SparseRows>),
}

/// A recorded plan.
pub(super) struct Kernel {
    shape: (usize, usize),
    recorded: Recorded,
}

impl Kernel {
    /// Nothing recorded yet.
    pub fn new(shape: (usize, usize)) -> Self {
        Self { shape, recorded: Recorded::Nothing }
    }

    /// Whether nothing has been recorded.
    pub fn is_empty(&self) -> bool {
        matches!(self.recorded, Recorded::Nothing)
    }

    /// A new record, empty chunks of rows; memory is used again where it fits.
    pub(super) fn clear(&mut self, format: Format) -> Vec<Part<'_>> {
        let (n, m) = self.shape;
        let chunk = chunk_rows(n);
        let count = n.div_ceil(chunk);
        match (format, &mut self.recorded) {
            (Format::Dense, Recorded::Dense(dense)) => dense.kept.fill(0),
            (Format::Dense, recorded) => {
                *recorded = Recorded::Nothing; // What it held is free before more is asked for.
                *recorded = Recorded::Dense(Dense { values: Zeros::new(n * m), kept: vec![0; count] });
            }
            (Format::Sparse, Recorded::Sparse(parts)) => parts.iter_mut().for_each(SparseRows::clear),
            (Format::Sparse, recorded) => {
                *recorded = Recorded::Sparse((0..count).map(|_| SparseRows::default()).collect());
            }
        }
        match &mut self.recorded {
            Recorded::Nothing => Vec::new(),
            Recorded::Dense(Dense { values, kept }) => {
                let chunks = values.chunks_mut(chunk * m).zip(kept);
                chunks.map(|(rows, kept)| Part::Dense { rows: rows.chunks_exact_mut(m), kept }).collect()
            }
            Recorded::Sparse(parts) => parts.iter_mut().map(Part::Sparse).collect(),
        }
    }

    fn cells(&self) -> f64 {
        self.shape.0 as f64 * self.shape.1 as f64
    }

    /// Entries above [`TRUNCATION`].
    fn kept(&self) -> usize {
        match &self.recorded {
            Recorded::Nothing => 0,
            Recorded::Dense(dense) => dense.kept.iter().sum(),
            Recorded::Sparse(parts) => parts.iter().map(|part| part.columns.len()).sum(),
        }
    }

    /// The format for a plan that is about as spread out as this one.
    pub fn next_format(&self) -> Format {
        if (self.kept() as f64) < SPARSE_BELOW * self.cells() { Format::Sparse } else { Format::Dense }
    }

    /// Entries held, as a share of the matrix.
    pub fn share(&self) -> f64 {
        if matches!(self.recorded, Recorded::Dense(_)) { 1.0 } else { self.kept() as f64 / self.cells() }
    }

    /// t = R y, then z = Rᵀ w with wᵢ = weight(i, tᵢ), in one pass. Returns (t, z).
    pub fn fused(
        &self,
        y: &[f64],
        weight: impl Fn(usize, f64) -> f64 + Sync,
        threads: &Threads,
    ) -> (Vec<f64>, Vec<f64>) {
        let (n, m) = self.shape;
        let (arch, chunk) = (pulp::Arch::new(), chunk_rows(n));
        let scale = y.iter().fold(f64::MIN_POSITIVE, |s: f64, y| s.max(y.abs()));
        let narrow: Vec<f32> = match self.recorded {
            Recorded::Dense(_) => y.iter().map(|y| (y / scale) as f32).map(flush).collect(),
            _ => Vec::new(),
        };
        let group = if narrow.is_empty() { SPARSE_GROUP } else { 1 };
        let width = (self.share() * m as f64).ceil() as usize * chunk;
        let results = threads.map_rows(n.div_ceil(chunk), width, group, |parts| {
            let (mut t, mut z) = (Vec::with_capacity(chunk * group), vec![0.0; m]);
            for p in parts {
                let first = p * chunk;
                match &self.recorded {
                    Recorded::Nothing => {}
                    Recorded::Dense(Dense { values, .. }) => {
                        let values = &values[first * m..(first + chunk).min(n) * m];
                        let weight = |k: usize, t: f64| weight(first + k, t * scale);
                        arch.dispatch(Rows { values, y: &narrow, weight, scale, t: &mut t, z: &mut z });
                    }
                    Recorded::Sparse(parts) => {
                        let SparseRows { ends, columns, values } = &parts[p];
                        let mut start = 0;
                        for (k, &end) in ends.iter().enumerate() {
                            let row = (&columns[start..end], &values[start..end]);
                            t.push(sparse_row(row, y, |t| weight(first + k, t), &mut z));
                            start = end;
                        }
                    }
                }
            }
            (t, z)
        });
        let (mut t, mut z) = (Vec::with_capacity(n), vec![0.0; m]);
        for (rows, columns) in results {
            t.extend(rows);
            z.iter_mut().zip(columns).for_each(|(z, s)| *z += s);
        }
        (t, z)
    }
}

/// 0 for what would make denormals.
fn flush(x: f32) -> f32 {
    if x.abs() < 1e-19 { 0.0 } else { x }
}

fn sparse_row(row: (&[u32], &[f64]), y: &[f64], weight: impl Fn(f64) -> f64, z: &mut [f64]) -> f64 {
    // Four sums, since the next addition to one has to wait for the last.
    const LANES: usize = 4;
    let mut lanes = [0.0; LANES];
    let ((columns, columns_tail), (values, values_tail)) =
        (row.0.as_chunks::<LANES>(), row.1.as_chunks::<LANES>());
    for (j, r) in columns.iter().zip(values) {
        for k in 0..LANES {
            lanes[k] += r[k] * y[j[k] as usize];
        }
    }
    let tail: f64 = columns_tail.iter().zip(values_tail).map(|(&j, r)| r * y[j as usize]).sum();
    let t = lanes.iter().sum::<f64>() + tail;
    let w = weight(t);
    for (&j, r) in row.0.iter().zip(row.1) {
        z[j as usize] += r * w;
    }
    t
}

/// The rows of one dense part; t and z as in [`Kernel::fused`], y and t less by a factor `scale`.
struct Rows<'a, W> {
    values: &'a [f32],
    y: &'a [f32],
    weight: W,
    scale: f64,
    t: &'a mut Vec<f64>,
    z: &'a mut [f64],
}

impl<W: Fn(usize, f64) -> f64> WithSimd for Rows<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { values, y, weight, scale, t, z } = self;
        let m = y.len();
        let (mut narrow, zeros) = (vec![0.0_f32; m], vec![0.0_f32; m]);
        for block in values.chunks(WIDEN_AFTER * m) {
            for few in block.chunks(TOGETHER * m) {
                let count = few.len() / m;
                let rows: [&[f32]; TOGETHER] =
                    std::array::from_fn(|k| if k < count { &few[k * m..(k + 1) * m] } else { &*zeros });
                let first = t.len();
                let products = products(simd, rows, y);
                let weights = std::array::from_fn(|k| {
                    if k < count { flush(weight(first + k, products[k]) as f32) } else { 0.0 }
                });
                t.extend(products[..count].iter().map(|p| p * scale));
                add_weighted(simd, rows, weights, &mut narrow);
            }
            for (z, s) in z.iter_mut().zip(&mut narrow) {
                *z += f64::from(*s);
                *s = 0.0;
            }
        }
    }
}

/// ⟨row, y⟩ of each row.
#[inline(always)]
fn products<S: Simd>(simd: S, rows: [&[f32]; TOGETHER], y: &[f32]) -> [f64; TOGETHER] {
    let (y, y_tail) = S::as_simd_f32s(y);
    let [r0, r1, r2, r3] = rows.map(|row| S::as_simd_f32s(row));
    let mut lanes = [[simd.splat_f32s(0.0); 2]; TOGETHER];
    let step = |lanes: &mut [[S::f32s; 2]; TOGETHER], k: usize, y, row: [S::f32s; TOGETHER]| {
        for (lanes, row) in lanes.iter_mut().zip(row) {
            lanes[k] = simd.mul_add_e_f32s(row, y, lanes[k]);
        }
    };
    let (y2, y1) = y.as_chunks::<2>();
    let [(p0, q0), (p1, q1), (p2, q2), (p3, q3)] = [r0.0, r1.0, r2.0, r3.0].map(|r| r.as_chunks::<2>());
    for ((((y, r0), r1), r2), r3) in y2.iter().zip(p0).zip(p1).zip(p2).zip(p3) {
        step(&mut lanes, 0, y[0], [r0[0], r1[0], r2[0], r3[0]]);
        step(&mut lanes, 1, y[1], [r0[1], r1[1], r2[1], r3[1]]);
    }
    for ((((y, r0), r1), r2), r3) in y1.iter().zip(q0).zip(q1).zip(q2).zip(q3) {
        step(&mut lanes, 0, *y, [*r0, *r1, *r2, *r3]);
    }
    let tails = [r0.1, r1.1, r2.1, r3.1];
    std::array::from_fn(|k| {
        let tail: f64 = tails[k].iter().zip(y_tail).map(|(r, y)| f64::from(*r) * f64::from(*y)).sum();
        tail + f64::from(simd.reduce_sum_f32s(simd.add_f32s(lanes[k][0], lanes[k][1])))
    })
}

/// z += Σ weight · row.
#[inline(always)]
fn add_weighted<S: Simd>(simd: S, rows: [&[f32]; TOGETHER], weights: [f32; TOGETHER], z: &mut [f32]) {
    let (z, z_tail) = S::as_mut_simd_f32s(z);
    let [r0, r1, r2, r3] = rows.map(|row| S::as_simd_f32s(row));
    let [w0, w1, w2, w3] = weights.map(|w| simd.splat_f32s(w));
    for ((((z, r0), r1), r2), r3) in z.iter_mut().zip(r0.0).zip(r1.0).zip(r2.0).zip(r3.0) {
        let two = simd.mul_add_e_f32s(w1, *r1, simd.mul_add_e_f32s(w0, *r0, *z));
        *z = simd.mul_add_e_f32s(w3, *r3, simd.mul_add_e_f32s(w2, *r2, two));
    }
    for (k, z) in z_tail.iter_mut().enumerate() {
        *z += w(weights, [r0.1[k], r1.1[k], r2.1[k], r3.1[k]]);
    }
}

/// Σ weight · value.
fn w(weights: [f32; TOGETHER], values: [f32; TOGETHER]) -> f32 {
    weights.iter().zip(values).map(|(w, v)| w * v).sum()
}
