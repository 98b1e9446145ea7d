//! The gateway by its public face, with nothing but Rust: the simulator stands
//! for the terminals.

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod bulk;
mod cli;
mod console;
mod documents;
mod keys;
mod logs;
mod metrics;
mod pages;
mod pool;
mod protocol;
mod reads;
mod sampler;
mod settings;
mod streams;
mod trading;
mod utc;
