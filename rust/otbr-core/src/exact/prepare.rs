//! A basis to start from, near the best one, and the core it was found on.

use super::Start;
use super::augment::Augmentation;
use super::bounds::Bounds;
use super::core::Core;
use super::duals::{Sampled, core_sinkhorn, sampled_sinkhorn};
use super::masses::IntegerMasses;
use super::shortlist::{Shortlist, shortlist};
use super::spanning;
use super::start::send_leftovers;
use super::tree::Tree;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::interrupt::Interrupt;
use crate::problem::Transport;
use crate::threads::Threads;

/// What the simplex starts from.
pub(super) struct Prepared<T> {
    pub tree: Tree,
    /// None where all costs are to be searched.
    pub core: Option<Core<T>>,
    pub bounds: Bounds,
}

/// Potentials by Sinkhorn's algorithm, a core by their reduced costs, a flow on the core by
/// augmenting paths, a basis from the flow.
pub(super) fn prepare<G: Geometry>(
    problem: &Transport<G>,
    masses: &IntegerMasses,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<Prepared<G::Cost>> {
    let cost = &problem.cost;
    let Sampled { mut v, spread, column_limits } = sampled_sinkhorn(problem);
    let Shortlist { core, bounds } = shortlist(cost, &v, &column_limits, threads, interrupt)?;
    core_sinkhorn(problem, &core, &mut v, spread);
    on_core(problem, masses, core, bounds, v, interrupt)
}

/// From potentials, and a core where there is one, of a problem like this.
pub(super) fn prepare_from<G: Geometry>(
    problem: &Transport<G>,
    masses: &IntegerMasses,
    start: Start<'_>,
    threads: &Threads,
    interrupt: Interrupt<'_>,
) -> Result<Prepared<G::Cost>> {
    let (cost, mut v) = (&problem.cost, start.v.to_vec());
    let core = Core::from_cells(cost, start.core.to_vec());
    if core.covers_rows() {
        let bounds = Bounds::unknown(cost.rows(), cost.cols());
        let spread = 8.0 * core.spread(&v);
        core_sinkhorn(problem, &core, &mut v, spread);
        return on_core(problem, masses, core, bounds, v, interrupt);
    }
    let no_limits = vec![f64::INFINITY; v.len()];
    let Shortlist { core, bounds } = shortlist(cost, &v, &no_limits, threads, interrupt)?;
    let spread = 8.0 * core.spread(&v);
    core_sinkhorn(problem, &core, &mut v, spread);
    on_core(problem, masses, core, bounds, v, interrupt)
}

/// A flow on the core, what it cannot carry sent elsewhere, and a basis from it.
fn on_core<G: Geometry>(
    problem: &Transport<G>,
    masses: &IntegerMasses,
    core: Core<G::Cost>,
    bounds: Bounds,
    v: Vec<f64>,
    interrupt: Interrupt<'_>,
) -> Result<Prepared<G::Cost>> {
    let cost = &problem.cost;
    let flow = Augmentation::new(&core, masses, v).run(interrupt)?;
    let mut cells = flow.cells;
    cells.extend(send_leftovers(cost, &flow.v, flow.supply, flow.demand, interrupt)?);
    Ok(Prepared { tree: spanning::basis(cost, cells), core: Some(core), bounds })
}
