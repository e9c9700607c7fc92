//! Where costs come from: a matrix in memory, or whatever can give a stretch of a row.

use std::ops::Range;

use crate::error::Result;
use crate::problem::MatrixView;
use crate::scalar::Scalar;
use crate::threads::Threads;

/// Costs between n rows and m columns.
pub trait Geometry: Sync {
    /// The type of a cost.
    type Cost: Scalar;
    /// Number of rows.
    fn rows(&self) -> usize;
    /// Number of columns.
    fn cols(&self) -> usize;
    /// At least the largest absolute cost.
    fn max_abs(&self) -> f64;
    /// The same, for which all costs are read and checked unless they were before.
    ///
    /// # Errors
    /// A cost that is not finite.
    fn read(&self, _threads: &Threads) -> Result<f64> {
        Ok(self.max_abs())
    }
    /// Take what was found when all costs were read for another purpose: the largest absolute one,
    /// not finite where one is not.
    fn learn(&self, _extent: f64) {}
    /// What `learn` wants to know of the costs that `stretch` does not give, where these are some of a larger
    /// geometry's: some rows, and those between them, which `stretch` gives next and for the first time.
    fn survey_beside(&self, _rows: Range<usize>) -> f64 {
        0.0
    }
    /// One cost; the same number that `stretch` gives.
    fn at(&self, row: usize, col: usize) -> f64;
    /// The costs of a row's columns `cols`, in `buffer` unless they are in memory.
    fn stretch<'a>(
        &'a self,
        row: usize,
        cols: Range<usize>,
        buffer: &'a mut Vec<Self::Cost>,
    ) -> &'a [Self::Cost];
}

impl<T: Scalar> Geometry for MatrixView<'_, T> {
    type Cost = T;

    fn rows(&self) -> usize {
        self.rows()
    }

    fn cols(&self) -> usize {
        self.cols()
    }

    fn max_abs(&self) -> f64 {
        self.max_abs()
    }

    fn read(&self, threads: &Threads) -> Result<f64> {
        self.read(threads)
    }

    fn learn(&self, extent: f64) {
        self.learn(extent);
    }

    #[inline(always)]
    fn at(&self, row: usize, col: usize) -> f64 {
        self.at(row, col)
    }

    #[inline(always)]
    fn stretch<'a>(&'a self, row: usize, cols: Range<usize>, _: &'a mut Vec<T>) -> &'a [T] {
        &self.row(row)[cols]
    }
}
