//! Distances between points, computed when they are asked for.

use std::ops::Range;

use crate::cost::Metric;
use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::problem::MatrixView;
use crate::scalar::Scalar;
use crate::simd::dispatch;

/// Columns whose distances are summed up together.
const CHUNK: usize = 512;

/// Widths whose squares, and those of a millionth of a millionth of them, are normal numbers.
const WIDTH: (f64, f64) = (1e-120, 1e120);

/// Two sets of points in few dimensions; no distance is ever kept.
pub struct PointCloud {
    n: usize,
    m: usize,
    dimension: usize,
    /// Row by row.
    x: Vec<f64>,
    /// Component by component.
    y: Vec<f64>,
    metric: Metric,
    max_abs: f64,
}

impl PointCloud {
    /// From the rows of two matrices. Under the cosine metric they are scaled to length 1.
    ///
    /// # Errors
    /// Points of different dimensions, or a zero row under the cosine metric.
    pub fn new<T: Scalar>(x: MatrixView<'_, T>, y: MatrixView<'_, T>, metric: Metric) -> Result<Self> {
        let (n, m, dimension) = (x.rows(), y.rows(), x.cols());
        if y.cols() != dimension {
            return Err(Error::Shape { name: "Y", unit: "columns", found: y.cols(), expected: dimension });
        }
        let x = components("X", &x, metric)?;
        let by_row = components("Y", &y, metric)?;
        let mut y = vec![0.0; m * dimension];
        for (j, point) in by_row.chunks_exact(dimension).enumerate() {
            for (k, &component) in point.iter().enumerate() {
                y[k * m + j] = component;
            }
        }
        let mut cloud = Self { n, m, dimension, x, y, metric, max_abs: 0.0 };
        let width = cloud.widths().fold(0.0, f64::max);
        let (low, high) = WIDTH;
        if width != 0.0 && !(low..=high).contains(&width) {
            return Err(Error::Magnitude { what: "the extent of X and Y", value: width, low, high });
        }
        let squares = cloud.widths().map(|w| w * w).sum();
        cloud.max_abs = cloud.finish(squares) * (1.0 + 1e-12);
        Ok(cloud)
    }

    /// Widths of a box that holds all points.
    fn widths(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.dimension).map(|k| {
            let x = self.x.iter().skip(k).step_by(self.dimension);
            let values = x.chain(&self.y[k * self.m..(k + 1) * self.m]);
            let start = (f64::INFINITY, f64::NEG_INFINITY);
            let (least, most) = values.fold(start, |(a, b), &x| (a.min(x), b.max(x)));
            most - least
        })
    }

    /// From a sum of squared differences to a distance.
    #[inline(always)]
    fn finish(&self, squares: f64) -> f64 {
        match self.metric {
            Metric::Euclidean => squares.sqrt(),
            Metric::SqEuclidean => squares,
            // 1 − ⟨x, y⟩ for vectors of length 1, without cancellation.
            Metric::Cosine => 0.5 * squares,
        }
    }

    #[inline(always)]
    fn fill(&self, row: usize, first: usize, out: &mut [f64]) {
        out.fill(0.0);
        for k in 0..self.dimension {
            let x = self.x[row * self.dimension + k];
            let y = &self.y[k * self.m + first..][..out.len()];
            for (out, y) in out.iter_mut().zip(y) {
                *out += (x - y) * (x - y);
            }
        }
        for out in out {
            *out = self.finish(*out);
        }
    }
}

/// The rows of a matrix in `f64`, scaled to length 1 for the cosine metric.
fn components<T: Scalar>(name: &'static str, points: &MatrixView<'_, T>, metric: Metric) -> Result<Vec<f64>> {
    let mut out: Vec<f64> = points.data().iter().map(|x| x.to_f64()).collect();
    if metric == Metric::Cosine {
        for (row, point) in out.chunks_exact_mut(points.cols()).enumerate() {
            // First to components of at most 1, whose squares neither overflow nor vanish.
            let largest = point.iter().fold(0.0, |a: f64, x| a.max(x.abs()));
            if largest == 0.0 {
                return Err(Error::ZeroVector { name, row });
            }
            point.iter_mut().for_each(|x| *x /= largest);
            let length = point.iter().map(|x| x * x).sum::<f64>().sqrt();
            point.iter_mut().for_each(|x| *x /= length);
        }
    }
    Ok(out)
}

impl Geometry for PointCloud {
    type Cost = f64;

    fn rows(&self) -> usize {
        self.n
    }

    fn cols(&self) -> usize {
        self.m
    }

    fn max_abs(&self) -> f64 {
        self.max_abs
    }

    fn at(&self, row: usize, col: usize) -> f64 {
        let mut squares = 0.0;
        for k in 0..self.dimension {
            let difference = self.x[row * self.dimension + k] - self.y[k * self.m + col];
            squares += difference * difference;
        }
        self.finish(squares)
    }

    fn stretch<'a>(&'a self, row: usize, cols: Range<usize>, buffer: &'a mut Vec<f64>) -> &'a [f64] {
        buffer.resize(cols.len(), 0.0);
        dispatch(
            #[inline(always)]
            || {
                for (c, chunk) in buffer.chunks_mut(CHUNK).enumerate() {
                    self.fill(row, cols.start + c * CHUNK, chunk);
                }
            },
        );
        buffer
    }
}
