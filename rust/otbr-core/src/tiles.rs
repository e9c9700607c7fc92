//! Squared distances of all pairs of rows, a tile of registers at a time.
//!
//! Rows are packed so that a tile reads both sides in order, and what makes a distance of a product
//! is done while the products are still in registers. A tile with an entry that rounding may have
//! spoilt is handed to the caller as squares.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use pulp::{Simd, WithSimd};

use crate::scalar::Scalar;
use crate::simd::dispatch_simd;

/// Rows of a tile on machines of 32 registers and of 16.
const TILE_ROWS: (usize, usize) = (12, 6);

/// Vectors across a tile.
const TILE_VECTORS: usize = 2;

/// Bytes of a panel of Y that tiles go through at a time, to stay in the first-level cache.
const PANEL_BYTES: usize = 24 << 10;

/// Bytes of partial sums at a time, to stay in the second-level cache.
const PARTIAL_BYTES: usize = 768 << 10;

/// Components that are packed at a time, to stay in the first.
const PACKED_TOGETHER: usize = 128;

/// Entries of the largest tile.
const MAX_TILE: usize = 12 * 32;

/// For each row of a tile, written out: an array that a loop indexes does not stay in registers.
macro_rules! unrolled {
    ($r:ident in $R:ident => $body:expr) => {
        unrolled!(@ $r $R $body; 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@ $r:ident $R:ident $body:expr; $($row:literal)*) => {
        $(if $row < $R { let $r = $row; $body; })*
    };
}

/// What a tile sums over the components.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sum {
    /// x y, for |x|² + |y|² − 2⟨x, y⟩.
    Products,
    /// (x − y)².
    Differences,
}

/// From sums to results.
#[derive(Clone, Copy)]
pub(crate) struct Finish<T> {
    pub sum: Sum,
    /// A square up to `near` · (|x|² + |y|²) + `floor` is not to be trusted.
    pub near: T,
    pub floor: T,
    /// Whether to take the square root of the square.
    pub root: bool,
    /// Factor of the result.
    pub scale: T,
}

/// Rows of one side, `d` components each.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a, T> {
    pub values: &'a [T],
    pub d: usize,
    /// Squared norms, and 1 for `SPARE` rows after the last.
    pub squares: &'a [T],
}

/// At least as many rows as may be missing from a panel.
pub(crate) const SPARE: usize = 64;

/// Squared norm of a row.
#[inline(always)]
pub(crate) fn square<T: Scalar>(row: &[T]) -> T {
    T::from_f64(sum(
        row,
        row,
        #[inline(always)]
        |x, _| x * x,
    ))
}

impl<T: Scalar> Side<'_, T> {
    /// Put rows `rows` in panels of `width` rows, component by component. Rows missing from the last
    /// panel are 0.
    #[inline(always)]
    pub(crate) fn pack(&self, rows: Range<usize>, width: usize, out: &mut [T]) {
        for (panel, out) in out.chunks_exact_mut(width * self.d).enumerate() {
            let first = rows.start + panel * width;
            let present = width.min(rows.end - first);
            if present < width {
                out.fill(T::ZERO);
            }
            let values = &self.values[first * self.d..(first + present) * self.d];
            for k in (0..self.d).step_by(PACKED_TOGETHER) {
                let depth = k..(k + PACKED_TOGETHER).min(self.d);
                transpose(values, self.d, depth.clone(), width, &mut out[k * width..depth.end * width]);
            }
        }
    }
}

/// Components `depth` of rows, component by component, `width` entries each.
#[inline(always)]
fn transpose<T: Scalar>(rows: &[T], d: usize, depth: Range<usize>, width: usize, out: &mut [T]) {
    const N: usize = 4;
    let mut whole = rows.chunks_exact(N * d);
    for (group, rows) in whole.by_ref().enumerate() {
        let row = |r: usize| rows[r * d..][depth.clone()].as_chunks::<N>();
        let (heads, tails) =
            ([row(0).0, row(1).0, row(2).0, row(3).0], [row(0).1, row(1).1, row(2).1, row(3).1]);
        let (out_head, out_tail) = out.split_at_mut(heads[0].len() * N * width);
        for (k, out) in out_head.chunks_exact_mut(N * width).enumerate() {
            let block = [heads[0][k], heads[1][k], heads[2][k], heads[3][k]];
            for c in 0..N {
                out[c * width + group * N..][..N].copy_from_slice(&[
                    block[0][c],
                    block[1][c],
                    block[2][c],
                    block[3][c],
                ]);
            }
        }
        for (k, out) in out_tail.chunks_exact_mut(width).enumerate() {
            out[group * N..][..N].copy_from_slice(&tails.map(|tail| tail[k]));
        }
    }
    let first = rows.len() / d / N * N;
    for (r, row) in whole.remainder().chunks_exact(d).enumerate() {
        for (out, &x) in out.chunks_exact_mut(width).zip(&row[depth.clone()]) {
            out[first + r] = x;
        }
    }
}

/// Sum of `term(x, y)` over components, in `f64`, in a fixed order.
#[inline(always)]
pub(crate) fn sum<T: Scalar>(x: &[T], y: &[T], term: impl Fn(f64, f64) -> f64) -> f64 {
    const LANES: usize = 32;
    let (x_head, x_tail) = x.as_chunks::<LANES>();
    let (y_head, y_tail) = y.as_chunks::<LANES>();
    let mut sums = [0.0_f64; LANES];
    for (x, y) in x_head.iter().zip(y_head) {
        for k in 0..LANES {
            sums[k] += term(x[k].to_f64(), y[k].to_f64());
        }
    }
    let tail = x_tail.iter().zip(y_tail).map(|(x, y)| term(x.to_f64(), y.to_f64())).sum::<f64>();
    tail + sums.iter().sum::<f64>()
}

/// More elements than lie before the first that begins a cache line.
pub(crate) const ALIGNMENT: usize = 16;

/// From the first element that begins a cache line: loads that cross one take twice as long.
pub(crate) fn aligned<T>(buffer: &mut [T]) -> &mut [T] {
    let skipped = buffer.as_ptr().align_offset(64).min(ALIGNMENT);
    &mut buffer[skipped..]
}

/// Columns of a tile on the path in use.
pub(crate) fn tile_cols<T: Scalar>() -> usize {
    struct Cols<T>(PhantomData<T>);
    impl<T: Scalar> WithSimd for Cols<T> {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            TILE_VECTORS * T::lanes::<S>()
        }
    }
    dispatch_simd(Cols::<T>(PhantomData))
}

/// Squares that are not to be trusted, to be made results.
pub(crate) struct Doubtful<'a, T> {
    pub row: usize,
    pub first_col: usize,
    pub x_square: T,
    pub y_squares: &'a [T],
    pub squares: &'a mut [T],
}

/// Rows `rows` of X against columns `cols` of Y.
pub(crate) struct Block<'a, T, F> {
    pub x: Side<'a, T>,
    pub y: Side<'a, T>,
    /// Columns `cols` of Y, packed with the width of a tile.
    pub y_packed: &'a [T],
    pub rows: Range<usize>,
    pub cols: Range<usize>,
    pub finish: Finish<T>,
    pub refine: F,
    /// Buffers to use again: fresh memory comes slowly.
    pub buffers: &'a Mutex<Vec<Vec<T>>>,
}

impl<T: Scalar, F: Fn(Doubtful<'_, T>)> Block<'_, T, F> {
    /// Fill the block's columns of `out`, which holds the block's rows, `stride` entries each.
    pub(crate) fn run(&self, out: &mut [T], stride: usize) {
        struct Run<'a, 'b, T, F>(&'a Block<'b, T, F>, &'a mut [T], usize);
        impl<T: Scalar, F: Fn(Doubtful<'_, T>)> WithSimd for Run<'_, '_, T, F> {
            type Output = ();
            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) {
                let Self(block, out, stride) = self;
                if S::REGISTER_COUNT >= 32 {
                    block.fill::<S, { TILE_ROWS.0 }>(simd, out, stride);
                } else {
                    block.fill::<S, { TILE_ROWS.1 }>(simd, out, stride);
                }
            }
        }
        dispatch_simd(Run(self, out, stride));
    }

    #[inline(always)]
    fn fill<S: Simd, const R: usize>(&self, simd: S, out: &mut [T], stride: usize) {
        let (d, height) = (self.x.d, self.rows.len());
        let width = TILE_VECTORS * T::lanes::<S>();
        let padded = height.next_multiple_of(R);
        let step = (PANEL_BYTES / (width * size_of::<T>())).min(d);
        let together = (PARTIAL_BYTES / (padded * size_of::<T>())).next_multiple_of(width);
        // Partial sums tile after tile, so that few cache lines are needed at a time.
        let n_partial = if step < d { padded * together } else { R * width };
        let mut buffer =
            self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.resize(padded * d + n_partial + 2 * ALIGNMENT, T::ZERO);
        let (x_packed, partial) = aligned(&mut buffer).split_at_mut(padded * d);
        let partial = aligned(partial);
        self.x.pack(self.rows.clone(), R, x_packed);
        let panels = self.cols.clone().step_by(width).zip(self.y_packed.chunks_exact(width * d));
        let panels: Vec<_> = panels.collect();
        for panels in panels.chunks(together / width) {
            for k in (0..d).step_by(step) {
                let depth = k..(k + step).min(d);
                for (panel, (j, y)) in panels.iter().enumerate() {
                    let y = &y[depth.start * width..depth.end * width];
                    for (tile, x) in x_packed.chunks_exact(R * d).enumerate() {
                        let x = &x[depth.start * R..depth.end * R];
                        let before = if step < d { (panel * (padded / R) + tile) * R * width } else { 0 };
                        let before = &mut partial[before..][..R * width];
                        let mut sums = if k == 0 { Tile::zero(simd) } else { Tile::load(simd, before) };
                        match self.finish.sum {
                            Sum::Products => sums.add_products(simd, x, y),
                            Sum::Differences => sums.add_differences(simd, x, y),
                        }
                        if depth.end < d {
                            sums.store(before, width);
                        } else {
                            let out = &mut out[tile * R * stride + (j - self.cols.start)..];
                            self.put::<S, R>(simd, sums, tile * R, *j, out, stride);
                        }
                    }
                }
            }
        }
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }

    /// Make results of the sums of rows `i..` of the block and columns `j..`.
    #[inline(always)]
    fn put<S: Simd, const R: usize>(
        &self,
        simd: S,
        mut sums: Tile<T, S, R>,
        i: usize,
        j: usize,
        out: &mut [T],
        stride: usize,
    ) {
        let width = TILE_VECTORS * T::lanes::<S>();
        let (rows, cols) = (R.min(self.rows.len() - i), width.min(self.cols.end - j));
        let x_squares = &self.x.squares[self.rows.start + i..][..R];
        let y_squares = &self.y.squares[j..][..width];
        let trusted = sums.finish(simd, self.finish, x_squares, y_squares);
        if rows == R && cols == width {
            sums.store(out, stride);
        } else {
            let mut edge = [T::ZERO; MAX_TILE];
            sums.store(&mut edge, width);
            for (edge, out) in edge.chunks(width).zip(out.chunks_mut(stride)).take(rows) {
                out[..cols].copy_from_slice(&edge[..cols]);
            }
        }
        if !trusted {
            for (r, out) in out.chunks_mut(stride).take(rows).enumerate() {
                (self.refine)(Doubtful {
                    row: self.rows.start + i + r,
                    first_col: j,
                    x_square: x_squares[r],
                    y_squares: &y_squares[..cols],
                    squares: &mut out[..cols],
                });
            }
        }
    }
}

/// The sums of a tile, in registers.
struct Tile<T: Scalar, S: Simd, const R: usize>([[T::Vector<S>; TILE_VECTORS]; R]);

impl<T: Scalar, S: Simd, const R: usize> Tile<T, S, R> {
    #[inline(always)]
    fn zero(simd: S) -> Self {
        Self([[T::splat(simd, T::ZERO); TILE_VECTORS]; R])
    }

    #[inline(always)]
    fn load(simd: S, from: &[T]) -> Self {
        let mut sums = [[T::splat(simd, T::ZERO); TILE_VECTORS]; R];
        let from = T::vectors::<S>(from).as_chunks::<TILE_VECTORS>().0;
        unrolled!(r in R => sums[r] = from[r]);
        Self(sums)
    }

    #[inline(always)]
    fn store(&self, out: &mut [T], stride: usize) {
        unrolled!(r in R => {
            let out = T::vectors_mut::<S>(&mut out[r * stride..][..TILE_VECTORS * T::lanes::<S>()]);
            [out[0], out[1]] = self.0[r];
        });
    }

    #[inline(always)]
    fn add_products(&mut self, simd: S, x: &[T], y: &[T]) {
        let mut sums = self.0;
        let y = T::vectors::<S>(y).as_chunks::<TILE_VECTORS>().0;
        for (x, &y) in x.as_chunks::<R>().0.iter().zip(y) {
            unrolled!(r in R => {
                let x = T::splat(simd, x[r]);
                sums[r] = pair(#[inline(always)] |c| T::mul_add(simd, x, y[c], sums[r][c]));
            });
        }
        self.0 = sums;
    }

    #[inline(always)]
    fn add_differences(&mut self, simd: S, x: &[T], y: &[T]) {
        let mut sums = self.0;
        let y = T::vectors::<S>(y).as_chunks::<TILE_VECTORS>().0;
        for (x, &y) in x.as_chunks::<R>().0.iter().zip(y) {
            unrolled!(r in R => {
                let x = T::splat(simd, x[r]);
                let difference = pair(#[inline(always)] |c| T::sub(simd, x, y[c]));
                sums[r] = pair(
                    #[inline(always)]
                    |c| T::mul_add(simd, difference[c], difference[c], sums[r][c]),
                );
            });
        }
        self.0 = sums;
    }

    /// Make squares of sums, and results of squares if all are to be trusted.
    #[inline(always)]
    fn finish(&mut self, simd: S, finish: Finish<T>, x_squares: &[T], y_squares: &[T]) -> bool {
        let splat = |x: f64| T::splat(simd, T::from_f64(x));
        let (minus_two, minus_near) = (splat(-2.0), splat(-finish.near.to_f64()));
        let mut margins = [splat(1.0); TILE_VECTORS];
        let mut sums = self.0;
        if finish.sum == Sum::Products {
            let y_squares = T::vectors::<S>(y_squares);
            unrolled!(r in R => {
                let xx = T::splat(simd, x_squares[r]);
                let both = pair(#[inline(always)] |c| T::add(simd, xx, y_squares[c]));
                sums[r] = pair(#[inline(always)] |c| T::mul_add(simd, sums[r][c], minus_two, both[c]));
                margins = pair(
                    #[inline(always)]
                    |c| T::min(simd, margins[c], T::mul_add(simd, both[c], minus_near, sums[r][c])),
                );
            });
        } else {
            unrolled!(r in R => {
                margins = pair(#[inline(always)] |c| T::min(simd, margins[c], sums[r][c]));
            });
        }
        let margin = T::reduce_min(simd, T::min(simd, margins[0], margins[1]));
        let trusted = margin.to_f64() > finish.floor.to_f64();
        if trusted {
            if finish.root {
                unrolled!(r in R => sums[r] = pair(#[inline(always)] |c| T::sqrt(simd, sums[r][c])));
            }
            let scale = T::splat(simd, finish.scale);
            unrolled!(r in R => sums[r] = pair(#[inline(always)] |c| T::mul(simd, sums[r][c], scale)));
        }
        self.0 = sums;
        trusted
    }
}

/// One for each vector across a tile.
#[inline(always)]
fn pair<V>(f: impl Fn(usize) -> V) -> [V; TILE_VECTORS] {
    [f(0), f(1)]
}
