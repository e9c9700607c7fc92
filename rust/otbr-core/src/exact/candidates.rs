//! Cells that may enter the basis, the most negative first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::tree::Tree;
use crate::double_double::Dd;
use crate::pricing::Cell;

/// All candidates are valued anew when pivots have shifted so many nodes for each of them: pivots
/// that shift few nodes leave most values as they are.
const SHIFTED_PER_CANDIDATE: u64 = 2;

/// Candidates, by reduced costs that pivots may since have changed.
#[derive(Default)]
pub(super) struct Candidates {
    heap: BinaryHeap<Candidate>,
    /// A reduced cost not below this counts as zero.
    zero: f64,
    /// What `Tree::shifted` was when all were valued.
    valued_at: u64,
}

impl Candidates {
    /// Take cells for candidates, when there are none left.
    pub fn fill(&mut self, cells: impl Iterator<Item = Cell>, zero: f64, tree: &Tree) {
        let mut candidates = std::mem::take(&mut self.heap).into_vec();
        candidates.extend(cells.filter_map(|cell| value(cell, zero, tree)));
        self.heap = candidates.into();
        (self.zero, self.valued_at) = (zero, tree.shifted());
    }

    /// The most negative, with its reduced cost; those that are no longer negative are dropped.
    pub fn take_best(&mut self, tree: &Tree) -> Option<(Cell, Dd)> {
        if tree.shifted() - self.valued_at > SHIFTED_PER_CANDIDATE * self.heap.len() as u64 {
            let mut candidates = std::mem::take(&mut self.heap).into_vec();
            candidates.retain_mut(|candidate| {
                let valued = value(candidate.cell, self.zero, tree);
                valued.map(|valued| *candidate = valued).is_some()
            });
            self.heap = candidates.into();
            self.valued_at = tree.shifted();
        }
        while let Some(Candidate { cell, .. }) = self.heap.pop() {
            let Some(candidate) = value(cell, self.zero, tree) else { continue };
            if self.heap.peek().is_none_or(|next| candidate >= *next) {
                return Some((cell, candidate.reduced_cost));
            }
            self.heap.push(candidate);
        }
        None
    }
}

/// None if the reduced cost counts as zero.
fn value(cell: Cell, zero: f64, tree: &Tree) -> Option<Candidate> {
    let reduced_cost = tree.reduced_cost(cell);
    let negative = reduced_cost.hi < zero || (reduced_cost.hi == zero && reduced_cost.lo < 0.0);
    negative.then_some(Candidate { reduced_cost, cell })
}

struct Candidate {
    reduced_cost: Dd,
    cell: Cell,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_cost = other.reduced_cost.hi.total_cmp(&self.reduced_cost.hi);
        by_cost.then_with(|| (other.cell.row, other.cell.col).cmp(&(self.cell.row, self.cell.col)))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}
