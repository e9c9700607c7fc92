//! A sparse transport plan.

use crate::double_double::Dd;

/// Entries (row, column, mass), sorted by row, then column; every mass is positive.
///
/// An exact plan has at most n + m − 1 of them.
#[derive(Debug, Clone, PartialEq)]
pub struct SparsePlan {
    /// Shape (n, m).
    pub shape: (usize, usize),
    /// Row of each entry.
    pub rows: Vec<u32>,
    /// Column of each entry.
    pub cols: Vec<u32>,
    /// Mass of each entry.
    pub masses: Vec<f64>,
}

impl SparsePlan {
    /// From entries in any order; those without mass are dropped.
    pub fn from_entries(shape: (usize, usize), mut entries: Vec<(u32, u32, f64)>) -> Self {
        entries.retain(|e| e.2 > 0.0);
        // One number compares quicker than two.
        entries.sort_unstable_by_key(|e| u64::from(e.0) << 32 | u64::from(e.1));
        Self {
            shape,
            rows: entries.iter().map(|e| e.0).collect(),
            cols: entries.iter().map(|e| e.1).collect(),
            masses: entries.iter().map(|e| e.2).collect(),
        }
    }

    /// Keep only the entries whose (row, column) `keep` wants.
    pub(crate) fn retain(&mut self, keep: impl Fn(u32, u32) -> bool) {
        let cells = self.rows.iter().zip(&self.cols).zip(&self.masses);
        let kept = cells.filter(|((i, j), _)| keep(**i, **j)).map(|((i, j), mass)| (*i, *j, *mass));
        *self = Self::from_entries(self.shape, kept.collect());
    }

    /// Entries as (row, column, mass).
    pub fn entries(&self) -> impl Iterator<Item = (usize, usize, f64)> + '_ {
        let cells = self.rows.iter().zip(&self.cols);
        cells.zip(&self.masses).map(|((&i, &j), &mass)| (i as usize, j as usize, mass))
    }

    /// L1 distance of the plan's marginals from (a, b).
    pub fn marginal_error(&self, a: &[f64], b: &[f64]) -> f64 {
        let exact = |masses: &[f64]| masses.iter().map(|&x| Dd::from(x)).collect::<Vec<_>>();
        let (mut left, mut right) = (exact(a), exact(b));
        for (i, j, mass) in self.entries() {
            left[i] += Dd::from(-mass);
            right[j] += Dd::from(-mass);
        }
        left.iter().chain(&right).map(|x| x.to_f64().abs()).sum()
    }
}
