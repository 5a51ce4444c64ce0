//! What stands of a platform, held against every other command that would change it.

use std::time::Duration;

use skep_distro::Artifacts;

use super::{Place, Site, state};
use crate::cell::Cell;
use crate::error::{Error, Refusal};
use crate::host::cgroup::Hierarchies;
use crate::host::preflight;
use crate::host::registry::{InstanceLock, Registry};
use crate::layout::Layout;

/// How long another command may take: one that adds machines waits until they have joined.
const BUSY_LIMIT: Duration = Duration::from_mins(5);

/// The files and groups of an instance; no other command changes them while it is there.
pub(super) struct Stand {
    pub layout: Layout,
    pub hierarchies: Hierarchies,
    _lock: InstanceLock,
}

impl Stand {
    /// Takes hold of an instance once no other command has it; refused if that takes longer than machines take to start.
    pub async fn open(place: &Place<'_>) -> Result<Self, Error> {
        preflight::check_user()?;
        let hierarchies = Hierarchies::observe()?;
        let home = std::path::absolute(place.home).map_err(Error::io("find", place.home))?;
        Ok(Self {
            layout: Layout::new(&home),
            hierarchies,
            _lock: Registry::open().wait(place.instance, BUSY_LIMIT).await?,
        })
    }

    /// Its cell; refused where there is none.
    pub fn cell(&self, place: &Place<'_>) -> Result<Cell, Error> {
        let cell = crate::state::read(&self.layout.cell())?;
        Ok(cell.ok_or_else(|| Refusal::NotUp(place.instance.to_owned()))?)
    }

    /// What machines of its tenants, as their files say now, are made of.
    pub fn site<'a>(
        &'a self,
        cell: &Cell,
        place: &Place<'a>,
        artifacts: &'a Artifacts,
    ) -> Result<Site<'a>, Error> {
        let tenants = state::all(&self.layout)?;
        Ok(Site::new(
            cell,
            &tenants,
            &self.layout,
            &self.hierarchies,
            artifacts,
            place.supervisor,
        ))
    }
}
