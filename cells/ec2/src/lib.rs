//! Cells on AWS EC2, behind the trait of all providers.
//!
//! Nothing is remembered here: every part carries the order's token as a tag from its birth, is looked for by it, and what
//! is missing is made. So a call may be repeated, and cut off anywhere. Two parts that a lost reply made of one are found
//! by the same tag, and one of them goes.

mod delete;
mod error;
mod instances;
mod interfaces;
mod layout;
mod network;
mod observe;
mod price;
mod provider;
mod settings;
mod tags;
mod user_data;

pub use layout::{Layout, ZoneLayout};
pub use provider::Ec2Provider;
pub use settings::Settings;
