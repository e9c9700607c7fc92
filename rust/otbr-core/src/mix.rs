//! Sparse maps applied along an axis of weights.
//!
//! A plan's map has about two entries a row, so applying it is a matter of memory: each weight is read
//! about once, sums are in `f64`, and each result is rounded once.

use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::scalar::Scalar;
use crate::simd::dispatch;
use crate::threads::Threads;

/// Entries that are summed up together, in registers.
const PIECE: usize = 64;

/// From here on an output's entries are worth a task of their own.
const LONG: usize = 64;

/// Entries of such a task, about, and outer rows of another.
const TASK: usize = 1 << 15;
const TOGETHER: usize = 4;

/// Inputs of an output, and how much it takes of each.
type Row<'a> = (&'a [i32], &'a [f64]);

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
    fn row(&self, output: usize) -> Row<'_> {
        let entries = self.starts[output] as usize..self.starts[output + 1] as usize;
        (&self.columns[entries.clone()], &self.factors[entries])
    }
}

/// `out[o, k, :] = Σ_i map[k, i] · x[o, i, :] + keep · base[o, k, :]` for arrays of shapes (·, outputs,
/// `inner`), (·, inputs, `inner`) and, unless it is empty and so 0, that of `out`.
///
/// # Errors
/// Shapes that do not fit, an interrupt.
#[allow(clippy::too_many_arguments)] // Two arrays in, one out, each with what it is multiplied by.
pub fn mix<T: Scalar>(
    map: &SparseMap<'_>,
    x: &[T],
    keep: f64,
    base: &[T],
    inner: usize,
    out: &mut [T],
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<()> {
    let (per_x, per_out) = (map.inputs * inner, map.outputs() * inner);
    let outer = x.len().checked_div(per_x).unwrap_or(0);
    let expected = outer * per_out;
    if x.len() != outer * per_x || out.len() != expected {
        return Err(Error::Shape { name: "out", unit: "entries", found: out.len(), expected });
    }
    if !base.is_empty() && base.len() != expected {
        return Err(Error::Shape { name: "base", unit: "entries", found: base.len(), expected });
    }
    if out.is_empty() {
        return Ok(());
    }
    let means = pool(map, x, inner, threads, interrupt)?;
    let mix = Mix { map, x, means: &means, inner, keep, base };
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
                    1 => mix.kernels::<1>(first, out),
                    9 => mix.kernels::<9>(first, out),
                    _ => mix.kernels::<0>(first, out),
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
    base: &'a [T],
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

    /// What is added to an output, counted over all outer rows; empty if nothing is.
    #[inline(always)]
    fn base(&self, output: usize, inner: usize) -> &[T] {
        if self.base.is_empty() { &[] } else { &self.base[output * inner..][..inner] }
    }

    /// Outputs from the `first` on, counted over all outer rows.
    #[inline(always)]
    fn stretches(&self, first: usize, out: &mut [T]) {
        for (k, out) in out.chunks_exact_mut(self.inner).enumerate() {
            let (o, row) = ((first + k) / self.map.outputs(), self.map.row((first + k) % self.map.outputs()));
            let base = self.base(first + k, self.inner);
            sum_all(row, |i| self.input(o, i, self.inner), self.keep, base, out);
        }
    }

    /// All outputs of outer rows from the `first` on, each output of all rows in turn: what they take
    /// is the same. `N` is `inner` where it is known, else 0.
    #[inline(always)]
    fn kernels<const N: usize>(&self, first: usize, out: &mut [T]) {
        let inner = if N == 0 { self.inner } else { N };
        let outputs = self.map.outputs();
        let rows = out.len() / (outputs * inner);
        for k in 0..outputs {
            let row = self.map.row(k);
            for o in 0..rows {
                let out = &mut out[(o * outputs + k) * inner..][..inner];
                let input = |i| self.input(first + o, i, inner);
                let base = self.base((first + o) * outputs + k, inner);
                if N > 0
                    && let Some(out) = out.first_chunk_mut::<N>()
                {
                    sum(row, input, 0, self.keep, base, out);
                } else {
                    sum_all(row, input, self.keep, base, out);
                }
            }
        }
    }
}

/// Sum up inputs of any length.
#[inline(always)]
fn sum_all<'x, T: Scalar>(
    row: Row<'_>,
    input: impl Fn(usize) -> &'x [T],
    keep: f64,
    base: &[T],
    out: &mut [T],
) {
    let (pieces, rest) = out.as_chunks_mut::<PIECE>();
    let done = pieces.len() * PIECE;
    for (piece, out) in pieces.iter_mut().enumerate() {
        sum(row, &input, piece * PIECE, keep, base, out);
    }
    for (k, out) in rest.iter_mut().enumerate() {
        sum(row, &input, done + k, keep, base, std::array::from_mut(out));
    }
}

/// Sum up `N` entries of the inputs, from `start` on: few enough to stay in registers.
#[inline(always)]
fn sum<'x, T: Scalar, const N: usize>(
    (columns, factors): Row<'_>,
    input: impl Fn(usize) -> &'x [T],
    start: usize,
    keep: f64,
    base: &[T],
    out: &mut [T; N],
) {
    let mut sums = [0.0_f64; N];
    for (&i, &factor) in columns.iter().zip(factors) {
        let x = &input(i as usize)[start..][..N];
        for k in 0..N {
            sums[k] += factor * x[k].to_f64();
        }
    }
    if !base.is_empty() {
        let base = &base[start..][..N];
        for k in 0..N {
            sums[k] += keep * base[k].to_f64();
        }
    }
    for k in 0..N {
        out[k] = T::from_f64(sums[k]);
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
            || sum_all((map.pooled, &shares), |i| &x[i * inner..][..inner], 0.0, &[], means),
        );
    })?;
    Ok(means)
}
