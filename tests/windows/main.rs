//! MetaQuotes' own package in Windows Python, under the gateway's worker, with a terminal of ours behind it.
//!
//! `tests/windows/run` installs what these tests need and runs them, first with the Linux gateway and then
//! with the Windows one. Without it they are ignored.

#[path = "../common/mod.rs"]
mod common;

mod double;
mod faults;
mod processes;
mod provisioning;
mod reads;
mod stage;
mod trades;
mod vocabulary;
