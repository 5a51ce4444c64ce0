//! A provider of cells behind HTTPS: the machines are made in one place and asked for from another.
//!
//! A server hands on to any [`skep_builder::CellProvider`]; the client is one itself. Whoever has the bearer token may have cells
//! made and removed; the server's authority is pinned. A lost answer is no loss, as every call may be repeated.

mod client;
mod server;
mod wire;

pub use client::{ClientError, RemoteProvider};
pub use server::{Identity, ServeError, serve};
