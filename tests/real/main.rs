//! The gateway with real outside programs: Python workers, the mt5linux client
//! over a real RPyC server, promtool and Prometheus. `tests/run` installs them.

#[path = "../common/mod.rs"]
mod common;

mod broker;
mod bulk;
mod console;
mod fault_run;
mod monitoring;
mod nginx;
mod openapi;
mod pages;
mod prometheus;
mod readme;
mod streams;
mod tools;
mod trading;
mod worker;
