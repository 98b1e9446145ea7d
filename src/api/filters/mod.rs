//! What the chain of filters in [`routes`](super::routes) is made of, and what a request says,
//! parsed: its path, its query, its headers, its body, and the values in them.
//!
//! [`path`] takes the variable segments of a path. [`route`] stands where a path has matched: its
//! methods, and their handlers.
//!
//! Every value has one parser, used for queries and bodies alike, whose error says what was
//! expected. An unknown or repeated name is always an error.
//!
//! serde's derive with `deny_unknown_fields` is not used: its errors lack what was expected in the
//! route's own words, the hints (a time without its zone, milliseconds instead of seconds), and the
//! names that the route takes.

pub mod body;
pub mod fields;
pub mod headers;
pub mod history_filter;
pub mod history_span;
pub mod moment;
pub mod path;
pub mod query;
pub mod route;
pub mod trade_headers;
