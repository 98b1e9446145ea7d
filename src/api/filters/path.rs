//! The variable segments of a path.
//!
//! `and` hands no value to the filters further in, and a segment that each of them took for itself would be
//! decoded as often as a path is tried. So a segment is taken once, in front of everything below it, and noted
//! in the request's context, where the handler finds it.

use std::convert::Infallible;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use warp::{Filter, Rejection};

use crate::api::context::RequestContext;

/// Takes the name of an account.
pub fn account() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    segment(RequestContext::note_account_segment)
}

/// Takes what names one of many: a symbol, a ticket, a trade, a file.
pub fn item() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    segment(RequestContext::note_item_segment)
}

/// Takes a segment with which the path ends.
pub fn last(segment: &'static str) -> impl Filter<Extract = (), Error = Rejection> + Copy {
    warp::path(segment).and(warp::path::end())
}

fn segment(
    note: impl Fn(&RequestContext, String) + Copy + Send + Sync,
) -> impl Filter<Extract = (), Error = Rejection> + Copy {
    warp::path::param::<Decoded>()
        .map(move |Decoded(segment)| note(&RequestContext::current(), segment))
        .untuple_one()
}

/// A segment without its percent-encoding, which warp leaves as it is.
struct Decoded(String);

impl FromStr for Decoded {
    type Err = Infallible;

    fn from_str(segment: &str) -> Result<Decoded, Infallible> {
        if !segment.contains('%') {
            return Ok(Decoded(segment.to_owned()));
        }
        Ok(Decoded(percent_decode_str(segment).decode_utf8_lossy().into_owned()))
    }
}
