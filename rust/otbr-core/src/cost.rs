//! Distances between the rows of two matrices.
//!
//! |x − y|² = |x|² + |y|² − 2⟨x, y⟩ has the speed of a matrix product but cancels when x is near y.
//! So entries whose square comes out below `NEAR` of |x|² + |y|² are computed anew from the
//! differences, in `f64`. With u the unit roundoff of the element type, the relative error of a
//! squared distance is then at most (d + 8) u / `NEAR` for entries from the product, where sums of d
//! terms were rounded, and (d + 8) 2⁻⁵³ + u for those from differences; equal rows have distance
//! exactly 0. Rows of few components always take the second way, and so do rows so small beside the
//! others that their products would underflow; differences below 1e-150 of the largest entry count
//! as 0.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::gemm::product_transposed;
use crate::interrupt::Interrupt;
use crate::problem::MatrixView;
use crate::scalar::Scalar;
use crate::simd::dispatch;
use crate::threads::Threads;

/// Below this part of |x|² + |y|² a squared distance is computed from the differences.
const NEAR: f64 = 1.0 / 16.0;

/// Up to this many components differences are as fast as a product.
const FEW_COMPONENTS: usize = 16;

/// Entries that are looked at together for near rows.
const BLOCK: usize = 64;

/// Rows a task fills at a time.
const CHUNK: usize = 128;

/// Rows between two questions whether to stop.
const ROWS_PER_CHECK: usize = 8 * CHUNK;

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
    let x = Rows::new("X", x, metric, unit)?;
    let y = Rows::new("Y", y, metric, unit)?;
    let finish = Finish { metric, inverse_unit: 1.0 / unit };
    let transposed = if d <= FEW_COMPONENTS { y.transposed() } else { Vec::new() };
    for (part, rows) in out.chunks_mut(ROWS_PER_CHECK * m).enumerate() {
        interrupt.check()?;
        threads.fill_rows(rows, m, CHUNK, |start, rows| {
            let first = part * ROWS_PER_CHECK + start;
            if d <= FEW_COMPONENTS {
                dispatch(
                    #[inline(always)]
                    || few_components(&x, &transposed, first, m, finish, rows),
                );
            } else {
                let count = rows.len() / m;
                product_transposed(&x.values[first * d..(first + count) * d], &y.values, d, rows);
                dispatch(
                    #[inline(always)]
                    || from_products(&x, &y, first, finish, rows),
                );
            }
        });
    }
    Ok(())
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

/// Rows, each times a factor, with their squared norms.
struct Rows<'a, T: Scalar> {
    raw: MatrixView<'a, T>,
    factor: Vec<f64>,
    values: Cow<'a, [T]>,
    square: Vec<f64>,
}

impl<'a, T: Scalar> Rows<'a, T> {
    fn new(name: &'static str, raw: MatrixView<'a, T>, metric: Metric, unit: f64) -> Result<Self> {
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
            let rows = raw.data().chunks(d).zip(&factor);
            rows.flat_map(|(row, f)| row.iter().map(move |x| T::from_f64(x.to_f64() * f))).collect()
        };
        let square = values.chunks(d).map(|row| row.iter().map(|x| x.to_f64().powi(2)).sum());
        let square = square.collect();
        Ok(Self { raw, factor, values, square })
    }

    /// One component of one row, in `f64`.
    #[inline(always)]
    fn component(&self, i: usize, k: usize) -> f64 {
        self.raw.row(i)[k].to_f64() * self.factor[i]
    }

    /// Components × rows, in `f64`.
    fn transposed(&self) -> Vec<f64> {
        let (rows, d) = (self.raw.rows(), self.raw.cols());
        (0..d).flat_map(|k| (0..rows).map(move |i| self.component(i, k))).collect()
    }
}

/// Largest absolute component.
fn row_max<T: Scalar>(row: &[T]) -> f64 {
    row.iter().fold(0.0_f64, |m, x| m.max(x.to_f64().abs()))
}

/// 1 / |x|; `None` for the zero vector. The squares are of numbers up to 1.
fn direction_factor<T: Scalar>(row: &[T]) -> Option<f64> {
    let largest = row_max(row);
    let norm = row.iter().map(|x| (x.to_f64() / largest).powi(2)).sum::<f64>().sqrt() * largest;
    (largest > 0.0).then(|| 1.0 / norm)
}

/// From the squared distance of rows times their factors to the metric.
#[derive(Clone, Copy)]
struct Finish {
    metric: Metric,
    inverse_unit: f64,
}

impl Finish {
    #[inline(always)]
    fn apply<T: Scalar>(self, square: f64) -> T {
        T::from_f64(match self.metric {
            Metric::Euclidean => square.sqrt() * self.inverse_unit,
            Metric::SqEuclidean => square * self.inverse_unit * self.inverse_unit,
            Metric::Cosine => square / 2.0,
        })
    }
}

/// Rows `first..` of the result from differences, a component at a time.
#[inline(always)]
fn few_components<T: Scalar>(
    x: &Rows<'_, T>,
    y_transposed: &[f64],
    first: usize,
    m: usize,
    finish: Finish,
    out: &mut [T],
) {
    let mut square = vec![0.0_f64; m];
    for (offset, row) in out.chunks_exact_mut(m).enumerate() {
        square.fill(0.0);
        for (k, y) in y_transposed.chunks_exact(m).enumerate() {
            let x = x.component(first + offset, k);
            for (s, y) in square.iter_mut().zip(y) {
                *s += (x - y) * (x - y);
            }
        }
        for (o, &s) in row.iter_mut().zip(&square) {
            *o = finish.apply(s);
        }
    }
}

/// Rows `first..` of the result; `out` holds ⟨x, y⟩ and is overwritten.
#[inline(always)]
fn from_products<T: Scalar>(x: &Rows<'_, T>, y: &Rows<'_, T>, first: usize, finish: Finish, out: &mut [T]) {
    let m = y.square.len();
    // Below this, terms that vanish in the product are not small beside |x|² + |y|².
    let underflow = x.raw.cols() as f64 * T::MIN_POSITIVE / T::UNIT_ROUNDOFF;
    for (offset, row) in out.chunks_exact_mut(m).enumerate() {
        let i = first + offset;
        let xx = x.square[i];
        let blocks = row.chunks_mut(BLOCK).zip(y.square.chunks(BLOCK)).enumerate();
        for (block, (entries, y_square)) in blocks {
            let square = |o: T, yy: f64| xx + yy - 2.0 * o.to_f64();
            let is_near =
                |(o, yy): (&T, &f64)| (square(*o, *yy) <= NEAR * (xx + yy)) | (xx + yy <= underflow);
            // Without a branch for each entry both loops vectorise; near entries are rare.
            let near = entries.iter().zip(y_square).fold(false, |near, entry| near | is_near(entry));
            for (k, (o, &yy)) in entries.iter_mut().zip(y_square).enumerate() {
                *o = if near && is_near((o, &yy)) {
                    finish.apply(from_differences(x, i, y, block * BLOCK + k))
                } else {
                    finish.apply(square(*o, yy))
                };
            }
        }
    }
}

/// Squared distance of two rows, in `f64`, in a fixed order of summation.
#[inline(always)]
fn from_differences<T: Scalar>(x: &Rows<'_, T>, i: usize, y: &Rows<'_, T>, j: usize) -> f64 {
    const LANES: usize = 8;
    let (fx, fy) = (x.factor[i], y.factor[j]);
    let (x_head, x_tail) = x.raw.row(i).as_chunks::<LANES>();
    let (y_head, y_tail) = y.raw.row(j).as_chunks::<LANES>();
    let mut sums = [0.0_f64; LANES];
    for (x, y) in x_head.iter().zip(y_head) {
        for k in 0..LANES {
            let difference = x[k].to_f64() * fx - y[k].to_f64() * fy;
            sums[k] += difference * difference;
        }
    }
    for (k, (x, y)) in x_tail.iter().zip(y_tail).enumerate() {
        let difference = x.to_f64() * fx - y.to_f64() * fy;
        sums[k] += difference * difference;
    }
    sums.into_iter().sum()
}
