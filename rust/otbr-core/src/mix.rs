//! Sparse maps applied along an axis of weights.
//!
//! A plan's map has about two entries a row, so applying it is a matter of memory: each weight is read
//! about once, sums are in `f64`, and each result is rounded once.

use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::scalar::Scalar;
use crate::simd::dispatch;
use crate::threads::Threads;

/// Entries that are summed up together, in the first-level cache.
const PIECE: usize = 512;

/// From here on an output's entries are worth a task of their own.
const LONG: usize = 64;

/// Entries of such a task, about, and outer rows of another.
const TASK: usize = 1 << 15;
const TOGETHER: usize = 4;

/// What each of some outputs takes of `inputs` inputs, row by row, and of one input more: the mean of
/// `pooled` ones.
pub struct SparseMap<'a> {
    starts: &'a [i32],
    columns: &'a [i32],
    factors: &'a [f64],
    pooled: &'a [i32],
    inputs: usize,
}

impl<'a> SparseMap<'a> {
    /// Check a matrix in compressed rows: output k takes `factors[e]` of input `columns[e]` for each e
    /// in `starts[k]..starts[k + 1]`.
    ///
    /// # Errors
    /// Starts that do not rise from 0 to the number of entries, or an input that there is not.
    pub fn new(
        starts: &'a [i32],
        columns: &'a [i32],
        factors: &'a [f64],
        pooled: &'a [i32],
        inputs: usize,
    ) -> Result<Self> {
        let length = |found| Error::Shape { name: "map", unit: "entries", found, expected: columns.len() };
        if starts.first() != Some(&0) || factors.len() != columns.len() {
            return Err(length(factors.len()));
        }
        let last = starts[starts.len() - 1];
        if !starts.is_sorted() || usize::try_from(last) != Ok(columns.len()) {
            return Err(length(usize::try_from(last).unwrap_or(0)));
        }
        // The pooled input comes after the others.
        let all = inputs + usize::from(!pooled.is_empty());
        for (list, expected) in [(columns, all), (pooled, inputs)] {
            let outside = |&&i: &&i32| usize::try_from(i).map_or(true, |i| i >= expected);
            if let Some(&found) = list.iter().find(outside) {
                let found = usize::try_from(found).unwrap_or(0) + 1;
                return Err(Error::Shape { name: "map", unit: "inputs", found, expected });
            }
        }
        Ok(Self { starts, columns, factors, pooled, inputs })
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.starts.len() - 1
    }

    /// The inputs of an output, and how much it takes of each.
    #[inline(always)]
    fn row(&self, output: usize) -> (&[i32], &[f64]) {
        let entries = self.starts[output] as usize..self.starts[output + 1] as usize;
        (&self.columns[entries.clone()], &self.factors[entries])
    }
}

/// `out[o, k, :] = keep · out[o, k, :] + Σ_i map[k, i] · x[o, i, :]` for arrays of shapes (·, inputs,
/// `inner`) and (·, outputs, `inner`). What `out` held is not read where `keep` is 0.
///
/// # Errors
/// Shapes that do not fit, an interrupt.
pub fn mix<T: Scalar>(
    map: &SparseMap<'_>,
    x: &[T],
    inner: usize,
    keep: f64,
    out: &mut [T],
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<()> {
    let (per_x, per_out) = (map.inputs * inner, map.outputs() * inner);
    let outer = if per_x == 0 { 0 } else { x.len() / per_x };
    if x.len() != outer * per_x || out.len() != outer * per_out {
        let expected = outer * per_out;
        return Err(Error::Shape { name: "out", unit: "entries", found: out.len(), expected });
    }
    if out.is_empty() {
        return Ok(());
    }
    let means = pool(map, x, inner, threads, interrupt)?;
    let mix = Mix { map, x, means: &means, inner, keep };
    if inner >= LONG {
        let chunk = (TASK / inner).max(1);
        threads.map_rows_mut(out, inner, chunk, inner, interrupt, |first, out| {
            dispatch(
                #[inline(always)]
                || mix.stretches(first, out),
            );
        })?;
    } else {
        threads.map_rows_mut(out, per_out, TOGETHER, per_out, interrupt, |first, out| {
            dispatch(
                #[inline(always)]
                || match inner {
                    1 => mix.kernels::<1, 1>(first, out),
                    9 => mix.kernels::<9, 9>(first, out),
                    _ => mix.kernels::<0, LONG>(first, out),
                },
            );
        })?;
    }
    Ok(())
}

/// What a task works on.
struct Mix<'a, T> {
    map: &'a SparseMap<'a>,
    x: &'a [T],
    means: &'a [T],
    inner: usize,
    keep: f64,
}

impl<T: Scalar> Mix<'_, T> {
    /// Input i of outer row o, or the mean of the pooled ones.
    #[inline(always)]
    fn input(&self, o: usize, i: usize, inner: usize) -> &[T] {
        if i < self.map.inputs {
            &self.x[(o * self.map.inputs + i) * inner..][..inner]
        } else {
            &self.means[o * inner..][..inner]
        }
    }

    /// Outputs from the `first` on, counted over all outer rows, a piece at a time.
    #[inline(always)]
    fn stretches(&self, first: usize, out: &mut [T]) {
        for (k, out) in out.chunks_exact_mut(self.inner).enumerate() {
            let (o, k) = ((first + k) / self.map.outputs(), (first + k) % self.map.outputs());
            let (columns, factors) = self.map.row(k);
            for (piece, out) in out.chunks_mut(PIECE).enumerate() {
                let start = piece * PIECE;
                let input = |i| &self.input(o, i, self.inner)[start..];
                sum::<T, PIECE>(columns, factors, input, self.keep, out);
            }
        }
    }

    /// All outputs of outer rows from the `first` on, each output of all rows in turn: what they take
    /// is the same. `N` is `inner` where it is known, else 0, and `MOST` the largest it may be.
    #[inline(always)]
    fn kernels<const N: usize, const MOST: usize>(&self, first: usize, out: &mut [T]) {
        let inner = if N == 0 { self.inner } else { N };
        let outputs = self.map.outputs();
        let rows = out.len() / (outputs * inner);
        for k in 0..outputs {
            let (columns, factors) = self.map.row(k);
            for o in 0..rows {
                let out = &mut out[(o * outputs + k) * inner..][..inner];
                sum::<T, MOST>(columns, factors, |i| self.input(first + o, i, inner), self.keep, out);
            }
        }
    }
}

/// Sum up as much of the inputs as `out` is long, up to `MOST` entries, and of what is there.
#[inline(always)]
fn sum<'x, T: Scalar, const MOST: usize>(
    columns: &[i32],
    factors: &[f64],
    input: impl Fn(usize) -> &'x [T],
    keep: f64,
    out: &mut [T],
) {
    let mut sums = [0.0_f64; MOST];
    let sums = &mut sums[..out.len()];
    if keep != 0.0 {
        for (sum, out) in sums.iter_mut().zip(&*out) {
            *sum = keep * out.to_f64();
        }
    }
    for (&i, &factor) in columns.iter().zip(factors) {
        for (sum, x) in sums.iter_mut().zip(input(i as usize)) {
            *sum += factor * x.to_f64();
        }
    }
    for (out, &sum) in out.iter_mut().zip(&*sums) {
        *out = T::from_f64(sum);
    }
}

/// The mean of the pooled inputs, `inner` entries for each of the outer ones; empty if none is pooled.
fn pool<T: Scalar>(
    map: &SparseMap<'_>,
    x: &[T],
    inner: usize,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<Vec<T>> {
    if map.pooled.is_empty() {
        return Ok(Vec::new());
    }
    let mut means = vec![T::ZERO; x.len() / map.inputs];
    let shares = vec![1.0 / map.pooled.len() as f64; map.pooled.len()];
    let work = map.pooled.len() * inner;
    threads.map_rows_mut(&mut means, inner, 1, work, interrupt, |o, means| {
        let x = &x[o * map.inputs * inner..];
        dispatch(
            #[inline(always)]
            || {
                for (piece, out) in means.chunks_mut(PIECE).enumerate() {
                    let input = |i| &x[i * inner + piece * PIECE..];
                    sum::<T, PIECE>(map.pooled, &shares, input, 0.0, out);
                }
            },
        );
    })?;
    Ok(means)
}
