//! mt5-gateway: a pool of MetaTrader 5 terminals as one REST service, measured
//! at `/metrics`.
//!
//! The rooms, in reading order; a lower one never names a higher one:
//!
//! - [`clock`]: a clock that counts suspension.
//! - [`files`]: files that only the service's user may read.
//! - [`mt5`]: the vocabulary of MetaTrader 5, data and arithmetic only.
//! - [`terminal`]: one terminal, simulated or behind a Python worker.
//! - [`actor`]: how actors are addressed.
//! - [`metrics`]: every metric family, the actor that owns them, HTTP's instruments.
//! - [`sampler`]: the actor that measures the machine.
//! - [`pool`]: who owns terminals, who may use them, when they are replaced.
//! - [`trading`]: one fate for each trade: journal, sending, reconciliation.
//! - [`streams`]: what changes, as it changes.
//! - [`root`]: the root actor.
//! - [`api`]: connections, layers, routes, problems, OpenAPI.
//! - [`settings`], [`telemetry`], [`app`]: what is configured, logs, start and end.

#![warn(clippy::unwrap_used)]

pub mod actor;
pub mod api;
pub mod app;
pub mod clock;
pub mod files;
pub mod metrics;
pub mod mt5;
pub mod pool;
pub mod root;
pub mod sampler;
pub mod settings;
pub mod streams;
pub mod telemetry;
pub mod terminal;
pub mod trading;
