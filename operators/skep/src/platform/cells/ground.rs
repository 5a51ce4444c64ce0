//! Where on this machine a cell is: the instance and the state directory of its machines.

use std::path::PathBuf;

use skep_provider::local::{further_cell, further_cells};
use skep_provider::workers::Place;

use crate::client::Failure;
use crate::platform::home::{Home, instance};
use crate::platform::up::HUB_CELL;

/// One cell of this machine.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Its name.
    pub cell: String,
    /// The instance that its machines belong to.
    pub instance: String,
    /// Its state directory.
    pub home: PathBuf,
}

impl Ground {
    /// The same for commands that only change what is there.
    pub fn place(&self) -> Place<'_> {
        self.place_with(&[])
    }

    /// The same for commands that start machines.
    pub fn place_with<'a>(&'a self, supervisor: &'a [std::ffi::OsString]) -> Place<'a> {
        Place {
            instance: &self.instance,
            home: &self.home,
            supervisor,
        }
    }
}

fn hub(home: &Home) -> Ground {
    Ground {
        cell: HUB_CELL.to_owned(),
        instance: instance(),
        home: home.path().to_owned(),
    }
}

/// Where a cell is, which has to be on this machine.
pub fn of_cell(cell: &str, home: &Home) -> Result<Ground, Failure> {
    if cell == HUB_CELL {
        return Ok(hub(home));
    }
    let further = further_cell(&instance(), home.path(), cell);
    if !further.home.exists() {
        return Err(Failure::NotFound(format!(
            "cell {cell} is not on this machine: its tenants' nodes are added and removed where they are"
        )));
    }
    Ok(Ground {
        cell: further.cell,
        instance: further.instance,
        home: further.home,
    })
}

/// Every cell of which something may stand on this machine, the hub's first.
pub fn standing(home: &Home) -> Result<Vec<Ground>, Failure> {
    let further = further_cells(home.path()).map_err(Failure::from_error)?;
    let grounds = further.into_iter().map(|cell| Ground {
        cell: cell.cell,
        instance: cell.instance,
        home: cell.home,
    });
    Ok(std::iter::once(hub(home)).chain(grounds).collect())
}
