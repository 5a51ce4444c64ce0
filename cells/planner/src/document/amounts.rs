//! Amounts of a document: numbers of whole units, checked and turned into thousandths.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Fault;
use crate::demand::Demand;
use crate::resource::{MILLI, Resource, Vector};

/// The most that a tenant may take of one dimension, in units: what fits into 32 bits of thousandths.
pub const MOST_OF_A_TENANT: f64 = 4_000_000.0;
/// The most that a zone may have of one dimension, in units.
pub const MOST_OF_A_ZONE: f64 = 1e12;

/// Means and deviations by dimension, in units.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DemandDocument {
    /// Means.
    #[serde(default)]
    pub mean: BTreeMap<Resource, f64>,
    /// Standard deviations.
    #[serde(default)]
    pub deviation: BTreeMap<Resource, f64>,
}

impl DemandDocument {
    /// Checks it; what is wrong counts as nothing and is named.
    pub fn check(&self, field: &str, faults: &mut Vec<Fault>) -> Demand {
        let mut vector = |part: &str, amounts: &BTreeMap<Resource, f64>| {
            Vector::from_fn(|r| {
                let Some(amount) = amounts.get(&r) else {
                    return 0;
                };
                match milli(*amount, MOST_OF_A_TENANT) {
                    Ok(milli) => u32::try_from(milli).unwrap_or(u32::MAX),
                    Err(message) => {
                        faults.push(Fault::new(format!("{field}.{part}.{r}"), message));
                        0
                    }
                }
            })
        };
        Demand {
            mean: vector("mean", &self.mean),
            deviation: vector("deviation", &self.deviation),
        }
    }
}

/// Thousandths of an amount that is a number from 0 and up to a limit.
pub fn milli(amount: f64, most: f64) -> Result<u64, String> {
    if !amount.is_finite() || amount < 0.0 {
        return Err(format!("{amount} is no number from 0"));
    }
    if amount > most {
        return Err(format!("{amount} is more than {most}"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked just before"
    )]
    let milli = (amount * MILLI).round() as u64;
    Ok(milli)
}
