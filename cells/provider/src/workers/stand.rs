//! What stands of a platform, held against every other command that would change it.

use skep_distro::Artifacts;

use super::{Place, Site, state};
use crate::cell::Cell;
use crate::error::{Error, Refusal};
use crate::host::cgroup::Hierarchies;
use crate::host::preflight;
use crate::host::registry::{InstanceLock, Registry};
use crate::layout::Layout;

/// The files and groups of an instance; no other command changes them while it is there.
pub(super) struct Stand {
    pub layout: Layout,
    pub hierarchies: Hierarchies,
    _lock: InstanceLock,
}

impl Stand {
    /// Takes hold of an instance; refused while another command has it.
    pub fn open(place: &Place<'_>) -> Result<Self, Error> {
        preflight::check_user()?;
        let hierarchies = Hierarchies::observe()?;
        let home = std::path::absolute(place.home).map_err(Error::io("find", place.home))?;
        Ok(Self {
            layout: Layout::new(&home),
            hierarchies,
            _lock: Registry::open().lock(place.instance)?,
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
