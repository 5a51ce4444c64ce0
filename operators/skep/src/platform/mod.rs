//! The local platform: what `skep up`, `down`, `status` and `doctor` do on this machine.
//!
//! It puts the pieces of other crates in order; how a node or an image is made is theirs.

pub mod cells;
pub mod demo;
pub mod doctor;
pub mod down;
pub mod home;
mod install;
pub mod node;
mod packages;
pub mod progress;
pub mod status;
pub mod up;
