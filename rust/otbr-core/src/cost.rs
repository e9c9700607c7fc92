//! Distances between the rows of two matrices.
//!
//! |x − y|² = |x|² + |y|² − 2⟨x, y⟩ has the speed of a matrix product but cancels when x is near y.
//! So entries whose square comes out below `NEAR` of |x|² + |y|² are computed anew from the
//! differences, in `f64`. With u the unit roundoff of the element type, the relative error of a
//! squared distance is then at most (d + 8) u / `NEAR` for entries from the product, where sums of d
//! terms were rounded, and (d + 8) 2⁻⁵³ + u for those from differences; equal rows have distance
//! exactly 0. Rows of few components are subtracted all, in the element type, with a relative error
//! of at most (d + 8) u. Squares so small that their terms may have underflowed are computed anew in
//! `f64` too; differences below 1e-150 of the largest entry count as 0. For cosine distances all this
//! holds of the normed rows, whose own rounding adds about u times the square root of the distance.

use std::borrow::Cow;
use std::sync::Mutex;

use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::problem::MatrixView;
use crate::scalar::Scalar;
use crate::simd::dispatch;
use crate::threads::Threads;
use crate::tiles::{ALIGNMENT, Block, Doubtful, Finish, SPARE, Side, Sum, aligned, square, sum, tile_cols};

/// Below this part of |x|² + |y|² a squared distance is computed from the differences.
const NEAR: f64 = 1.0 / 16.0;

/// Up to this many components differences are as fast as a product.
const FEW_COMPONENTS: usize = 16;

/// Rows a task fills at a time, of many rows and of few: whole tiles of every path.
const CHUNK: (usize, usize) = (192, 96);

/// From here on there are many.
const MANY_ROWS: usize = 1024;

/// Entries of Y that are packed at a time.
const PACKED: usize = 1 << 25;

/// Rows that are mirrored at a time, and by one task: as many as fill a cache line.
const MIRRORED: usize = 256;
const MIRRORED_TOGETHER: usize = 16;

/// What an entry costs besides its components, in multiplications.
const WORK_PER_ENTRY: usize = 64;

/// Multiplications between two questions whether to stop, but one chunk for each thread at least.
const WORK_PER_CHECK: usize = 1 << 30;

/// Which distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// |x − y|.
    Euclidean,
    /// |x − y|².
    SqEuclidean,
    /// 1 − ⟨x, y⟩ / (|x| |y|), which is half the squared distance of x/|x| and y/|y|.
    Cosine,
}

/// Fill `out` (n × m, row-major) with the distances between rows of `x` (n × d) and `y` (m × d).
///
/// # Errors
/// Differing widths, a zero row under `Metric::Cosine`, values whose distances would overflow or
/// underflow, an interrupt.
pub fn cost_matrix<T: Scalar>(
    x: MatrixView<'_, T>,
    y: MatrixView<'_, T>,
    metric: Metric,
    out: &mut [T],
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<()> {
    let (d, m) = (x.cols(), y.rows());
    if y.cols() != d {
        return Err(Error::Shape { name: "Y", unit: "columns", found: y.cols(), expected: d });
    }
    if out.len() != x.rows() * m {
        let expected = x.rows() * m;
        return Err(Error::Shape { name: "out", unit: "entries", found: out.len(), expected });
    }
    let unit = common_unit::<T>(&x, &y, metric)?;
    let x = Rows::new("X", x, metric, unit, threads)?;
    let y = Rows::new("Y", y, metric, unit, threads)?;
    fill(&x, &y, Which::All, finish::<T>(d, metric, unit), out, threads, interrupt)
}

/// Fill `out` (n × n, row-major) with the distances between all rows of `x` (n × d): those of
/// `cost_matrix`, at half the work.
///
/// # Errors
/// As `cost_matrix`.
pub fn self_distances<T: Scalar>(
    x: MatrixView<'_, T>,
    metric: Metric,
    out: &mut [T],
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<()> {
    let (n, d) = (x.rows(), x.cols());
    if out.len() != n * n {
        return Err(Error::Shape { name: "out", unit: "entries", found: out.len(), expected: n * n });
    }
    let unit = common_unit::<T>(&x, &x, metric)?;
    let x = Rows::new("X", x, metric, unit, threads)?;
    fill(&x, &x, Which::Lower, finish::<T>(d, metric, unit), out, threads, interrupt)?;
    mirror(out, n, threads, interrupt)
}

/// Which entries of the matrix are needed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// Those on and below the diagonal. Some above it are filled too.
    Lower,
}

fn fill<T: Scalar>(
    x: &Rows<'_, T>,
    y: &Rows<'_, T>,
    which: Which,
    finish: Finish<T>,
    out: &mut [T],
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<()> {
    let (d, m) = (x.raw.cols(), y.raw.rows());
    let chunk = if x.raw.rows() >= MANY_ROWS { CHUNK.0 } else { CHUNK.1 };
    let width = tile_cols::<T>();
    let together = (PACKED / d).next_multiple_of(width).min(m.next_multiple_of(width));
    let mut packed = vec![T::ZERO; together * d + ALIGNMENT];
    let packed = aligned(&mut packed);
    let buffers = Mutex::default();
    for first_col in (0..m).step_by(together) {
        let cols = first_col..(first_col + together).min(m);
        let packed = &mut packed[..cols.len().next_multiple_of(width) * d];
        threads.map_rows_mut(packed, width * d, 1, width * d, interrupt, |panel, out| {
            let first = cols.start + panel * width;
            dispatch(
                #[inline(always)]
                || y.side().pack(first..(first + width).min(cols.end), width, out),
            )
        })?;
        let packed = &*packed;
        let first_row = if which == Which::Lower { cols.start } else { 0 };
        let part =
            chunk * (WORK_PER_CHECK / (chunk * cols.len() * (d + WORK_PER_ENTRY))).max(threads.count());
        for (part_index, rows) in out[first_row * m..].chunks_mut(part * m).enumerate() {
            interrupt.check()?;
            threads.fill_rows(rows, m, chunk, |start, rows| {
                let first = first_row + part_index * part + start;
                let end = first + rows.len() / m;
                let last_col = if which == Which::Lower { cols.end.min(end) } else { cols.end };
                let block = Block {
                    x: x.side(),
                    y: y.side(),
                    y_packed: packed,
                    rows: first..end,
                    cols: cols.start..last_col,
                    finish,
                    refine: |doubtful: Doubtful<'_, T>| refine(x, y, finish, doubtful),
                    buffers: &buffers,
                };
                block.run(&mut rows[cols.start..], m);
            });
        }
    }
    Ok(())
}

/// Copy what is below the diagonal of an n × n matrix to above it.
fn mirror<T: Scalar>(out: &mut [T], n: usize, threads: &Threads, interrupt: Interrupt<'_>) -> Result<()> {
    for first in (0..n).step_by(MIRRORED) {
        interrupt.check()?;
        let end = (first + MIRRORED).min(n);
        let (above, below) = out[first * n..].split_at_mut((end - first) * n);
        for i in 0..end - first {
            for j in i + 1..end - first {
                above[i * n + first + j] = above[j * n + first + i];
            }
        }
        threads.fill_rows(above, n, MIRRORED_TOGETHER, |start, rows| {
            let from = first + start..first + start + rows.len() / n;
            for (j, row) in below.chunks_exact(n).enumerate() {
                for (out, &value) in rows[end + j..].iter_mut().step_by(n).zip(&row[from.clone()]) {
                    *out = value;
                }
            }
        });
    }
    Ok(())
}

/// How sums become distances. With few components all rows are subtracted; but directions are
/// rounded, which shows when they are near each other.
fn finish<T: Scalar>(d: usize, metric: Metric, unit: f64) -> Finish<T> {
    // Below this, terms that vanish may not be small beside their sum.
    let underflow = d as f64 * T::MIN_POSITIVE / T::UNIT_ROUNDOFF;
    let few = d <= FEW_COMPONENTS && metric != Metric::Cosine;
    Finish {
        sum: if few { Sum::Differences } else { Sum::Products },
        near: T::from_f64(if few { 0.0 } else { NEAR }),
        // A square is at most twice |x|² + |y|².
        floor: T::from_f64(if few { underflow } else { 3.0 * underflow }),
        root: metric == Metric::Euclidean,
        scale: T::from_f64(match metric {
            Metric::Euclidean => 1.0 / unit,
            Metric::SqEuclidean => 1.0 / unit / unit,
            Metric::Cosine => 0.5,
        }),
    }
}

/// Power of two by which both matrices are multiplied so that squares neither overflow nor vanish;
/// 1 for ordinary magnitudes.
fn common_unit<T: Scalar>(x: &MatrixView<'_, T>, y: &MatrixView<'_, T>, metric: Metric) -> Result<f64> {
    let largest = x.max_abs().max(y.max_abs());
    let (low, high) = match metric {
        Metric::Cosine => return check_directions(x, y).map(|()| 1.0),
        Metric::Euclidean => (T::MIN_POSITIVE, T::MAX / (2.0 * (x.cols() as f64).sqrt())),
        Metric::SqEuclidean => (T::MIN_POSITIVE.sqrt(), (T::MAX / (4.0 * x.cols() as f64)).sqrt()),
    };
    if largest != 0.0 && !(low..=high).contains(&largest) {
        let what = "the largest |X| or |Y|";
        return Err(Error::Magnitude { what, value: largest, low, high });
    }
    let exponent = if largest == 0.0 { 0 } else { largest.log2() as i32 };
    Ok(if exponent.abs() <= 30 { 1.0 } else { 2.0_f64.powi(-exponent.clamp(-1000, 1000)) })
}

/// Refuse rows whose 1 / |x| would overflow or underflow. Zero rows are another matter.
fn check_directions<T: Scalar>(x: &MatrixView<'_, T>, y: &MatrixView<'_, T>) -> Result<()> {
    let (low, high) = (1e-290, 1e290);
    let mut rows = [x, y].into_iter().flat_map(|m| m.data().chunks(m.cols())).map(row_max);
    match rows.find(|&v| v != 0.0 && !(low..=high).contains(&v)) {
        Some(value) => {
            Err(Error::Magnitude { what: "the largest absolute value of a row", value, low, high })
        }
        None => Ok(()),
    }
}

/// Rows, each times a factor.
struct Rows<'a, T: Scalar> {
    raw: MatrixView<'a, T>,
    factor: Vec<f64>,
    values: Cow<'a, [T]>,
    /// Squared norms, and what `Side` wants after them.
    squares: Vec<T>,
}

impl<'a, T: Scalar> Rows<'a, T> {
    fn new(
        name: &'static str,
        raw: MatrixView<'a, T>,
        metric: Metric,
        unit: f64,
        threads: &Threads,
    ) -> Result<Self> {
        let d = raw.cols();
        let factor = match metric {
            Metric::Cosine => (0..raw.rows())
                .map(|i| direction_factor(raw.row(i)).ok_or(Error::ZeroVector { name, row: i }))
                .collect::<Result<_>>()?,
            _ => vec![unit; raw.rows()],
        };
        let values = if factor.iter().all(|&f| f == 1.0) {
            Cow::Borrowed(raw.data())
        } else {
            let mut values = raw.data().to_vec();
            for (row, &f) in values.chunks_exact_mut(d).zip(&factor) {
                dispatch(
                    #[inline(always)]
                    || row.iter_mut().for_each(|x| *x = T::from_f64(x.to_f64() * f)),
                );
            }
            Cow::Owned(values)
        };
        let mut squares = squares(&values, d, threads);
        squares.resize(squares.len() + SPARE, T::ONE);
        Ok(Self { raw, factor, values, squares })
    }

    fn side(&self) -> Side<'_, T> {
        Side { values: &self.values, d: self.raw.cols(), squares: &self.squares }
    }
}

/// Squared norms of rows of `d` components.
fn squares<T: Scalar>(values: &[T], d: usize, threads: &Threads) -> Vec<T> {
    let parts = threads.map_rows(values.len() / d, d, CHUNK.1, |rows| {
        let rows = &values[rows.start * d..rows.end * d];
        let mut squares = Vec::with_capacity(rows.len() / d);
        dispatch(
            #[inline(always)]
            || {
                for row in rows.chunks_exact(d) {
                    squares.push(square(row));
                }
            },
        );
        squares
    });
    parts.concat()
}

/// Largest absolute component.
fn row_max<T: Scalar>(row: &[T]) -> f64 {
    const LANES: usize = 32;
    let larger = |a: f64, b: f64| if a > b { a } else { b };
    dispatch(
        #[inline(always)]
        || {
            let (head, tail) = row.as_chunks::<LANES>();
            let mut largest = [0.0_f64; LANES];
            for x in head {
                for k in 0..LANES {
                    largest[k] = larger(x[k].to_f64().abs(), largest[k]);
                }
            }
            let tail = tail.iter().fold(0.0, |m, x| larger(x.to_f64().abs(), m));
            largest.into_iter().fold(tail, larger)
        },
    )
}

/// 1 / |x|; `None` for the zero vector. The squares are of numbers up to 1.
fn direction_factor<T: Scalar>(row: &[T]) -> Option<f64> {
    let largest = row_max(row);
    let square = dispatch(
        #[inline(always)]
        || {
            sum(
                row,
                row,
                #[inline(always)]
                |x, _| (x / largest) * (x / largest),
            )
        },
    );
    (largest > 0.0).then(|| 1.0 / (square.sqrt() * largest))
}

/// Make distances of squares, computing near ones anew from the differences.
fn refine<T: Scalar>(x: &Rows<'_, T>, y: &Rows<'_, T>, finish: Finish<T>, doubtful: Doubtful<'_, T>) {
    let Doubtful { row, first_col, x_square, y_squares, squares } = doubtful;
    for (k, square) in squares.iter_mut().enumerate() {
        let both = x_square.to_f64() + y_squares[k].to_f64();
        let mut exact = square.to_f64();
        if exact <= finish.near.to_f64() * both + finish.floor.to_f64() {
            exact = from_differences(x, row, y, first_col + k);
        }
        let root = if finish.root { exact.sqrt() } else { exact };
        *square = T::from_f64(root * finish.scale.to_f64());
    }
}

/// Squared distance of two rows, in `f64`.
fn from_differences<T: Scalar>(x: &Rows<'_, T>, i: usize, y: &Rows<'_, T>, j: usize) -> f64 {
    let (fx, fy) = (x.factor[i], y.factor[j]);
    dispatch(
        #[inline(always)]
        || {
            sum(
                x.raw.row(i),
                y.raw.row(j),
                #[inline(always)]
                |x, y| {
                    let difference = x * fx - y * fy;
                    difference * difference
                },
            )
        },
    )
}
