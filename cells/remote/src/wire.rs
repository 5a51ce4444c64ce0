//! What goes over the wire beside orders and answers: why something was not done.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_builder::ProviderError;
use skep_runtime::error::chain;

/// A [`ProviderError`] as JSON; causes come as one text.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Refusal {
    Invalid {
        field: String,
        message: String,
    },
    Exhausted {
        resource: String,
        message: String,
    },
    Transient {
        what: String,
        after: Option<Duration>,
        message: String,
    },
    Refused {
        what: String,
        message: String,
    },
}

/// What the provider behind the server said of the cause.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Told(String);

/// Fields of an order by which a refusal may be told; others come as `order`.
const FIELDS: [&str; 12] = [
    "cell",
    "domain",
    "metadata.name",
    "network",
    "network.nodes",
    "network.pods",
    "network.services",
    "nodes_per_zone",
    "region",
    "token",
    "zones",
    "node_type",
];

impl From<ProviderError> for Refusal {
    fn from(error: ProviderError) -> Self {
        match error {
            ProviderError::Invalid { field, message } => Self::Invalid {
                field: field.to_owned(),
                message,
            },
            ProviderError::Exhausted { resource, message } => Self::Exhausted { resource, message },
            ProviderError::Transient { what, after, source } => Self::Transient {
                what,
                after,
                message: chain(source.as_ref()),
            },
            ProviderError::Refused { what, source } => Self::Refused {
                what,
                message: chain(source.as_ref()),
            },
        }
    }
}

impl From<Refusal> for ProviderError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid { field, message } => Self::Invalid {
                field: FIELDS
                    .into_iter()
                    .find(|known| *known == field)
                    .unwrap_or("order"),
                message,
            },
            Refusal::Exhausted { resource, message } => Self::Exhausted { resource, message },
            Refusal::Transient { what, after, message } => Self::Transient {
                what,
                after,
                source: Box::new(Told(message)),
            },
            Refusal::Refused { what, message } => Self::Refused {
                what,
                source: Box::new(Told(message)),
            },
        }
    }
}
