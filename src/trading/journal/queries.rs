//! What is asked of the journal. Readers see what waits in the outbox in place of the file's rows, and an
//! error where a report that is kept could change the answer.

use std::collections::HashMap;

use rusqlite::params;

use super::rows;
use super::store::{Store, text};
use crate::account_name::AccountName;
use crate::mt5::Identity;
use crate::trading::identifiers::{IdempotencyKey, TradeId};
use crate::trading::trade::{Trade, TradeState};

const BY_KEY: &str = "account = ?1 AND idempotency_key = ?2 ORDER BY created_msc, trade_id";

/// Operators' decisions are looked up apart, because few trades have one.
const UNFINISHED: &str = "account = ?1 AND (state IN ('sending', 'unknown')
    OR (state = 'not-found' AND updated_msc >= ?2)
    OR (resolved_by IS NOT NULL AND updated_msc >= ?2))";

/// The plus keeps SQLite from looking the state up: most trades were executed.
const EXECUTED: &str = "account = ?1 AND created_msc >= ?2 AND +state = 'executed'";

const UNKNOWN: &str = "account = ?1 AND state = 'unknown'";

/// Most trades have 0 for an accepted order, so that these are not in its index.
const OWNER: &str = "account = ?1 AND trade_id <> ?3
    AND (order_ticket = ?2 OR (accepted_order = ?2 AND accepted_order <> 0))
    AND operation IN ('place', 'close', 'close-by') LIMIT 1";

/// Which trades are listed.
#[derive(Debug, Clone, Default)]
pub struct TradeFilter {
    /// Only those in this state.
    pub state: Option<TradeState>,
    /// Only those with this Idempotency-Key.
    pub key: Option<IdempotencyKey>,
    /// Only those of this API key.
    pub api_key: Option<String>,
    /// As many at most.
    pub limit: u32,
}

impl TradeFilter {
    /// As a condition, which looks up what is rare in its index and goes through the rest by time.
    fn condition(&self) -> String {
        let rare = match (&self.key, self.state) {
            (Some(_), _) => "AND idempotency_key = ?3",
            (None, Some(state)) if !state.is_final() => "AND state = ?2",
            (None, _) => "",
        };
        format!(
            "account = ?1 {rare} AND (?2 IS NULL OR state = ?2)
                AND (?3 IS NULL OR idempotency_key = ?3) AND (?4 IS NULL OR api_key = ?4)
                ORDER BY created_msc DESC, trade_id DESC LIMIT ?5"
        )
    }

    /// Whether a trade passes, regardless of the limit.
    pub fn passes(&self, trade: &Trade) -> bool {
        self.state.is_none_or(|state| trade.state == state)
            && (self.key.is_none() || trade.idempotency_key == self.key)
            && (self.api_key.is_none() || trade.api_key == self.api_key)
    }
}

type Found<T> = Result<T, String>;

impl Store {
    /// The trade with an id.
    pub fn by_id(&self, account: &AccountName, id: &TradeId) -> Found<Option<Trade>> {
        self.ensure_settled(|reported| reported.trade_id == *id && reported.account == *account)?;
        let trade = match self.outbox.get(id) {
            Some(trade) => Some(trade.clone()),
            None => rows::by_id(&self.connection, id).map_err(text)?,
        };
        Ok(trade.filter(|trade| trade.account == *account))
    }

    /// The trade that was made with a key. Of several that were withdrawn, the newest.
    pub fn by_key(
        &self,
        identity: &Identity,
        account: &AccountName,
        key: &IdempotencyKey,
    ) -> Found<Option<Trade>> {
        let mut trades = self.select(BY_KEY, params![account, key], |trade| {
            trade.account == *account && trade.idempotency_key.as_ref() == Some(key)
        })?;
        // Rows of version 1 whose account is configured no more have no server.
        trades.retain(|trade| {
            let Identity { login, server, .. } = &trade.identity;
            *login == identity.login
                && (server.is_empty() || server.eq_ignore_ascii_case(&identity.server))
        });
        let newest = trades.pop();
        Ok(trades.into_iter().find(|trade| trade.state != TradeState::NotSent).or(newest))
    }

    /// Trades of an account, the newest first.
    pub fn list(&self, account: &AccountName, filter: &TradeFilter) -> Found<Vec<Trade>> {
        let TradeFilter { state, key, api_key, limit } = filter;
        let parameters = params![account, state.map(TradeState::name), key, api_key, limit];
        let mut trades = self.select(&filter.condition(), parameters, |trade| {
            trade.account == *account && filter.passes(trade)
        })?;
        trades.reverse();
        trades.truncate(*limit as usize);
        Ok(trades)
    }

    /// Trades whose state is open, and those that were not found or settled by an operator since a
    /// time (unix milliseconds), the oldest first.
    pub fn unfinished(&self, account: &AccountName, watched_since_msc: i64) -> Found<Vec<Trade>> {
        self.select(UNFINISHED, params![account, watched_since_msc], |trade| {
            let watched = (trade.state == TradeState::NotFound || trade.resolved_by.is_some())
                && trade.updated_msc >= watched_since_msc;
            trade.account == *account && (!trade.state.is_final() || watched)
        })
    }

    /// Executed trades of an account that were made since a time (unix milliseconds), the oldest first.
    pub fn executed(&self, account: &AccountName, since_msc: i64) -> Found<Vec<Trade>> {
        self.select(EXECUTED, params![account, since_msc], |trade| {
            trade.account == *account
                && trade.created_msc >= since_msc
                && trade.state == TradeState::Executed
        })
    }

    /// How many of an account's trades are unknown, and when the oldest was made (unix milliseconds).
    pub fn unknown(&self, account: &AccountName) -> Found<(i64, Option<i64>)> {
        let unknown = self.select(UNKNOWN, params![account], |trade| {
            trade.account == *account && trade.state == TradeState::Unknown
        })?;
        let count = i64::try_from(unknown.len()).unwrap_or(i64::MAX);
        Ok((count, unknown.first().map(|trade| trade.created_msc)))
    }

    /// Which of these orders belong to trades other than one.
    pub fn owned(
        &self,
        account: &AccountName,
        orders: Vec<u64>,
        except: &TradeId,
    ) -> Found<HashMap<u64, TradeId>> {
        let mut owned = HashMap::new();
        for order in orders {
            let parameters = params![account, order.cast_signed(), except];
            let mut owners = self.select(OWNER, parameters, |trade| {
                trade.account == *account
                    && trade.trade_id != *except
                    && trade.own_orders().contains(&order)
            })?;
            owned.extend(owners.pop().map(|owner| (order, owner.trade_id)));
        }
        Ok(owned)
    }

    /// Rows that meet a condition, with what waits in the place of what was read, the oldest first.
    /// `passes` is the condition for what waits.
    fn select(
        &self,
        condition: &str,
        parameters: impl rusqlite::Params,
        passes: impl Fn(&Trade) -> bool,
    ) -> Found<Vec<Trade>> {
        let mut trades = rows::select(&self.connection, condition, parameters).map_err(text)?;
        if !self.outbox.is_empty() {
            trades.retain(|trade| self.outbox.get(&trade.trade_id).is_none());
            trades.extend(self.outbox.iter().filter(|trade| passes(trade)).cloned());
        }
        self.ensure_settled(|reported| {
            passes(reported) || trades.iter().any(|trade| trade.trade_id == reported.trade_id)
        })?;
        trades.sort_by(|a, b| (a.created_msc, &a.trade_id).cmp(&(b.created_msc, &b.trade_id)));
        Ok(trades)
    }

    /// Makes sure that no report is kept that an answer would hide: its key would seem free, or its trade
    /// open.
    fn ensure_settled(&self, concerns: impl Fn(&Trade) -> bool) -> Found<()> {
        let mut reported = self.kept.iter().map(|kept| &kept.report.trade);
        match reported.find(|trade| concerns(trade)) {
            None => Ok(()),
            Some(trade) => Err(format!("a report about trade {} is not settled", trade.trade_id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trading::journal::schema;

    /// No query that orders or reconciliation wait for reads more of a long journal than it is about. (Lists by API
    /// key or by a final state go through the account by time.)
    #[test]
    fn every_query_is_led_by_the_index_that_has_the_fewest_rows_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let connection = schema::prepared(&directory.path().join("journal"), &[]);
        let key = Some(IdempotencyKey::from_trusted("key"));
        let listed = |state, key| TradeFilter { state, key, ..TradeFilter::default() }.condition();
        let of_key = ["trades_of_key (account=? AND idempotency_key=?)"];
        let by_state = ["trades_by_state (account=? AND state=?)"];
        let by_time = ["trades_by_time (account=?)"];
        let unfinished = [
            by_state[0],
            "trades_by_state (account=? AND state=? AND updated_msc>?)",
            "trades_by_decision (account=? AND updated_msc>?)",
        ];
        let owner = [
            "trades_by_order (account=? AND order_ticket=?)",
            "trades_by_accepted_order (account=? AND accepted_order=?)",
        ];
        let cases: [(String, &[&str]); 9] = [
            (BY_KEY.to_owned(), &of_key),
            (UNFINISHED.to_owned(), &unfinished),
            (EXECUTED.to_owned(), &["trades_by_time (account=? AND created_msc>?)"]),
            (UNKNOWN.to_owned(), &by_state),
            (OWNER.to_owned(), &owner),
            (listed(None, key.clone()), &of_key),
            (listed(Some(TradeState::Executed), key), &of_key),
            (listed(Some(TradeState::Unknown), None), &by_state),
            // By time, so that the newest come first and the limit ends the search.
            (listed(Some(TradeState::Executed), None), &by_time),
        ];
        for (condition, indexes) in cases {
            let statement = format!("SELECT * FROM trades WHERE {condition}");
            let searches = indexes.iter().map(|index| format!("SEARCH trades USING INDEX {index}"));
            let expected = searches.collect::<Vec<_>>().join("\n");
            assert_eq!(schema::plan(&connection, &statement), expected, "{condition}");
        }
    }
}
