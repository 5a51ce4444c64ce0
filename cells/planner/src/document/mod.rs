//! The file form of what is planned from: YAML or JSON, checked field by field.
//!
//! What people write is refused when it is wrong. What cells report is not: a bad report closes its cell and is named.

mod amounts;
mod pools;
mod tenants;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::class::{self, Range};
use crate::model::{Class, Classes, Input, Name, SIGNALS, Seconds, Signal, SizeClass};
use crate::policy::Policy;

pub use amounts::{DemandDocument, MOST_OF_A_TENANT, MOST_OF_A_ZONE, milli};
pub use pools::{CellDocument, PoolDocument, ZoneDocument};
pub use tenants::{TenantDocument, tenants};

/// Something wrong in a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Fault {
    /// The field.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Fault {
    /// A fault of a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }
}

/// Everything that a plan is made from, as people write it. Times are seconds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// The time of the plan.
    #[serde(default)]
    pub now: Seconds,
    /// How decisions are made; what is left out has its default.
    #[serde(default)]
    pub policy: Policy,
    /// The size classes.
    pub classes: BTreeMap<Class, ClassDocument>,
    /// Pools by name.
    pub pools: BTreeMap<Name, PoolDocument>,
    /// Cells by name.
    #[serde(default)]
    pub cells: BTreeMap<Name, CellDocument>,
    /// Tenants by name.
    #[serde(default)]
    pub tenants: BTreeMap<Name, TenantDocument>,
}

/// A size class.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassDocument {
    /// What a tenant of the class takes while nothing else is known.
    #[serde(default)]
    pub prior: DemandDocument,
    /// The same for a tenant in one zone; as over all zones when left out.
    #[serde(default)]
    pub single: Option<DemandDocument>,
    /// For each signal from which value, and up to which, a tenant is of the class; no end means without one.
    pub criteria: BTreeMap<Signal, (u32, Option<u32>)>,
}

/// What is wrong in a file: its form, or some fields.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is no YAML, or has an unknown or missing key; says the line.
    #[error("it cannot be read: {0}")]
    Form(String),
    /// Fields are wrong.
    #[error("{} {} wrong: {}", .0.len(), if .0.len() == 1 { "field is" } else { "fields are" }, list(.0))]
    Fields(Vec<Fault>),
}

fn list(faults: &[Fault]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    faults.join("; ")
}

/// Reads YAML; an error is its first line, which says line, column and key.
pub(crate) fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, DocumentError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        DocumentError::Form(first.trim_start_matches("error: ").to_owned())
    })
}

impl Document {
    /// Reads YAML, of which JSON is a part.
    ///
    /// # Errors
    /// When it is none, or a key is unknown or missing; with the line.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        read(text)
    }

    /// Checks it.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn check(self) -> Result<Input, DocumentError> {
        let mut faults: Vec<Fault> = self.policy.faults().into_iter().map(policy_fault).collect();
        let classes = classes(&self.classes, &mut faults);
        let pools = pools::pools(self.pools, &mut faults);
        let cells = pools::cells(self.cells, &pools, &mut faults);
        let tenants = tenants::tenants(self.tenants, self.now, &classes, &cells, &mut faults);
        if !faults.is_empty() {
            return Err(DocumentError::Fields(faults));
        }
        Ok(Input {
            now: self.now,
            policy: self.policy,
            classes,
            pools,
            cells,
            tenants,
        })
    }
}

fn policy_fault((field, message): (&'static str, String)) -> Fault {
    Fault::new(format!("policy.{field}"), message)
}

/// The classes of a document.
pub fn classes(documents: &BTreeMap<Class, ClassDocument>, faults: &mut Vec<Fault>) -> Classes {
    let empty = ClassDocument::default();
    let mut ranges: [Vec<Range>; SIGNALS] = Default::default();
    for class in Class::ALL {
        let Some(document) = documents.get(&class) else {
            faults.push(Fault::new("classes", format!("class {class} is missing")));
            continue;
        };
        for signal in Signal::ALL {
            match document.criteria.get(&signal) {
                Some((from, to)) => ranges[signal as usize].push((class, *from, *to)),
                None => faults.push(Fault::new(
                    format!("classes.{class}.criteria"),
                    format!("signal {} is missing", signal.name()),
                )),
            }
        }
    }
    let limits = class::limits(&ranges).unwrap_or_else(|gaps| {
        faults.extend(gaps.into_iter().map(|gap| Fault::new("classes", gap)));
        Default::default()
    });
    Classes(Class::ALL.map(|class| {
        let document = documents.get(&class).unwrap_or(&empty);
        let prior = document.prior.check(&format!("classes.{class}.prior"), faults);
        let single = document.single.as_ref();
        let single = single.map(|single| single.check(&format!("classes.{class}.single"), faults));
        SizeClass {
            prior,
            single: single.unwrap_or(prior),
            limits: limits[class as usize],
        }
    }))
}
