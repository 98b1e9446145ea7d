//! The gateway with outside programs: Python workers, mt5linux with an RPyC server, nginx, Prometheus
//! and Chromium. `tests/run` installs them.

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
