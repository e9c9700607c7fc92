//! Squared distances of all pairs of rows, a tile of registers at a time.
//!
//! Rows are packed so that a tile reads both sides in order, and what makes a distance of a product
//! is done while the products are still in registers. A tile with an entry that rounding may have
//! spoilt is handed to the caller as squares.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::scalar::Scalar;
use crate::simd::{Lanes, dispatch_simd};

/// Rows of a tile on machines of 32 registers and of 16.
const TILE_ROWS: (usize, usize) = (12, 6);

/// Vectors across a tile.
const TILE_VECTORS: usize = 2;

/// Bytes of a panel of Y that tiles go through at a time, to stay in the first-level cache.
const PANEL_BYTES: usize = 32 << 10;

/// Components that are packed at a time, to stay there too.
const PACKED_TOGETHER: usize = 32;

/// Norms that follow those of the last row, for tiles that reach over the edge.
pub(crate) const PADDING: usize = 64;

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

/// Rows of one side.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a, T> {
    pub values: &'a [T],
    /// Squared norms and `PADDING` more numbers.
    pub squares: &'a [T],
    pub d: usize,
}

impl<T: Scalar> Side<'_, T> {
    /// Components `depth` of rows `rows`, in panels of `width` rows, component by component; rows
    /// missing from the last panel are 0.
    #[inline(always)]
    pub(crate) fn pack(&self, rows: Range<usize>, depth: Range<usize>, width: usize, out: &mut [T]) {
        for (panel, out) in out.chunks_exact_mut(width * depth.len()).enumerate() {
            let first = rows.start + panel * width;
            let present = width.min(rows.end - first);
            if present < width {
                out.fill(T::ZERO);
            }
            for (out, k) in
                out.chunks_mut(width * PACKED_TOGETHER).zip(depth.clone().step_by(PACKED_TOGETHER))
            {
                for r in 0..present {
                    let row = &self.values[(first + r) * self.d..][k..];
                    for (out, &x) in out.chunks_exact_mut(width).zip(row) {
                        out[r] = x;
                    }
                }
            }
        }
    }
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

/// Rows `rows` of X against columns `cols` of Y.
pub(crate) struct Block<'a, T, F> {
    pub x: Side<'a, T>,
    pub y: Side<'a, T>,
    /// Columns `cols`, packed with the width of a tile.
    pub y_packed: &'a [T],
    pub rows: Range<usize>,
    pub cols: Range<usize>,
    pub finish: Finish<T>,
    /// Makes results of squares that are not to be trusted: row, first column, squares.
    pub refine: F,
}

impl<T: Scalar, F: Fn(usize, usize, &mut [T])> Block<'_, T, F> {
    /// Fill the block's columns of `out`, which holds the block's rows, `stride` entries each.
    pub(crate) fn run(&self, out: &mut [T], stride: usize) {
        struct Run<'a, 'b, T, F>(&'a Block<'b, T, F>, &'a mut [T], usize);
        impl<T: Scalar, F: Fn(usize, usize, &mut [T])> WithSimd for Run<'_, '_, T, F> {
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
        let step = (PANEL_BYTES / (width * size_of::<T>())).min(d);
        let mut x_packed = vec![T::ZERO; height.next_multiple_of(R) * step];
        let mut edge = vec![T::ZERO; R * width];
        for k in (0..d).step_by(step) {
            let depth = k..(k + step).min(d);
            let x_packed = &mut x_packed[..height.next_multiple_of(R) * depth.len()];
            self.x.pack(self.rows.clone(), depth.clone(), R, x_packed);
            for (j, panel) in self.cols.clone().step_by(width).zip(self.y_packed.chunks_exact(width * d)) {
                let y = &panel[depth.start * width..depth.end * width];
                let cols = width.min(self.cols.end - j);
                for (i, x) in (0..height).step_by(R).zip(x_packed.chunks_exact(R * depth.len())) {
                    let rows = R.min(height - i);
                    let row = self.rows.start + i;
                    let tile = Tile {
                        x,
                        y,
                        x_squares: &self.x.squares[row..row + R],
                        y_squares: &self.y.squares[j..j + width],
                        is_first: depth.start == 0,
                        is_last: depth.end == d,
                    };
                    let out = &mut out[i * stride + (j - self.cols.start)..];
                    let trusted = if rows == R && cols == width {
                        tile.sum::<S, R>(simd, self.finish, out, stride)
                    } else {
                        edge.fill(T::ZERO);
                        for (edge, out) in edge.chunks_mut(width).zip(out.chunks(stride)).take(rows) {
                            edge[..cols].copy_from_slice(&out[..cols]);
                        }
                        let trusted = tile.sum::<S, R>(simd, self.finish, &mut edge, width);
                        for (edge, out) in edge.chunks(width).zip(out.chunks_mut(stride)).take(rows) {
                            out[..cols].copy_from_slice(&edge[..cols]);
                        }
                        trusted
                    };
                    if !trusted {
                        for (r, out) in out.chunks_mut(stride).take(rows).enumerate() {
                            (self.refine)(row + r, j, &mut out[..cols]);
                        }
                    }
                }
            }
        }
    }
}

/// A part of a tile's sum.
struct Tile<'a, T> {
    x: &'a [T],
    y: &'a [T],
    x_squares: &'a [T],
    y_squares: &'a [T],
    is_first: bool,
    is_last: bool,
}

impl<T: Scalar> Tile<'_, T> {
    /// Add to the sums in `out`. The last part leaves results, or, giving back `false`, squares.
    #[inline(always)]
    fn sum<S: Simd, const R: usize>(&self, simd: S, finish: Finish<T>, out: &mut [T], stride: usize) -> bool {
        let mut sums = match finish.sum {
            Sum::Products => self.products::<S, R>(simd),
            Sum::Differences => self.differences::<S, R>(simd),
        };
        if !self.is_first {
            unrolled!(r in R => {
                let before = T::vectors::<S>(&out[r * stride..][..self.y_squares.len()]);
                sums[r] = pair(#[inline(always)] |c| T::add(simd, sums[r][c], before[c]));
            });
        }
        let trusted = !self.is_last || self.finish(simd, finish, &mut sums);
        unrolled!(r in R => {
            let out = T::vectors_mut::<S>(&mut out[r * stride..][..self.y_squares.len()]);
            [out[0], out[1]] = sums[r];
        });
        trusted
    }

    #[inline(always)]
    fn products<S: Simd, const R: usize>(&self, simd: S) -> Sums<T, S, R> {
        let mut sums = [[T::splat(simd, T::ZERO); TILE_VECTORS]; R];
        let y = T::vectors::<S>(self.y).as_chunks::<TILE_VECTORS>().0;
        for (x, &y) in self.x.as_chunks::<R>().0.iter().zip(y) {
            unrolled!(r in R => {
                let x = T::splat(simd, x[r]);
                sums[r] = pair(#[inline(always)] |c| T::mul_add(simd, x, y[c], sums[r][c]));
            });
        }
        sums
    }

    #[inline(always)]
    fn differences<S: Simd, const R: usize>(&self, simd: S) -> Sums<T, S, R> {
        let mut sums = [[T::splat(simd, T::ZERO); TILE_VECTORS]; R];
        let y = T::vectors::<S>(self.y).as_chunks::<TILE_VECTORS>().0;
        for (x, &y) in self.x.as_chunks::<R>().0.iter().zip(y) {
            unrolled!(r in R => {
                let x = T::splat(simd, x[r]);
                let difference = pair(#[inline(always)] |c| T::sub(simd, x, y[c]));
                sums[r] = pair(
                    #[inline(always)]
                    |c| T::mul_add(simd, difference[c], difference[c], sums[r][c]),
                );
            });
        }
        sums
    }

    /// Make squares of sums, and results of squares if all are to be trusted.
    #[inline(always)]
    fn finish<S: Simd, const R: usize>(&self, simd: S, finish: Finish<T>, sums: &mut Sums<T, S, R>) -> bool {
        let splat = |x: f64| T::splat(simd, T::from_f64(x));
        let (minus_two, minus_near) = (splat(-2.0), splat(-finish.near.to_f64()));
        let mut margins = [splat(1.0); TILE_VECTORS];
        if finish.sum == Sum::Products {
            let y_squares = T::vectors::<S>(self.y_squares);
            unrolled!(r in R => {
                let xx = T::splat(simd, self.x_squares[r]);
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
        if margin.to_f64() <= finish.floor.to_f64() {
            return false;
        }
        let scale = T::splat(simd, finish.scale);
        if finish.root {
            unrolled!(r in R => sums[r] = pair(#[inline(always)] |c| T::sqrt(simd, sums[r][c])));
        }
        unrolled!(r in R => sums[r] = pair(#[inline(always)] |c| T::mul(simd, sums[r][c], scale)));
        true
    }
}

/// The sums of a tile, in registers.
type Sums<T, S, const R: usize> = [[<T as Lanes>::Vector<S>; TILE_VECTORS]; R];

/// One for each vector across a tile.
#[inline(always)]
fn pair<V>(f: impl Fn(usize) -> V) -> [V; TILE_VECTORS] {
    [f(0), f(1)]
}
