//! What a request says, parsed: its query, its body, and the values in them.
//!
//! Every value has one parser, used for queries and bodies alike, whose error says what was
//! expected. An unknown or repeated name is always an error.
//!
//! serde's derive with `deny_unknown_fields` is not used: its errors lack what was expected in the
//! route's own words, the hints (a time without its zone, milliseconds instead of seconds), and the
//! names that the route takes.

pub mod body;
pub mod fields;
pub mod history_span;
pub mod moment;
pub mod query;
