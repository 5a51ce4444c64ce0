//! The planner of cells: which cell takes a tenant, which class a tenant is, when a pool gets or loses a cell.
//!
//! Pure: time and chance are arguments, nothing is read or written, and no Kubernetes client is known here. The same input
//! and seed give the same plan, whatever the input's order.

pub mod class;
mod class_step;
mod decide;
pub mod demand;
pub mod document;
mod draft;
pub mod forecast;
pub mod histogram;
pub mod instance;
pub mod model;
mod move_step;
pub mod pack;
mod place;
mod plan;
mod policy;
mod pool_step;
mod report;
mod resource;
mod room;
pub mod sim;
mod state;

pub use demand::Demand;
pub use model::Input;
pub use place::Answer;
pub use plan::{Drain, Move, Order, Placement, Plan, Shortage, Switch, WatchChange, plan};
pub use policy::Policy;
pub use report::{Decision, PoolReport, Refusal, Report, Rule};
pub use resource::{Resource, Vector};
pub use room::{Binding, Room};
pub use state::{Delta, State};
