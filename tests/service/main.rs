//! The gateway's process, tested from outside. The simulator stands for the terminals, so this needs
//! nothing but Rust.

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod bulk;
mod cli;
mod console;
mod doctor;
mod documents;
mod keys;
mod logs;
mod metrics;
mod pages;
mod pool;
mod protocol;
mod reads;
mod reload;
mod sampler;
mod settings;
mod store;
mod store_load;
mod streams;
mod systemd;
mod trading;
mod utc;
