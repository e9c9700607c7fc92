//! Problems with the costs of a metric, made smaller.
//!
//! Of two masses at the same point as much as both hold may stay where it is: by the triangle
//! inequality moving it elsewhere and others here costs no less. Rows that are left over and have
//! equal costs are one point, and the mass that leaves it may be shared out among them in any way.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use super::bounds::Bounds;
use super::engine::{self, Limits};
use super::look::look;
use super::selected::{Outside, Selected};
use super::{ExactOptions, Hint, Optimum};
use crate::double_double::Dd;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::pricing::{Cell, Duals, places_up_to};
use crate::problem::{Extent, Transport, largest_extent};
use crate::scalar::Scalar;
use crate::simd::dispatch;
use crate::threads::Threads;

/// Rows read together.
const CHUNK: usize = 64;

/// Costs of a row that its hash is made of: the first, which are close together in memory. Where so many
/// different rows share them, the hash is of all.
const HASHED: usize = 16;
const CROWDED: usize = 4;

/// Rows and columns of one number are taken for the same points if so large a part of them are.
const ALIGNED: f64 = 0.5;

/// Solve what is left when equal points kept what they could; None if none could.
pub(super) fn solve<G: Geometry>(
    problem: &Transport<G>,
    options: ExactOptions<'_>,
    limits: &mut Limits,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<Option<Optimum>> {
    let cost = &problem.cost;
    let (n, m) = (cost.rows(), cost.cols());
    let kept = match Kept::aligned(problem) {
        Some(kept) => kept,
        None => Kept::searched(problem, threads, interrupt)?,
    };
    let groups = group_rows(cost, &kept, interrupt)?;
    let rows: Vec<u32> = groups.iter().map(|group| group.members[0]).collect();
    let cols: Vec<u32> = (0..m as u32).filter(|&j| kept.demand[j as usize] > 0.0).collect();
    if kept.cells.is_empty() && rows.len() == n {
        return Ok(None);
    }
    let mut entries = kept.cells.clone();
    let mut duals = Duals::unknown(n, m);
    let (mut limit, mut least) = (None, f64::MAX);
    let is_inside = kept.supply.iter().map(|&supply| supply > 0.0).collect();
    let outside = Outside::new(is_inside, m, &cols, &kept.cells);
    if !rows.is_empty() && !cols.is_empty() {
        let selected = Selected { of: cost, rows: &rows, cols: &cols, outside: &outside };
        let masses = |of: &[f64], at: &[u32]| -> Vec<f64> { at.iter().map(|&k| of[k as usize]).collect() };
        let a = groups.iter().map(|group| masses(&kept.supply, &group.members).iter().sum()).collect();
        let smaller = Transport::balanced(selected, a, masses(&kept.demand, &cols));
        let options = ExactOptions { start: None, ..options };
        let optimum = engine::solve(&smaller, options, limits, threads, interrupt)?;
        (limit, least) = (optimum.limit, optimum.least);
        share_out(&optimum.entries, &groups, &cols, &kept.supply, &mut entries);
        duals.take(&optimum.duals, &groups, &cols);
    }
    problem.read(threads)?;
    duals.extend(cost, &kept.cells);
    let potentials = duals.potentials(cost.max_abs());
    let of_cell = |&(i, j, _): &(u32, u32, f64)| {
        let (row, col) = (i as usize, j as usize);
        potentials.reduced_cost(Cell { row, col, cost: cost.at(row, col) }).to_f64()
    };
    // The cells of the smaller problem, those that keep something, and all others.
    let least = kept.cells.iter().map(of_cell).fold(least, f64::min);
    let mut bounds = Bounds::but_for(&outside.proven(potentials), m);
    let look = look(cost, None, potentials, &mut bounds, 1, threads, interrupt)?;
    Ok(Some(Optimum { entries, duals, least: least.min(look.least), limit, hint: Hint::default() }))
}

/// Masses that stay where they are, and what is left.
struct Kept {
    /// In order of rows and columns.
    cells: Vec<(u32, u32, f64)>,
    supply: Vec<f64>,
    demand: Vec<f64>,
}

impl Kept {
    /// If most rows are the same point as the column of their number: what these keep. Nothing else is read.
    fn aligned<G: Geometry>(problem: &Transport<G>) -> Option<Self> {
        let size = problem.a.len().min(problem.b.len());
        let equal: Vec<usize> = (0..size).filter(|&i| problem.cost.at(i, i) == 0.0).collect();
        let aligned = equal.len() as f64 >= ALIGNED * size as f64;
        aligned.then(|| Self::at(problem, equal.into_iter().map(|i| (i, i))))
    }

    /// What all equal points keep.
    fn searched<G: Geometry>(
        problem: &Transport<G>,
        threads: &Threads,
        interrupt: Interrupt<'_>,
    ) -> Result<Self> {
        let (cost, m) = (&problem.cost, problem.cost.cols());
        let zeros = vec![0.0; m];
        let parts = threads.map_rows_in_steps(cost.rows(), m, CHUNK, interrupt, |rows| {
            let (mut extent, mut found, mut buffer) = (Extent::default(), Vec::new(), Vec::new());
            for i in rows {
                let costs = cost.stretch(i, 0..m, &mut buffer);
                dispatch(
                    #[inline(always)]
                    || {
                        extent.take(costs);
                        places_up_to(costs, &zeros, 0.0, |j| {
                            if costs[j] == G::Cost::ZERO {
                                found.push((i, j));
                            }
                        });
                    },
                );
            }
            (extent.value(), found)
        })?;
        cost.learn(largest_extent(parts.iter().map(|part| part.0)));
        problem.read(threads)?;
        Ok(Self::at(problem, parts.into_iter().flat_map(|part| part.1)))
    }

    /// What cells of equal points keep.
    fn at<G>(problem: &Transport<G>, equal: impl Iterator<Item = (usize, usize)>) -> Self {
        let (mut supply, mut demand, mut cells) = (problem.a.clone(), problem.b.clone(), Vec::new());
        for (i, j) in equal {
            let mass = supply[i].min(demand[j]);
            if mass > 0.0 {
                supply[i] -= mass;
                demand[j] -= mass;
                cells.push((i as u32, j as u32, mass));
            }
        }
        Self { cells, supply, demand }
    }
}

/// Rows that are one point.
struct Group {
    members: Vec<u32>,
}

/// The rows that have something left, those with equal costs together.
fn group_rows<G: Geometry>(cost: &G, kept: &Kept, interrupt: Interrupt<'_>) -> Result<Vec<Group>> {
    let m = cost.cols();
    let mut groups: Vec<Group> = Vec::new();
    let mut by_start: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut by_whole: HashMap<u64, Vec<usize>> = HashMap::new();
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for (count, i) in (0..cost.rows()).filter(|&i| kept.supply[i] > 0.0).enumerate() {
        if count % CHUNK == 0 {
            interrupt.check()?;
        }
        let start = hash(cost.stretch(i, 0..HASHED.min(m), &mut one));
        let costs = cost.stretch(i, 0..m, &mut one);
        let mut find = |alike: &[usize]| {
            let first = |g: usize| groups[g].members[0] as usize;
            alike.iter().copied().find(|&g| all_equal(costs, cost.stretch(first(g), 0..m, &mut other)))
        };
        let mut alike = by_start.entry(start).or_default();
        let mut found = find(alike);
        if found.is_none() && alike.len() == CROWDED {
            alike = by_whole.entry(hash(costs)).or_default();
            found = find(alike);
        }
        match found {
            Some(g) => groups[g].members.push(i as u32),
            None => {
                alike.push(groups.len());
                groups.push(Group { members: vec![i as u32] });
            }
        }
    }
    Ok(groups)
}

fn hash<T: Scalar>(costs: &[T]) -> u64 {
    let mut hasher = DefaultHasher::new();
    costs.iter().for_each(|c| hasher.write_u64(c.to_f64().to_bits()));
    hasher.finish()
}

fn all_equal<T: Scalar>(x: &[T], y: &[T]) -> bool {
    let pieces = x.chunks(CHUNK).zip(y.chunks(CHUNK));
    pieces.into_iter().all(|(x, y)| {
        dispatch(
            #[inline(always)]
            || x.iter().zip(y).fold(true, |equal, (x, y)| equal & (x == y)),
        )
    })
}

/// Share out what a group sends among its members.
fn share_out(
    flows: &[(u32, u32, f64)],
    rows: &[Group],
    cols: &[u32],
    supply: &[f64],
    entries: &mut Vec<(u32, u32, f64)>,
) {
    let mut flows = flows.to_vec();
    flows.sort_unstable_by_key(|f| (f.0, f.1));
    for part in flows.chunk_by(|x, y| x.0 == y.0) {
        let mut members = rows[part[0].0 as usize].members.iter().copied().peekable();
        let mut left = members.peek().map_or(0.0, |&i| supply[i as usize]);
        for &(_, col, mass) in part {
            let mut mass = mass;
            while let Some(&i) = members.peek() {
                // The last member takes what rounding leaves too.
                let is_last = members.clone().nth(1).is_none();
                let share = if is_last { mass } else { mass.min(left) };
                if share > 0.0 {
                    entries.push((i, cols[col as usize], share));
                }
                mass -= share;
                left -= share;
                if mass <= 0.0 {
                    break;
                }
                members.next();
                left = members.peek().map_or(0.0, |&i| supply[i as usize]);
            }
        }
    }
}

impl Duals {
    /// No potential is known: NaN.
    fn unknown(n: usize, m: usize) -> Self {
        Self { u_hi: vec![f64::NAN; n], u_lo: vec![0.0; n], v_hi: vec![f64::NAN; m], v_lo: vec![0.0; m] }
    }

    /// Those of a smaller problem.
    fn take(&mut self, smaller: &Self, rows: &[Group], cols: &[u32]) {
        for (k, group) in rows.iter().enumerate() {
            for &i in &group.members {
                (self.u_hi[i as usize], self.u_lo[i as usize]) = (smaller.u_hi[k], smaller.u_lo[k]);
            }
        }
        for (k, &j) in cols.iter().enumerate() {
            (self.v_hi[j as usize], self.v_lo[j as usize]) = (smaller.v_hi[k], smaller.v_lo[k]);
        }
    }

    /// Find those that are not known: such that cells with mass are tight and, in a metric, no
    /// reduced cost is negative.
    fn extend<G: Geometry>(&mut self, cost: &G, kept: &[(u32, u32, f64)]) {
        if self.u_hi.iter().all(|u| u.is_nan()) {
            self.u_hi.fill(0.0);
            self.v_hi.fill(0.0);
        }
        self.tighten(kept);
        self.lower_columns(cost);
        self.tighten(kept);
        let mut buffer = Vec::new();
        for i in 0..cost.rows() {
            if self.u_hi[i].is_nan() {
                let costs = cost.stretch(i, 0..cost.cols(), &mut buffer).iter().zip(&self.v_hi);
                self.u_hi[i] = costs.map(|(c, v)| c.to_f64() - v).fold(f64::INFINITY, f64::min);
            }
        }
    }

    /// Where one end of a cell with mass is known, so is the other: the cell costs nothing.
    fn tighten(&mut self, kept: &[(u32, u32, f64)]) {
        // The second round reaches what shares a column with what the first reached.
        for &(i, j, _) in kept.iter().chain(kept) {
            let (i, j) = (i as usize, j as usize);
            let (u, v) =
                (Dd { hi: self.u_hi[i], lo: self.u_lo[i] }, Dd { hi: self.v_hi[j], lo: self.v_lo[j] });
            if u.hi.is_nan() && !v.hi.is_nan() {
                let u = -v;
                (self.u_hi[i], self.u_lo[i]) = (u.hi, u.lo);
            } else if v.hi.is_nan() && !u.hi.is_nan() {
                let v = -u;
                (self.v_hi[j], self.v_lo[j]) = (v.hi, v.lo);
            }
        }
    }

    /// Columns not known: the least cost − u over the rows that are.
    fn lower_columns<G: Geometry>(&mut self, cost: &G) {
        let unknown: Vec<usize> = (0..cost.cols()).filter(|&j| self.v_hi[j].is_nan()).collect();
        if unknown.is_empty() {
            return;
        }
        let mut least = vec![f64::INFINITY; unknown.len()];
        let mut buffer = Vec::new();
        for i in (0..cost.rows()).filter(|&i| !self.u_hi[i].is_nan()) {
            let costs = cost.stretch(i, 0..cost.cols(), &mut buffer);
            for (least, &j) in least.iter_mut().zip(&unknown) {
                *least = least.min(costs[j].to_f64() - self.u_hi[i]);
            }
        }
        for (least, j) in least.into_iter().zip(unknown) {
            self.v_hi[j] = least;
        }
    }
}
