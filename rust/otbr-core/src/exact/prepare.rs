//! A basis to start from, near the best one, and the core it was found on.

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
    pub core: Core<T>,
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
    let flow = Augmentation::new(&core, masses, v).run(interrupt)?;
    let mut cells = flow.cells;
    cells.extend(send_leftovers(cost, &flow.v, flow.supply, flow.demand, interrupt)?);
    Ok(Prepared { tree: spanning::basis(cost, cells), core, bounds })
}
