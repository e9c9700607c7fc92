//! Checked input: a cost matrix and two marginals. A `Problem` that exists can be solved.

use std::sync::OnceLock;

use crate::double_double::Dd;
use crate::error::{Error, Result};
use crate::geometry::Geometry;
use crate::scalar::Scalar;
use crate::simd::dispatch;
use crate::threads::Threads;

/// Largest and smallest (non-zero) magnitude of costs and total mass: beyond them products and
/// their rounding errors overflow or underflow.
pub(crate) const MAGNITUDE: (f64, f64) = (1e-120, 1e120);

/// Nodes are numbered with `u32`, and `u32::MAX` stands for none.
const MAX_NODES: usize = (u32::MAX >> 1) as usize;

/// The sums of a and b may differ by this much relative to the larger, as in POT.
const MASS_TOLERANCE: f64 = 1e-6;

/// A row-major matrix that somebody else owns, with finite entries.
#[derive(Clone)]
pub struct MatrixView<'a, T> {
    name: &'static str,
    data: &'a [T],
    rows: usize,
    cols: usize,
    /// Largest absolute entry, once all were read; not finite where an entry is not.
    max_abs: OnceLock<f64>,
}

impl<'a, T: Scalar> MatrixView<'a, T> {
    /// Check shape, finiteness and magnitude. `name` is what messages call the matrix.
    ///
    /// # Errors
    /// A shape that does not fit the data or this machine, or an entry that is not finite.
    pub fn new(
        name: &'static str,
        data: &'a [T],
        rows: usize,
        cols: usize,
        threads: &Threads,
    ) -> Result<Self> {
        let view = Self::unread(name, data, rows, cols)?;
        view.read(threads)?;
        Ok(view)
    }

    /// Check the shape alone: whoever reads all entries checks them (`read`).
    ///
    /// # Errors
    /// A shape that does not fit the data or this machine.
    pub fn unread(name: &'static str, data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        if rows == 0 || cols == 0 {
            return Err(Error::Empty { name, rows, cols });
        }
        if rows.saturating_add(cols) > MAX_NODES {
            return Err(Error::TooLarge { name, rows, cols, limit: MAX_NODES });
        }
        if Some(data.len()) != rows.checked_mul(cols) {
            let expected = rows.saturating_mul(cols);
            return Err(Error::Shape { name, unit: "entries", found: data.len(), expected });
        }
        Ok(Self { name, data, rows, cols, max_abs: OnceLock::new() })
    }

    /// Largest absolute entry, for which all are read unless they were before.
    ///
    /// # Errors
    /// An entry that is not finite.
    pub fn read(&self, threads: &Threads) -> Result<f64> {
        let max_abs = *self.max_abs.get_or_init(|| max_abs(self.data, self.rows, self.cols, threads));
        if !max_abs.is_finite() {
            // The maximum says that there is one; look for the first only now.
            let bad = self.data.iter().position(|x| !x.to_f64().is_finite()).unwrap_or(0);
            let (name, row, col) = (self.name, bad / self.cols, bad % self.cols);
            return Err(Error::NonFinite { name, row, col, value: self.data[bad].to_f64() });
        }
        Ok(max_abs)
    }

    /// Take what was found when all entries were read for another purpose.
    pub(crate) fn learn(&self, extent: f64) {
        self.max_abs.get_or_init(|| extent);
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Largest absolute entry.
    pub fn max_abs(&self) -> f64 {
        *self.max_abs.get_or_init(|| max_abs(self.data, self.rows, self.cols, &Threads::one()))
    }

    /// All entries, row by row.
    pub fn data(&self) -> &'a [T] {
        self.data
    }

    /// One row.
    #[inline(always)]
    pub fn row(&self, i: usize) -> &'a [T] {
        &self.data[i * self.cols..(i + 1) * self.cols]
    }

    /// One entry.
    #[inline(always)]
    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.data[i * self.cols + j].to_f64()
    }
}

/// Largest absolute entry; not finite when any entry is not.
fn max_abs<T: Scalar>(data: &[T], rows: usize, cols: usize, threads: &Threads) -> f64 {
    let parts =
        threads.map_rows(rows, cols, 64, |range| extent_of(&data[range.start * cols..range.end * cols]));
    largest_extent(parts)
}

fn extent_of<T: Scalar>(values: &[T]) -> f64 {
    dispatch(
        #[inline(always)]
        || {
            let mut extent = Extent::default();
            extent.take(values);
            extent.value()
        },
    )
}

/// The largest of extents, not finite if one is not.
pub(crate) fn largest_extent(extents: impl IntoIterator<Item = f64>) -> f64 {
    extents.into_iter().fold(0.0, |a, b| if b > a || b.is_nan() { b } else { a })
}

/// The largest absolute value of many, not finite if one is not.
#[derive(Default)]
pub(crate) struct Extent {
    /// As bits: those of numbers that are not finite are above all others.
    largest: [i64; EXTENT_LANES],
}

const EXTENT_LANES: usize = 32;
const EXTENT_STREAMS: usize = 4;

impl Extent {
    #[inline(always)]
    pub fn take<T: Scalar>(&mut self, values: &[T]) {
        // From several places at once, as memory gives more that way.
        let part = values.len() / EXTENT_STREAMS / EXTENT_LANES;
        let (head, tail) = values.as_chunks::<EXTENT_LANES>();
        let (streams, rest) = head.split_at(part * EXTENT_STREAMS);
        for k in 0..part {
            for stream in 0..EXTENT_STREAMS {
                self.take_lanes(&streams[stream * part + k]);
            }
        }
        for chunk in rest {
            self.take_lanes(chunk);
        }
        for x in tail {
            self.take_one(0, x.to_f64());
        }
    }

    #[inline(always)]
    fn take_lanes<T: Scalar>(&mut self, values: &[T; EXTENT_LANES]) {
        for (lane, x) in values.iter().enumerate() {
            self.take_one(lane, x.to_f64());
        }
    }

    #[inline(always)]
    fn take_one(&mut self, lane: usize, x: f64) {
        self.largest[lane] = self.largest[lane].max(x.abs().to_bits() as i64);
    }

    /// The largest.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.largest.iter().fold(0, |a, &b| a.max(b)) as u64)
    }
}

/// An optimal transport problem: minimise ⟨P, M⟩ over P ≥ 0 with P1 = a, Pᵀ1 = b.
pub struct Transport<G> {
    /// The cost M, shape (n, m).
    pub cost: G,
    /// Source masses, length n.
    pub a: Vec<f64>,
    /// Target masses, length m, scaled to the sum of a.
    pub b: Vec<f64>,
    /// Sum of a.
    pub total: f64,
}

/// A problem whose costs are in memory.
pub type Problem<'a, T> = Transport<MatrixView<'a, T>>;

impl<G: Geometry> Transport<G> {
    /// Check magnitudes and marginals; b is scaled to the sum of a.
    ///
    /// # Errors
    /// Costs or masses out of range or of the wrong number, or masses whose sums differ.
    pub fn new(cost: G, a: &[f64], b: &[f64]) -> Result<Self> {
        let problem = Self::unread(cost, a, b)?;
        problem.read(&Threads::one())?;
        Ok(problem)
    }

    /// Check marginals alone: whoever reads all costs checks them (`read`).
    ///
    /// # Errors
    /// Masses out of range or of the wrong number, or whose sums differ.
    pub fn unread(cost: G, a: &[f64], b: &[f64]) -> Result<Self> {
        let total = check_masses("a", a, cost.rows())?;
        let total_b = check_masses("b", b, cost.cols())?;
        check_magnitude("the sum of a", total)?;
        if (total - total_b).abs() > MASS_TOLERANCE * total.max(total_b) {
            return Err(Error::MassMismatch { a: total, b: total_b, tolerance: MASS_TOLERANCE });
        }
        Ok(Self::balanced(cost, a.to_vec(), b.to_vec()))
    }

    /// Check the costs, for which all are read unless they were before.
    ///
    /// # Errors
    /// Costs that are not finite or out of range.
    pub fn read(&self, threads: &Threads) -> Result<()> {
        check_magnitude("the largest |M|", self.cost.read(threads)?)
    }

    /// From masses that are none below 0 and not all 0; b is scaled to the sum of a.
    pub(crate) fn balanced(cost: G, a: Vec<f64>, b: Vec<f64>) -> Self {
        let total = sum(&a);
        let scale = total / sum(&b);
        let b = b.into_iter().map(|x| x * scale).collect();
        Self { cost, a, b, total }
    }
}

pub(crate) fn check_magnitude(what: &'static str, value: f64) -> Result<()> {
    let (low, high) = MAGNITUDE;
    if value != 0.0 && !(low..=high).contains(&value) {
        return Err(Error::Magnitude { what, value, low, high });
    }
    Ok(())
}

/// The total of a marginal, checked.
pub(crate) fn check_masses(name: &'static str, masses: &[f64], expected: usize) -> Result<f64> {
    if masses.len() != expected {
        return Err(Error::Shape { name, unit: "masses", found: masses.len(), expected });
    }
    if let Some(index) = masses.iter().position(|x| !x.is_finite() || *x < 0.0) {
        return Err(Error::InvalidMass { name, index, value: masses[index] });
    }
    let total = sum(masses);
    if total == 0.0 {
        return Err(Error::NoMass { name });
    }
    Ok(total)
}

/// In twice the precision: of 65,536 masses plain rounding would show in the plan.
fn sum(masses: &[f64]) -> f64 {
    masses.iter().fold(Dd::ZERO, |sum, &x| sum + Dd::from(x)).to_f64()
}
