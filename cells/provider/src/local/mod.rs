//! Further cells on this machine, each an instance of its own beside the one that is also the hub, with a cable to it.

mod cable;
mod order;
mod progress;
mod provider;

use std::path::{Path, PathBuf};

pub use provider::{Furnish, LocalProvider, Settings};

use skep_core::network::GATEWAY_PORT;

use crate::address::Slot;
use crate::error::Error;
use crate::host::registry::Registry;
use crate::names::Names;
use crate::spec::Ranges;
use order::Ordered;

/// A further cell of a hub on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FurtherCell {
    /// Its name.
    pub cell: String,
    /// The instance that it is.
    pub instance: String,
    /// Its state directory.
    pub home: PathBuf,
}

/// The instance and the state directory of a hub's further cell, whether it stands or not.
pub fn further_cell(hub: &str, home: &Path, cell: &str) -> FurtherCell {
    FurtherCell {
        cell: cell.to_owned(),
        instance: Names::new(hub).cell_instance(cell),
        home: Ordered::under(home).home(cell),
    }
}

/// The further cells of which something may stand under a hub's state directory.
pub fn further_cells(home: &Path) -> Result<Vec<FurtherCell>, Error> {
    let ordered = Ordered::under(home);
    let of = |tag: order::Tag| FurtherCell {
        home: ordered.home(&tag.cell),
        cell: tag.cell,
        instance: tag.instance,
    };
    Ok(ordered.all()?.into_iter().map(of).collect())
}

/// The address ranges of every cell that a hub can have on this machine, and where each one's gateway is: those of other
/// instances are left out.
pub fn networks(hub: &str) -> Result<Vec<(Ranges, String)>, Error> {
    let entries = Registry::open().entries()?;
    let further = Names::new(hub).cell_instance("");
    let is_own = |instance: &str| instance == hub || instance.starts_with(&further);
    let is_others = |slot: &Slot| {
        entries
            .iter()
            .any(|entry| entry.slot == *slot && !is_own(&entry.instance))
    };
    let own = Slot::all().filter(|slot| !is_others(slot));
    Ok(own
        .map(|slot| (slot.ranges(), format!("{}:{GATEWAY_PORT}", slot.front())))
        .collect())
}

/// Free address ranges for one more cell, and where its gateway will be; nothing where all are taken.
///
/// `taken` are those of cells that were ordered and do not stand yet.
pub fn free_ranges(taken: &[Ranges]) -> Result<Option<(Ranges, String)>, Error> {
    let entries = Registry::open().entries()?;
    let is_free =
        |slot: &Slot| !taken.contains(&slot.ranges()) && !entries.iter().any(|entry| entry.slot == *slot);
    let free = Slot::all().find(is_free);
    Ok(free.map(|slot| (slot.ranges(), format!("{}:{GATEWAY_PORT}", slot.front()))))
}

/// Forgets a further cell that was taken down.
pub fn forget_cell(home: &Path, cell: &str) -> Result<(), Error> {
    Ordered::under(home).forget(cell)
}
