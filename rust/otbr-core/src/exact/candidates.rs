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
    /// In no order: where all are valued for each pivot, order is not worth its making.
    loose: Vec<Candidate>,
    /// In order. Either this or `loose` is empty.
    heap: BinaryHeap<Candidate>,
    /// A reduced cost not below this counts as zero.
    zero: f64,
    /// What `Tree::shifted` was when all were valued; None if they never were.
    valued_at: Option<u64>,
}

impl Candidates {
    /// Take cells for candidates, when there are none left.
    pub fn fill(&mut self, cells: impl Iterator<Item = Cell>, zero: f64) {
        self.loose.extend(cells.map(|cell| Candidate { reduced_cost: Dd::ZERO, cell }));
        (self.zero, self.valued_at) = (zero, None);
    }

    /// The most negative, with its reduced cost; those that are no longer negative are dropped.
    pub fn take_best(&mut self, tree: &Tree) -> Option<(Cell, Dd)> {
        let few = SHIFTED_PER_CANDIDATE * (self.loose.len() + self.heap.len()) as u64;
        match self.valued_at {
            Some(then) if tree.shifted() - then <= few => self.take_from_heap(tree),
            _ => self.take_of_all(tree),
        }
    }

    /// Value all anew.
    fn take_of_all(&mut self, tree: &Tree) -> Option<(Cell, Dd)> {
        if !self.heap.is_empty() {
            self.loose = std::mem::take(&mut self.heap).into_vec();
        }
        self.valued_at = Some(tree.shifted());
        let (mut kept, mut best) = (0, 0);
        for k in 0..self.loose.len() {
            if let Some(candidate) = value(self.loose[k].cell, self.zero, tree) {
                best = if kept > 0 && candidate <= self.loose[best] { best } else { kept };
                self.loose[kept] = candidate;
                kept += 1;
            }
        }
        self.loose.truncate(kept);
        (kept > 0).then(|| self.loose.swap_remove(best)).map(|best| (best.cell, best.reduced_cost))
    }

    /// Value none but those that come first.
    fn take_from_heap(&mut self, tree: &Tree) -> Option<(Cell, Dd)> {
        if !self.loose.is_empty() {
            self.heap = std::mem::take(&mut self.loose).into();
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
