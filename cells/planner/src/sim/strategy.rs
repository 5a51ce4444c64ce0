//! What is compared.

use serde::Serialize;

use crate::policy::Policy;

/// A way to decide when a pool gets a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// A cell is ordered when the mean use passes such a percentage of what there is; deviations do not count.
    Static(u8),
    /// Deviations and a forecast over the lead time.
    Planner,
    /// The fewest cells that could hold each day's loads, known beforehand: no strategy can do better.
    Bound,
}

impl Strategy {
    /// All that a table shows.
    pub const ALL: [Self; 5] = [
        Self::Static(70),
        Self::Static(80),
        Self::Static(90),
        Self::Planner,
        Self::Bound,
    ];

    /// The policy that decides so.
    pub(super) fn policy(self, own: &Policy) -> Policy {
        match self {
            Self::Planner | Self::Bound => *own,
            Self::Static(percent) => Policy {
                z: 0.0,
                // Never a forecast.
                history_days: u32::MAX,
                order_share: (f64::from(percent) / 100.0 / own.kappa).min(1.0),
                ..*own
            },
        }
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Static(percent) => write!(f, "static {percent}%"),
            Self::Planner => f.write_str("planner"),
            Self::Bound => f.write_str("lower bound"),
        }
    }
}
