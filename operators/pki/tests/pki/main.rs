//! What is made of keys and names, judged by rustls' own verifier and against requests of OpenSSL.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod authority;
mod chain;
mod configurations;
mod requests;
