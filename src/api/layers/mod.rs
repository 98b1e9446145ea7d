//! The layers between a connection and the routes, from the outside in.
//!
//! 1. [`request_log`] gives the request its id and context, writes the bodies of problems, and
//!    records how it ended.
//! 2. [`cors`] answers preflights and says which pages may read the answer.
//! 3. [`admission`] refuses by the head alone, chooses the coding of the answer, and catches
//!    panics.
//! 4. [`compression`] compresses.
//!
//! A problem travels from wherever it arises to the outermost layer, in the extensions of the
//! response, because only that layer knows the request id and writes problem bodies.

pub mod admission;
mod bodies;
mod client_address;
pub mod compression;
pub mod cors;
pub mod request_log;
mod request_record;
