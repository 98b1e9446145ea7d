//! mt5-gateway: a pool of MetaTrader 5 terminals as one REST service, measured at `/metrics`.
//!
//! `docs/architecture.md` follows a request, a trade and an event through the rooms. The rooms in reading
//! order; a lower one never names a higher one:
//!
//! [`clock`], [`files`], [`account_name`] and `text` serve every room: a clock that counts suspension, by
//! which trades are limited, files that only the gateway's user may read, the names of accounts, and
//! texts that were checked once.
//!
//! [`mt5`] is MetaTrader 5's vocabulary, without I/O. One table states for each of the package's functions
//! what it takes, what it returns and what the gateway may do with a call of it. Beside it are the records,
//! packed rows, error and return codes, and the arithmetic of the server's clock.
//!
//! [`actor`] is what all actors share: addresses that survive a restart, the depths of mailboxes, and the
//! one restart budget by which every supervisor retries or gives up its children.
//!
//! [`terminal`] is one terminal: the trait `Terminal`, the simulator, and the Python worker with its process
//! and frames. A terminal answers calls and never restarts itself.
//!
//! [`metrics`] is the catalog of metric families, the actor that owns them and renders snapshots, and the
//! instruments of HTTP and streams. [`sampler`] is the actor that measures the machine.
//!
//! [`pool`] owns the terminals: sessions and their supervisor, which session serves which call, how many
//! calls may wait, reads that are joined, histories that are fetched in pages, bars that are cached.
//!
//! [`trading`] sends each trade once or never: the actor that admits trades, their executions, the rules
//! that a request has to keep, the journal, and the reconcilers that find out about lost answers.
//!
//! [`streams`] sends what changes: a hub per account polls for all of its subscribers, each of which is a
//! position in a ring of events.
//!
//! [`root`] is the root actor. It supervises the metrics actor, the sampler, the pool, trading and streams.
//!
//! [`lifecycle`] is how accounts come and go while the gateway runs.
//!
//! [`api`] is HTTP: connections, the layers that log, admit and refuse requests, the filter chain of routes,
//! problems, exports, the OpenAPI document and the console.
//!
//! [`service`] is the service manager that started the process, and what it is told.
//!
//! [`administration`] reads the settings again and applies what has changed.
//!
//! [`control`] is commands to a gateway that runs. [`doctor`] looks at everything on the way from the
//! settings to a quote, through such a gateway or by starting the accounts itself.
//!
//! [`settings`], [`telemetry`] and [`app`] are configuration, logs, and the order of start and shutdown.

#![warn(clippy::unwrap_used)]
// The chain of filters is one type, as deep as there are routes.
#![recursion_limit = "256"]

pub mod account_name;
pub mod actor;
pub mod administration;
pub mod api;
pub mod app;
pub mod clock;
pub mod control;
pub mod doctor;
pub mod files;
pub mod lifecycle;
pub mod metrics;
pub mod mt5;
pub mod pool;
pub mod root;
pub mod sampler;
pub mod service;
pub mod settings;
mod signals;
pub mod streams;
pub mod telemetry;
pub mod terminal;
mod text;
pub mod trading;
