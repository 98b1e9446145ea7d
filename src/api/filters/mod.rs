//! What a request says, parsed: its query, its body, and the values in them.
//!
//! Every value has one parser, used for queries and bodies alike, whose error says what was
//! expected. An unknown or repeated name is always an error.

pub mod body;
pub mod fields;
pub mod history_span;
pub mod moment;
pub mod query;
