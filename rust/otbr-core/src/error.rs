//! The one error type of the core. Every message names the value and the remedy.

use thiserror::Error;

/// Why a problem was refused or a solver stopped without a result.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Error {
    /// A matrix without entries.
    #[error("{name} has shape ({rows}, {cols}); it needs at least one row and one column")]
    Empty {
        /// Which argument.
        name: &'static str,
        /// Rows given.
        rows: usize,
        /// Columns given.
        cols: usize,
    },
    /// More rows or columns than node numbers can hold.
    #[error("{name} has shape ({rows}, {cols}); at most {limit} rows and columns together are supported")]
    TooLarge {
        /// Which argument.
        name: &'static str,
        /// Rows given.
        rows: usize,
        /// Columns given.
        cols: usize,
        /// The most that is supported.
        limit: usize,
    },
    /// A buffer whose length does not fit its shape, or two arguments whose shapes differ.
    #[error("{name} has {found} {unit}, expected {expected}")]
    Shape {
        /// Which argument.
        name: &'static str,
        /// What is counted.
        unit: &'static str,
        /// What was given.
        found: usize,
        /// What fits.
        expected: usize,
    },
    /// NaN or infinity in a matrix.
    #[error("{name}[{row}, {col}] is {value}; replace it with a finite number")]
    NonFinite {
        /// Which argument.
        name: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Column of the first such entry.
        col: usize,
        /// The entry.
        value: f64,
    },
    /// A negative entry of a plan.
    #[error("{name}[{row}, {col}] is {value}; a plan's entries must not be negative")]
    Negative {
        /// Which argument.
        name: &'static str,
        /// Row of the first such entry.
        row: usize,
        /// Column of the first such entry.
        col: usize,
        /// The entry.
        value: f64,
    },
    /// Values so large or so small that 64-bit floats overflow or lose their digits on them.
    #[error("{what} is {value:e}, outside [{low:e}, {high:e}]; multiply by a constant to bring it near 1")]
    Magnitude {
        /// Which number: "the largest |M|", say.
        what: &'static str,
        /// That number.
        value: f64,
        /// Least magnitude that is supported (0 is fine too).
        low: f64,
        /// Greatest magnitude that is supported.
        high: f64,
    },
    /// A negative or non-finite mass.
    #[error("{name}[{index}] is {value}; masses must be finite and not negative")]
    InvalidMass {
        /// Which marginal.
        name: &'static str,
        /// Index of the first such mass.
        index: usize,
        /// The mass.
        value: f64,
    },
    /// A marginal without mass.
    #[error("{name} sums to 0; at least one mass must be positive")]
    NoMass {
        /// Which marginal.
        name: &'static str,
    },
    /// Marginals that do not carry the same total.
    #[error(
        "a sums to {a} and b to {b}; the sums must agree to a relative {tolerance:e}, \
         normalise them (for example b *= a.sum() / b.sum())"
    )]
    MassMismatch {
        /// Total of a.
        a: f64,
        /// Total of b.
        b: f64,
        /// Relative difference that is let pass.
        tolerance: f64,
    },
    /// A parameter outside its range.
    #[error("{name} is {value}; it must be {expected}")]
    Parameter {
        /// Which argument.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What is allowed.
        expected: &'static str,
    },
    /// A zero row has no direction, so no cosine distance.
    #[error(
        "{name}[{row}] is a zero vector, which has no cosine distance; \
         drop the row or use metric=\"euclidean\""
    )]
    ZeroVector {
        /// Which argument.
        name: &'static str,
        /// The row.
        row: usize,
    },
    /// Entropic potentials beyond the range of 64-bit floats.
    #[error(
        "the potentials are not finite any more; raise reg, or bring the sums of a and b nearer to each other"
    )]
    Diverged,
    /// The operating system gave no thread pool.
    #[error("could not start {n_threads} threads: {reason}; ask for fewer")]
    Threads {
        /// Threads asked for.
        n_threads: usize,
        /// What the system said.
        reason: String,
    },
    /// Mass that cannot keep away from cells of infinite cost.
    #[error("{mass} of the mass has no way around the cells where M is inf; {remedy}")]
    Forbidden {
        /// How much.
        mass: f64,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Result of the core's fallible functions.
pub type Result<T> = std::result::Result<T, Error>;
