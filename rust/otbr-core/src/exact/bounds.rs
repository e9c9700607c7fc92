//! Lower bounds on what a stretch of a row holds, so that most of the costs are read only once.
//!
//! Of each `BLOCK` columns of a row the least cost − v of what is not in the core is kept, and the v it
//! was found for. Under other potentials v' it is lower by at most the largest v' − v in the block.

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
}

/// What bounds found for earlier potentials are worth under the present ones.
pub(super) struct Rises {
    /// Of each version, block by block, the largest rise of v since then.
    rises: Vec<Vec<f64>>,
    unit: f64,
}

impl Bounds {
    /// From the bounds of all blocks, found for these potentials.
    pub fn new(bounds: Vec<Bound>, v: &[f64], unit: f64) -> Self {
        Self { per_row: v.len().div_ceil(BLOCK), bounds, versions: vec![v.to_vec()], unit }
    }

    /// Of no block anything is known.
    pub fn unknown(rows: usize, cols: usize) -> Self {
        let nothing = Bound { low: f32::NEG_INFINITY, version: 0 };
        Self::new(vec![nothing; rows * cols.div_ceil(BLOCK)], &vec![0.0; cols], 1.0)
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
    pub fn advance(&mut self, v: &[f64]) -> Rises {
        self.versions.push(v.to_vec());
        let rise = |(old, new): (&[f64], &[f64])| {
            old.iter().zip(new).map(|(o, n)| n - o).fold(f64::NEG_INFINITY, f64::max)
        };
        let since = |old: &Vec<f64>| old.chunks(BLOCK).zip(v.chunks(BLOCK)).map(rise).collect();
        Rises { rises: self.versions.iter().map(since).collect(), unit: self.unit }
    }
}

impl Bound {
    /// A little below `least`, which may have been rounded.
    pub fn new(least: f64, version: u32, unit: f64) -> Self {
        let low = (least / unit) as f32;
        Self { low: low - low.abs() * 4.0 * f32::EPSILON - 1e-30, version }
    }
}

impl Rises {
    /// The version that the present potentials are.
    pub fn now(&self) -> u32 {
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

    /// Not above the least cost − v of a block under the present potentials.
    #[inline(always)]
    pub fn least(&self, block: usize, bound: Bound) -> f64 {
        f64::from(bound.low) * self.unit - self.rises[bound.version as usize][block]
    }
}
