//! Which of the cells that belong to no pool takes a new tenant; among the others the planner chooses. Pure.

use skep_api::Cell;
use skep_core::{CellName, Region, reasons};
use skep_runtime::conditions::is_true;

/// The cell that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its name.
    pub cell: CellName,
}

/// A cell that cannot take the tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The cell's name.
    pub cell: String,
    /// Why.
    pub why: Why,
}

/// Why a cell cannot take a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its agent has not checked in, or its spec is wrong.
    NotReady,
    /// It takes no new tenants.
    Cordoned,
    /// It is being removed.
    Deleting,
    /// Its name is none that records can be kept for.
    Misnamed,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let why = match self.why {
            Why::NotReady => "is not ready",
            Why::Cordoned => "is cordoned",
            Why::Deleting => "is being deleted",
            Why::Misnamed => "has no valid name",
        };
        write!(f, "cell {} {why}", self.cell)
    }
}

/// Chooses the ready, uncordoned cell of the region with the fewest tenants, the first by name among equals.
///
/// # Errors
/// Every cell of the region with its reason; none when the region has no cell.
pub fn choose(cells: &[Cell], region: &Region) -> Result<Choice, Vec<Refusal>> {
    let mut refusals = Vec::new();
    let mut candidates = Vec::new();
    for cell in cells.iter().filter(|cell| cell.spec.region == region.as_str()) {
        let name = cell.metadata.name.clone().unwrap_or_default();
        match fitness(cell) {
            Ok(cell_name) => {
                let tenants = cell.status.as_ref().map_or(0, |status| status.tenants);
                candidates.push((tenants, cell_name));
            }
            Err(why) => refusals.push(Refusal { cell: name, why }),
        }
    }
    candidates
        .into_iter()
        .min()
        .map(|(_, cell)| Choice { cell })
        .ok_or(refusals)
}

fn fitness(cell: &Cell) -> Result<CellName, Why> {
    let is_ready = cell
        .status
        .as_ref()
        .is_some_and(|status| is_true(&status.conditions, reasons::READY));
    if cell.metadata.deletion_timestamp.is_some() {
        return Err(Why::Deleting);
    }
    if cell.spec.cordoned {
        return Err(Why::Cordoned);
    }
    if !is_ready {
        return Err(Why::NotReady);
    }
    cell.metadata
        .name
        .as_deref()
        .unwrap_or_default()
        .parse()
        .map_err(|_| Why::Misnamed)
}
