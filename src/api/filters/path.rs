//! The variable segments of a path.
//!
//! `and` hands no value to the filters further in, and a segment that each of them took for itself would be
//! decoded as often as a path is tried. So a segment is taken once, in front of everything below it, and noted
//! in the request's context, where the handler finds it.

use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;

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

/// The request's context, which the outermost layer has put into its extensions.
pub fn context() -> impl Filter<Extract = (Arc<RequestContext>,), Error = Rejection> + Copy {
    warp::ext::get()
}

fn segment(
    note: impl Fn(&RequestContext, String) + Copy + Send + Sync,
) -> impl Filter<Extract = (), Error = Rejection> + Copy {
    warp::path::param::<Decoded>()
        .and(context())
        .map(move |Decoded(segment), context: Arc<RequestContext>| note(&context, segment))
        .untuple_one()
}

/// A segment without its percent-encoding, which warp leaves as it is.
struct Decoded(String);

impl FromStr for Decoded {
    type Err = Infallible;

    fn from_str(segment: &str) -> Result<Decoded, Infallible> {
        Ok(Decoded(percent_decode_str(segment).decode_utf8_lossy().into_owned()))
    }
}
