//! When a terminal that does not answer is given up.
//!
//! A call that is stuck in C cannot be cancelled, so passing a call's limit ends the terminal. A
//! call of the gateway's own (a search for trades, a long history) ends it only when it keeps a
//! client waiting as long as a client's call may take, or when it takes many times that.

use std::time::Duration;

use tokio::time::Instant;

use crate::mt5::{Method, TimeLimit};

/// What the package may overrun its own timeout by before the terminal is ended for it.
const INITIALIZE_GRACE: Duration = Duration::from_secs(2);

/// How many times a client's limit a call of the gateway's own may take while nobody waits.
const INTERNAL_PATIENCE: u32 = 10;

/// The limits of calls.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// [`TimeLimit::Init`], and the start of the terminal.
    pub init_timeout: Duration,
    /// [`TimeLimit::Trade`].
    pub trade_timeout: Duration,
    /// [`TimeLimit::Call`].
    pub call_timeout: Duration,
}

/// The oldest call on the terminal.
#[derive(Debug, Clone, Copy)]
pub struct Oldest {
    /// What was called.
    pub method: Method,
    /// When it was written, or the answer before it came, whichever is later.
    pub began: Instant,
    /// Whether it is the gateway's own search, which may take long.
    pub internal: bool,
}

/// When the terminal is given up unless it answers, and the limit that it passes then.
/// `client_waits_since`: since when a client has waited behind the oldest call.
pub fn due(
    oldest: Oldest,
    client_waits_since: Option<Instant>,
    limits: &Limits,
) -> (Instant, Duration) {
    let limit = match oldest.method.rules().limit {
        TimeLimit::Init => limits.init_timeout + INITIALIZE_GRACE,
        TimeLimit::Trade => limits.trade_timeout,
        TimeLimit::Call => limits.call_timeout,
    };
    if !oldest.internal {
        return (oldest.began + limit, limit);
    }
    let patient = limit.saturating_mul(INTERNAL_PATIENCE);
    match client_waits_since {
        Some(since) => {
            let due = since.max(oldest.began) + limit;
            (due.min(oldest.began + patient), limit)
        }
        None => (oldest.began + patient, patient),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_ends_a_terminal_only_if_it_hangs_for_clients_too() {
        let seconds = Duration::from_secs;
        let limits = Limits {
            init_timeout: seconds(60),
            trade_timeout: seconds(40),
            call_timeout: seconds(30),
        };
        let began = Instant::now();
        let read = Method::HistoryDealsGet;
        let cases = [
            (read, false, None, 30),
            (read, false, Some(20), 30),
            (Method::OrderSend, false, None, 40),
            (Method::Initialize, false, None, 62),
            (read, true, None, 300),
            // A client came 20 s after the search began, another had waited before it.
            (read, true, Some(20), 50),
            (read, true, Some(0), 30),
            (read, true, Some(290), 300),
        ];
        for (method, internal, waits, expected) in cases {
            let oldest = Oldest { method, began, internal };
            let since = waits.map(|after| began + seconds(after));
            let (due, _) = due(oldest, since, &limits);
            assert_eq!(due - began, seconds(expected), "{method} {internal} {waits:?}");
        }
    }
}
