//! Lower bounds on what a stretch of a row holds, so that most of the costs are read only once.
//!
//! Of each `BLOCK` columns of a row the least cost − v of what is not in the core is kept, and the v it
//! was found for. Under other potentials v' it is lower by at most the largest v' − v in the block.
//!
//! The first reading also lists each column's least reduced costs. A column whose v rises most is
//! mostly one whose v was too low, and then even the least of them were large. So only those columns
//! of a block count that rise by more than what their cells were above the least of the row.

/// Columns of a block.
pub(super) const BLOCK: usize = 64;

/// A bound on the least cost − v of one block of a row, in units of `Bounds::unit`.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    low: f32,
    /// For which v.
    version: u32,
}

/// Bounds of all blocks, row by row.
pub(super) struct Bounds {
    pub per_row: usize,
    pub bounds: Vec<Bound>,
    versions: Vec<Vec<f64>>,
    unit: f64,
    unlisted: Option<Unlisted>,
}

/// For the first version: cost − v of a cell that is not in the core is at least the sum of what is
/// here of its row and of its column.
pub(super) struct Unlisted {
    pub of_rows: Vec<f64>,
    pub of_cols: Vec<f64>,
}

/// From level to level, so much smaller is the part of the columns that count.
const PART: f64 = 0.8;

/// What bounds found for earlier potentials are worth under the present ones.
pub(super) struct Rises<'a> {
    /// Of each version, block by block, the largest rise of v since then.
    rises: Vec<Vec<f64>>,
    unit: f64,
    unlisted: Option<&'a Unlisted>,
    /// The same for the first version, of fewer and fewer columns.
    levels: Vec<Level>,
}

/// The columns that rise by at least so much more than what is unlisted of them.
struct Level {
    excess: f64,
    rises: Vec<f64>,
}

/// Of one row.
pub(super) struct RowRises<'a> {
    first: &'a [f64],
    all: &'a Rises<'a>,
}

impl Bounds {
    /// From the bounds of all blocks, found for these potentials.
    pub fn new(bounds: Vec<Bound>, v: &[f64], unit: f64, unlisted: Option<Unlisted>) -> Self {
        Self { per_row: v.len().div_ceil(BLOCK), bounds, versions: vec![v.to_vec()], unit, unlisted }
    }

    /// Of no block anything is known.
    pub fn unknown(rows: usize, cols: usize) -> Self {
        let nothing = Bound { low: f32::NEG_INFINITY, version: 0 };
        Self::new(vec![nothing; rows * cols.div_ceil(BLOCK)], &vec![0.0; cols], 1.0, None)
    }

    /// Of some rows all is known, of the others nothing.
    pub fn but_for(known: &[bool], cols: usize) -> Self {
        let mut bounds = Self::unknown(known.len(), cols);
        for (row, _) in bounds.bounds.chunks_mut(bounds.per_row).zip(known).filter(|(_, known)| **known) {
            row.fill(Bound { low: f32::INFINITY, version: 0 });
        }
        bounds
    }

    /// A bound that is found from now on is for these potentials.
    pub fn advance(&mut self, v: &[f64]) -> (&mut [Bound], Rises<'_>) {
        self.versions.push(v.to_vec());
        let rise = |(old, new): (&[f64], &[f64])| {
            old.iter().zip(new).map(|(o, n)| n - o).fold(f64::NEG_INFINITY, f64::max)
        };
        let since = |old: &Vec<f64>| old.chunks(BLOCK).zip(v.chunks(BLOCK)).map(rise).collect();
        let rises = self.versions.iter().map(since).collect();
        let unlisted = self.unlisted.as_ref();
        let levels =
            unlisted.map_or_else(Vec::new, |unlisted| levels(&self.versions[0], v, &unlisted.of_cols));
        (&mut self.bounds, Rises { rises, unit: self.unit, unlisted, levels })
    }
}

/// Of all columns, and then of part after part.
fn levels(old: &[f64], new: &[f64], unlisted: &[f64]) -> Vec<Level> {
    let columns = old.iter().zip(new).zip(unlisted).enumerate();
    let mut columns: Vec<(f64, f64, usize)> =
        columns.map(|(j, ((o, n), unlisted))| (n - o - unlisted, n - o, j / BLOCK)).collect();
    columns.sort_unstable_by(|x, y| y.0.total_cmp(&x.0));
    let (mut rises, mut levels) = (vec![f64::NEG_INFINITY; old.len().div_ceil(BLOCK)], Vec::new());
    let mut next = 1;
    for (k, &(excess, rise, block)) in columns.iter().enumerate() {
        rises[block] = rises[block].max(rise);
        if k + 1 == next.min(columns.len()) {
            levels.push(Level { excess, rises: rises.clone() });
            next = (next as f64 / PART).ceil() as usize;
        }
    }
    levels.reverse();
    levels
}

impl Bound {
    /// A little below `least`, which may have been rounded.
    pub fn new(least: f64, version: u32, unit: f64) -> Self {
        let low = ((least / unit) as f32).min(f32::MAX);
        Self { low: low - low.abs() * 4.0 * f32::EPSILON - 1e-30, version }
    }
}

impl Rises<'_> {
    /// The version that the present potentials are.
    fn now(&self) -> u32 {
        (self.rises.len() - 1) as u32
    }

    /// Blocks of a row.
    pub fn blocks(&self) -> usize {
        self.rises[0].len()
    }

    /// The bound of what was now found.
    pub fn bound(&self, least: f64) -> Bound {
        Bound::new(least, self.now(), self.unit)
    }

    /// Of a row in which only costs − v up to `limit` matter.
    pub fn of_row(&self, row: usize, limit: f64) -> RowRises<'_> {
        let first = self.unlisted.map_or(&self.rises[0], |unlisted| {
            let matters = unlisted.of_rows[row] - limit;
            let level = self.levels.partition_point(|level| level.excess <= matters);
            self.levels[..level].last().map_or(&self.rises[0], |level| &level.rises)
        });
        RowRises { first, all: self }
    }
}

impl RowRises<'_> {
    /// Not above the least cost − v of what matters in a block under the present potentials.
    #[inline(always)]
    pub fn least(&self, block: usize, bound: Bound) -> f64 {
        let rises = if bound.version == 0 { self.first } else { &self.all.rises[bound.version as usize] };
        f64::from(bound.low) * self.all.unit - rises[block]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_below_what_it_is_of_whatever_the_unit() {
        let mut bounds = Bounds::unknown(1, 1);
        let (_, rises) = bounds.advance(&[0.0]);
        for least in [0.0, 3.0, -3.0, 1e-100, -1e-100, 1e100, -1e100] {
            let known = rises.of_row(0, least).least(0, rises.bound(least));
            assert!(known <= least, "{known} > {least}");
        }
    }
}
