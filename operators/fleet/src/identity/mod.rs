//! `identity`: approves the signing requests of cells' agents, and nothing else.
//!
//! A request in a cell's name that is wrong in any way is denied with the reason; requests that do not speak
//! of cells are somebody else's and left alone. Signing is Kubernetes' own signer's work.

mod controller;
mod grant;
mod registration;
mod verdict;

pub use controller::{Error, Settings, run};
pub use registration::{BootstrapId, Refusal, Use, check_standing, check_token, is_standing};
pub use skep_core::{KeyName, Registration};
pub use verdict::{Denial, Verdict, judge};

/// The controller's name: of its field manager, role and metrics.
pub const NAME: &str = "identity";
/// The longest validity that is approved, in seconds: a day.
pub const LONGEST_SECONDS: i32 = 86_400;
