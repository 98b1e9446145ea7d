//! Refuses requests by their head alone, before a route is looked for.
//!
//! A browser lets every page of the world send requests to addresses that only its user can reach.
//! Two headers tell such requests apart, because a page cannot set them. `Host` names the site that
//! the browser believes to talk to, which differs from the gateway's after DNS rebinding. `Origin`
//! names the page that sends the request; without it, `Sec-Fetch-Site` says how the page relates to
//! the gateway.
//!
//! [`Admission`] decides, and [`choose_coding`] whether there is a coding for the answer, before
//! anything acts on the request. [`AdmissionService`] answers what was refused, and turns panics below
//! it into problems, so that the layers above it, CORS among them, see one kind of response.

mod authority;
mod coding;
mod head;
mod service;

pub use self::coding::choose_coding;
pub use self::head::{Admission, check_size, is_for_any_host};
pub use self::service::AdmissionService;
