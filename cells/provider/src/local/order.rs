//! An order for a further cell on this machine: what it becomes here, or why it cannot.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skep_builder::{Order, ProviderError, Token};

use crate::address::Slot;
use crate::error::{Error, Refusal};
use crate::names::Names;
use crate::spec::Ranges;
use crate::state;

/// The longest name of an instance.
const INSTANCE_LEN: usize = 20;

/// What is kept of an order, as the tag by which all that was made for it is found; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tag {
    pub token: String,
    pub cell: String,
    pub instance: String,
    pub slot: Slot,
    pub region: String,
    pub zones: Vec<String>,
    pub nodes_per_zone: u8,
}

impl Tag {
    /// What an order becomes under a hub's instance.
    pub(crate) fn of(order: &Order, hub: &str) -> Result<Self, ProviderError> {
        let cell = order.cell.to_string();
        let instance = Names::new(hub).cell_instance(&cell);
        if instance.len() > INSTANCE_LEN {
            let room = INSTANCE_LEN.saturating_sub(hub.len() + 2);
            return Err(invalid(
                "cell",
                format!(
                    "{cell} is too long for a local cell of instance {hub}; take a name of up to {room} letters"
                ),
            ));
        }
        let ranges = Ranges {
            nodes: order.ranges.nodes.into(),
            pods: order.ranges.pods.into(),
            services: order.ranges.services.into(),
        };
        let slot = Slot::of(&ranges);
        let slot = slot.ok_or_else(|| invalid("network", Refusal::Ranges(ranges.to_string()).to_string()))?;
        Ok(Self {
            token: order.token.to_string(),
            cell,
            instance,
            slot,
            region: order.region.to_string(),
            zones: order.zones.iter().map(ToString::to_string).collect(),
            nodes_per_zone: order.nodes_per_zone,
        })
    }

    /// Whether this may follow what was ordered before: the same, or with more nodes.
    pub(crate) fn follows(&self, stands: &Self) -> Result<(), ProviderError> {
        let Self {
            nodes_per_zone: nodes,
            ..
        } = *self;
        if nodes < stands.nodes_per_zone {
            let had = stands.nodes_per_zone;
            let message =
                format!("{nodes} in each zone are fewer than the {had} that stand; a cell only grows");
            return Err(invalid("nodes_per_zone", message));
        }
        let same = Self {
            nodes_per_zone: nodes,
            ..stands.clone()
        };
        if *self == same {
            return Ok(());
        }
        let message = format!(
            "{} names another order of cell {} already",
            self.token, stands.cell
        );
        Err(invalid("token", message))
    }
}

fn invalid(field: &'static str, message: String) -> ProviderError {
    ProviderError::Invalid { field, message }
}

/// The cells that were ordered under one hub's state directory.
#[derive(Clone, Debug)]
pub(crate) struct Ordered {
    dir: PathBuf,
}

impl Ordered {
    pub(crate) fn under(hub: &Path) -> Self {
        Self {
            dir: hub.join("cells"),
        }
    }

    /// A cell's state directory.
    pub(crate) fn home(&self, cell: &str) -> PathBuf {
        self.dir.join(cell)
    }

    /// The tag of everything that was made for an order.
    fn file(&self, cell: &str) -> PathBuf {
        self.home(cell).join("order.json")
    }

    /// Every order of which something may stand.
    pub(crate) fn all(&self) -> Result<Vec<Tag>, Error> {
        let mut tags = Vec::new();
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            tags.extend(state::read::<Tag>(&entry.path().join("order.json"))?);
        }
        tags.sort_by(|one, other| one.cell.cmp(&other.cell));
        Ok(tags)
    }

    pub(crate) fn find(&self, token: &Token) -> Result<Option<Tag>, Error> {
        let is_it = |tag: &Tag| tag.token == token.as_str();
        Ok(self.all()?.into_iter().find(is_it))
    }

    pub(crate) fn of_cell(&self, cell: &str) -> Result<Option<Tag>, Error> {
        state::read(&self.file(cell))
    }

    /// Keeps a tag; before anything is made for it.
    pub(crate) fn keep(&self, tag: &Tag) -> Result<(), Error> {
        if self.of_cell(&tag.cell)?.as_ref() == Some(tag) {
            return Ok(());
        }
        let home = self.home(&tag.cell);
        std::fs::create_dir_all(&home).map_err(Error::io("make", &home))?;
        state::write(&self.file(&tag.cell), tag)
    }

    /// Removes a cell's state, the tag last: what is left after a crash is still found by it.
    pub(crate) fn forget(&self, cell: &str) -> Result<(), Error> {
        let (home, tag) = (self.home(cell), self.file(cell));
        for entry in std::fs::read_dir(&home).into_iter().flatten().flatten() {
            let path = entry.path();
            if path == tag {
                continue;
            }
            let removed = if path.is_dir() && !path.is_symlink() {
                std::fs::remove_dir_all(&path)
            } else {
                std::fs::remove_file(&path)
            };
            removed.map_err(Error::io("remove", &path))?;
        }
        let gone = std::fs::remove_dir_all(&home);
        match gone {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &home)(error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_builder::Registration;

    use super::*;

    fn order(cell: &str, nodes_per_zone: u8) -> Order {
        let slot = Slot::try_from(3).unwrap();
        Order {
            token: "t-1".parse().unwrap(),
            cell: cell.to_owned().try_into().unwrap(),
            pool: "local".into(),
            region: "local".to_owned().try_into().unwrap(),
            domain: "skep.internal".parse().unwrap(),
            zones: vec!["a".to_owned().try_into().unwrap()],
            nodes_per_zone,
            node_type: None,
            ranges: skep_builder::Ranges {
                nodes: slot.nodes(),
                pods: slot.pods(),
                services: slot.services(),
            },
            registration: Registration {
                hub: "https://198.18.0.2:6443".into(),
                authority: String::new(),
                token: Some("a.secret".into()),
            },
        }
    }

    fn field(result: &Result<impl Sized, ProviderError>) -> &'static str {
        match result {
            Err(ProviderError::Invalid { field, .. }) => field,
            _ => "none",
        }
    }

    #[test]
    fn an_order_has_its_instance_and_its_ranges() {
        let tag = Tag::of(&order("two", 1), "loc").unwrap();
        assert_eq!(tag.instance, "loc--two");
        assert_eq!(tag.slot, Slot::try_from(3).unwrap());
        assert!(!format!("{tag:?}").contains("secret"));
    }

    #[test]
    fn what_cannot_be_had_here_is_refused_by_its_field() {
        assert_eq!(field(&Tag::of(&order("a-rather-long-name", 1), "loc")), "cell");
        let mut foreign = order("two", 1);
        foreign.ranges.pods = "10.0.0.0/16".parse().unwrap();
        assert_eq!(field(&Tag::of(&foreign, "loc")), "network");
    }

    #[test]
    fn an_order_is_repeated_or_grows() {
        let tag = |nodes| Tag::of(&order("two", nodes), "loc").unwrap();
        assert_eq!(field(&tag(1).follows(&tag(1))), "none");
        assert_eq!(field(&tag(2).follows(&tag(1))), "none");
        assert_eq!(field(&tag(1).follows(&tag(2))), "nodes_per_zone");
        let mut other = tag(1);
        other.token = "t-2".into();
        assert_eq!(field(&other.follows(&tag(1))), "token");
    }

    #[test]
    fn what_was_ordered_is_found_by_its_token_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let ordered = Ordered::under(dir.path());
        assert_eq!(ordered.all().unwrap(), []);
        let tag = Tag::of(&order("two", 1), "loc").unwrap();
        ordered.keep(&tag).unwrap();
        ordered.keep(&tag).unwrap();
        let token = "t-1".parse().unwrap();
        assert_eq!(ordered.find(&token).unwrap().as_ref(), Some(&tag));
        std::fs::create_dir_all(ordered.home("two").join("log/x")).unwrap();
        ordered.forget("two").unwrap();
        ordered.forget("two").unwrap();
        assert_eq!(ordered.find(&token).unwrap(), None);
        assert!(!ordered.home("two").exists());
    }
}
