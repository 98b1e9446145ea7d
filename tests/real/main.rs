//! The gateway with outside programs: Python workers, RPyC servers, mt5linux, nginx, Prometheus and
//! Chromium. `tests/run` installs them.

#[path = "../common/mod.rs"]
mod common;

mod broker;
mod bulk;
mod console;
mod doctor;
mod fault_run;
mod monitoring;
mod nginx;
mod openapi;
mod pages;
mod prometheus;
mod provisioning;
mod readme;
mod rpyc;
mod streams;
mod tools;
mod trading;
mod worker;
