//! The schema of a problem.
//!
//! [`Problem`](crate::api::Problem) writes its members one by one, because each type of problem has its own. So
//! their description stands here.

use std::collections::BTreeMap;

use utoipa::ToSchema;

use crate::api::routes::{ExecutedTrade, PresentBody, ReadySessions};
use crate::mt5::TradeRequest;

/// A problem, as every error is answered (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "shows the shape of the JSON that `Problem` writes")]
pub struct ProblemBody {
    /// What kind of problem it is; `docs/errors.md` lists every one.
    #[schema(example = "/problems/not-found")]
    r#type: String,
    /// The kind in words.
    title: String,
    /// The status.
    #[schema(example = 404)]
    status: u16,
    /// What was wrong, with what, and what to do.
    detail: String,
    /// Also the header `X-Request-Id` and a field of the log.
    request_id: String,
    /// What the terminal or the broker said, if one did.
    #[schema(nullable = false)]
    mt5: Option<Mt5Body>,
    /// Of a trade: its id, for `trades/{trade_id}`.
    #[schema(nullable = false)]
    trade_id: Option<String>,
    /// Of `trade-refused`: the broker's whole answer.
    #[schema(nullable = false)]
    result: Option<ExecutedTrade>,
    /// Of `trade-superseded`: the position or order as it was found; `null`: there is none any more.
    present: Option<PresentBody>,
    /// Of `trade-superseded`: what was to be sent.
    intended: Option<TradeRequest>,
    /// Of `outcome-unknown`: tickets of orders any of which could be the trade's.
    #[schema(nullable = false)]
    candidates: Option<Vec<u64>>,
    /// Of `trade-not-sent`: where the time went.
    #[schema(nullable = false)]
    spent_seconds: Option<SpentBody>,
    /// Of `not-ready` from `/readyz`: the sessions of each account.
    #[schema(nullable = false)]
    accounts: Option<BTreeMap<String, ReadySessions>>,
}

#[derive(ToSchema)]
#[schema(as = Mt5Error)]
#[expect(dead_code, reason = "shows a part of the JSON that `Problem` writes")]
struct Mt5Body {
    /// MT5's error code, or the return code of a trade.
    #[schema(example = -4)]
    code: i64,
    /// Its name.
    #[schema(example = "not_found")]
    name: String,
    /// The terminal's words.
    message: String,
}

/// What a trade spent its time on before it was withdrawn, in seconds.
#[derive(ToSchema)]
#[schema(as = SpentSeconds)]
#[expect(dead_code, reason = "shows a part of the JSON that `Problem` writes")]
struct SpentBody {
    /// Reading what the order needs.
    preparation: f64,
    /// Writing the intent to the disk.
    journal: f64,
    /// Waiting for the terminal.
    waiting: f64,
}
