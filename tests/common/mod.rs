//! Helpers of the test binaries.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

pub mod fault_run;
mod harness;
pub mod pages;

pub use harness::{Body, Gateway, PATIENCE, Reply, command, metric, signal};
