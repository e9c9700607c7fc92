//! A basis to start from, near the best one, and the core it was found on.

use super::Start;
use super::augment::Augmentation;
use super::bounds::{BLOCK, Bounds};
use super::coarse::coarse_potentials;
use super::core::Core;
use super::duals::{Sampled, unit_of};
use super::engine::Limits;
use super::masses::IntegerMasses;
use super::repair::repaired;
use super::scaling::core_sinkhorn;
use super::shortlist::{Shortlist, shortlist};
use super::spanning;
use super::start::send_leftovers;
use super::tree::Tree;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::pricing::Cell;
use crate::problem::Transport;
use crate::threads::Threads;

/// What the simplex starts from.
pub(super) struct Prepared<T> {
    pub tree: Tree,
    /// None where all costs are to be searched.
    pub core: Option<Core<T>>,
    pub bounds: Bounds,
    /// The potentials of the columns that the flow was found with.
    pub smooth: Vec<f64>,
}

/// Where the least of a few costs exceeds the least of all by less than this part of what the mean
/// does, costs may be distances in few dimensions: about five. Nor may it be more than this part of what it
/// is for normal costs: of few columns neither is much.
const LOW_DIMENSION: f64 = 0.25;
const LESS_THAN_NORMAL: f64 = 1.1;

/// Where even less, many costs of a row are equal: any differences between potentials would make
/// all rows prefer the same few columns.
const TIED: f64 = 0.01;

/// So many rows for each row are seen by all searches for augmenting paths together; fewer where
/// paths are long, as they are in few dimensions, and pivots cheap.
const ROWS_PER_ROW: usize = 10;
const ROWS_PER_ROW_NEARBY: usize = 2;

/// The part of all mass with which a row is heavy.
const HEAVY: f64 = 1.0 / 64.0;

/// The spread of a sampled row, in spreads of a row of the core, roughly.
const SPREAD_OF_CORE: f64 = 2.0;

/// All costs are read, and so checked.
///
/// Potentials by Sinkhorn's algorithm or from a coarse problem, a core by their reduced costs, a flow
/// on the core by augmenting paths, a basis from the flow.
pub(super) fn prepare<G: Geometry>(
    problem: &Transport<G>,
    masses: &IntegerMasses,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<Prepared<G::Cost>> {
    let (sampled, mut v, rough) = first_potentials(problem, threads, interrupt)?;
    let (limits, unit, spread) = (sampled.column_limits(&v), sampled.unit, sampled.spread);
    // What comes next may have the memory.
    drop(sampled);
    let Shortlist { core, bounds } = shortlist(&problem.cost, &v, &limits, unit, threads, interrupt)?;
    problem.read(threads)?;
    let core = core.with(&cells_of_heavy_rows(problem));
    if rough {
        core_sinkhorn(problem, &core, &mut v, spread);
    }
    let rows_per_row = if rough { ROWS_PER_ROW } else { ROWS_PER_ROW_NEARBY };
    on_core(problem, masses, core, bounds, v, rows_per_row, interrupt)
}

/// All cells of the rows with so much mass that they will send to a good part of the columns.
fn cells_of_heavy_rows<G: Geometry>(problem: &Transport<G>) -> Vec<Cell> {
    let heavy = (0..problem.a.len()).filter(|&i| problem.a[i] >= HEAVY * problem.total);
    let cell = |row, col| Cell { row, col, cost: problem.cost.at(row, col) };
    heavy.flat_map(|row| (0..problem.b.len()).map(move |col| cell(row, col))).collect()
}

/// Potentials of the columns to choose a core by, and whether Sinkhorn's algorithm on the core can
/// make them better; with the rows they were found from.
fn first_potentials<G: Geometry>(
    problem: &Transport<G>,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<(Sampled, Vec<f64>, bool)> {
    let sampled = Sampled::new(problem);
    if sampled.relative_spread < TIED {
        return Ok((sampled, vec![0.0; problem.b.len()], false));
    }
    let sampled = sampled.enlarged(problem);
    if sampled.relative_spread < LOW_DIMENSION.min(LESS_THAN_NORMAL * normal_spread(problem.b.len())) {
        let coarse = coarse_potentials(problem, sampled.unit, threads, interrupt);
        // Where it fails, a cost may not be finite: then that is what to say.
        if let Some(v) = coarse.or_else(|error| problem.read(threads).and(Err(error)))? {
            return Ok((sampled, v, false));
        }
    }
    let v = sampled.sinkhorn(problem);
    Ok((sampled, v, true))
}

/// The relative spread where costs are independent and normal, roughly: the least of m is √(2 ln m) standard
/// deviations below their mean.
fn normal_spread(m: usize) -> f64 {
    1.0 - ((BLOCK as f64).ln() / (m as f64).ln()).sqrt()
}

/// From potentials, and a core where there is one, of a problem like this, all costs of which were read.
pub(super) fn prepare_from<G: Geometry>(
    problem: &Transport<G>,
    masses: &IntegerMasses,
    start: Start<'_>,
    limits: &mut Limits,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<Prepared<G::Cost>> {
    let (cost, mut v) = (&problem.cost, start.v.to_vec());
    let known = Core::from_cells(cost, start.core.to_vec());
    let Shortlist { core, bounds } = if known.covers_rows() {
        Shortlist { core: known, bounds: Bounds::unknown(cost.rows(), cost.cols()) }
    } else {
        shortlist(cost, &v, &vec![f64::INFINITY; v.len()], unit_of(cost), threads, interrupt)?
    };
    if let Some(tree) = repaired(cost, &core, masses, start.basis, limits, interrupt)? {
        return Ok(Prepared { tree, core: Some(core), bounds, smooth: v });
    }
    let spread = SPREAD_OF_CORE * core.spread(&v);
    core_sinkhorn(problem, &core, &mut v, spread);
    on_core(problem, masses, core, bounds, v, ROWS_PER_ROW, interrupt)
}

/// A flow on the core, what it cannot carry sent elsewhere, and a basis from it.
fn on_core<G: Geometry>(
    problem: &Transport<G>,
    masses: &IntegerMasses,
    core: Core<G::Cost>,
    bounds: Bounds,
    v: Vec<f64>,
    rows_per_row: usize,
    interrupt: Interrupt<'_>,
) -> Result<Prepared<G::Cost>> {
    let cost = &problem.cost;
    let flow = Augmentation::new(&core, masses, v.clone(), rows_per_row).run(interrupt)?;
    let mut cells = flow.cells;
    cells.extend(send_leftovers(cost, &flow.v, flow.supply, flow.demand, interrupt)?);
    Ok(Prepared { tree: spanning::basis(cost, cells), core: Some(core), bounds, smooth: v })
}
