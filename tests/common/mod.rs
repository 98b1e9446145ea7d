//! Helpers of both test binaries.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

mod harness;
pub mod pages;

pub use harness::{Body, Gateway, PATIENCE, Reply, command, metric, signal};
