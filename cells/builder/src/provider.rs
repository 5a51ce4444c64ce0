//! The trait, and what its answers say.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Order, ProviderError, Token};

/// Makes cells, lets them grow and removes them.
///
/// Every call may be repeated, and may be cut off at any point: what stands is found by the order's token, and the next
/// call goes on from there.
#[async_trait]
pub trait CellProvider: Send + Sync {
    /// What an order would cost and how long it would take; makes nothing.
    async fn quote(&self, order: &Order) -> Result<Quote, ProviderError>;

    /// Makes what is missing of an ordered cell, as far as that can be done without waiting for long.
    ///
    /// An order with more nodes than stand lets the cell grow; one with fewer is refused.
    async fn create(&self, order: &Order) -> Result<Stage, ProviderError>;

    /// What stands of a cell; nothing where nothing carries its token.
    async fn describe(&self, token: &Token) -> Result<Option<Described>, ProviderError>;

    /// Removes what carries a token, as far as that can be done without waiting for long.
    async fn delete(&self, token: &Token) -> Result<Deletion, ProviderError>;

    /// What carries this platform's tag and none of the given tokens.
    async fn leaks(&self, known: &BTreeSet<Token>) -> Result<Vec<Leak>, ProviderError>;
}

/// What an order would cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quote {
    /// In thousandths of a dollar an hour.
    pub price_milli: i64,
    /// How long a cell usually takes until its agent checks in.
    pub lead: Duration,
    /// How many nodes more the provider's quotas admit now; unknown where it does not say.
    pub nodes_left: Option<u32>,
}

/// How far a cell has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Stage {
    /// Something is still missing.
    Building {
        /// What is waited for, for people.
        waits_for: String,
        /// When to look again.
        after: Duration,
    },
    /// Everything of the order stands at the provider; that its agent checks in is not the provider's business.
    Standing(Described),
}

/// What stands of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// Its nodes, by zone, with the number of those that run.
    pub nodes: Vec<(String, u32)>,
    /// Where its API server is reached, `host:port`; nothing as long as it has none.
    pub api: Option<String>,
    /// Where its tenants are reached, `host:port`; nothing as long as it has none.
    pub gateway: Option<String>,
    /// Everything that carries the token, as `kind/id`.
    pub parts: Vec<String>,
}

/// How far a deletion has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Deletion {
    /// Something is still there.
    Going {
        /// What is waited for, for people.
        waits_for: String,
        /// When to look again.
        after: Duration,
    },
    /// Nothing carries the token any more.
    Gone,
}

/// Something that nobody asked for any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leak {
    /// What it is, as `kind/id`.
    pub part: String,
    /// The token that it carries.
    pub token: String,
}
