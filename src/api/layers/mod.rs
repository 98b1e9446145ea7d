//! The layers between a connection and the routes, from the outside in.
//!
//! 1. [`request_log`] gives the request its id and context, has its head judged by [`admission`],
//!    writes the bodies of problems, compresses by [`compression`], and records how it ended.
//! 2. [`cors`] answers preflights and says which pages may read the answer.
//! 3. [`admission`]'s service answers what was refused, and catches panics.
//!
//! The chain of filters sees of a request what it routes by: method and path. The rest travels in the
//! request's context.
//!
//! A problem travels from wherever it arises to the outermost layer, in the extensions of the
//! response, because only that layer knows the request id and writes problem bodies.
//!
//! CORS and compression are tower-http's. Its request ids, panics, body limits and timeouts are not
//! used: it takes any id that a client sends, boxes every body to catch panics, and answers 408 and
//! 413 without a problem, where a trade needs its own answer.

pub mod admission;
mod bodies;
mod client_address;
pub mod compression;
pub mod cors;
pub mod request_log;
mod request_record;
