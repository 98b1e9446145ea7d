//! The REST service.
//!
//! A request passes, from the outside in, the accept loop ([`server`]), its [`connection`], the
//! [`layers`], and the filter chain of [`routes`]. [`filters`] parse what it says, [`export`]
//! writes rows, and every error becomes a [`problem`]. This room reaches a terminal only through
//! the pool's accounts.

mod administration;
mod auth;
mod authorized;
mod connection;
mod context;
pub mod export;
mod filters;
mod layers;
mod openapi;
mod options;
mod problem;
mod reply;
mod request_headers;
mod routes;
mod server;
mod state;

pub use self::administration::{
    Administration, ChangeKind, Refusal, Reloaded, SettingChange, StillAllowed,
};
pub use self::auth::{Key, Keys, LiveKeys, Scope};
pub use self::openapi::openapi_document;
pub use self::options::Options;
pub use self::problem::{Problem, ProblemType};
pub use self::server::{connections, serve};
pub use self::state::{App, ScrapeLimit};
