//! A trade as the journal keeps it.

use serde::{Deserialize, Deserializer, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};
use utoipa::ToSchema;

use super::identifiers::{IdempotencyKey, TradeId};
use super::tag;
use crate::account_name::AccountName;
use crate::mt5::{Deal, Identity, OrderSendResult, Retcode, TradeRequest};

/// What is known about a trade's fate.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
#[schema(as = State)]
pub enum TradeState {
    /// It is on disk and on its way.
    Sending,
    /// The broker carried it out.
    Executed,
    /// The broker refused it.
    Refused,
    /// Nobody knows yet.
    Unknown,
    /// It is known not to have happened.
    NotFound,
    /// It was withdrawn before it was sent.
    NotSent,
    /// Its target was changed by something else meanwhile, so it cannot be known whether it took effect.
    Superseded,
}

impl TradeState {
    /// Every one, in declaration order.
    pub const ALL: &'static [TradeState] = TradeState::VARIANTS;

    /// Its name in the journal and in answers.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<TradeState> {
        name.parse().ok()
    }

    /// The outcomes that are counted, label `outcome` of `mt5_trades_total`.
    pub const OUTCOMES: &'static [&'static str] =
        &["executed", "refused", "not_found", "not_sent", "superseded"];

    /// The outcome that is counted. `None` while the trade is not decided.
    pub const fn outcome(self) -> Option<&'static str> {
        match self {
            TradeState::Executed => Some("executed"),
            TradeState::Refused => Some("refused"),
            TradeState::NotFound => Some("not_found"),
            TradeState::NotSent => Some("not_sent"),
            TradeState::Superseded => Some("superseded"),
            TradeState::Sending | TradeState::Unknown => None,
        }
    }

    /// Whether it is decided.
    pub const fn is_final(self) -> bool {
        !matches!(self, TradeState::Sending | TradeState::Unknown)
    }

    /// Whether a trade in this state may come to another. What is decided stays so, but for a trade
    /// that was not found and turns out to have been executed.
    pub const fn may_become(self, to: TradeState) -> bool {
        match self {
            TradeState::Sending => !matches!(to, TradeState::Sending),
            TradeState::Unknown => !matches!(to, TradeState::Sending | TradeState::NotSent),
            TradeState::NotFound => matches!(to, TradeState::Executed),
            TradeState::Executed
            | TradeState::Refused
            | TradeState::NotSent
            | TradeState::Superseded => false,
        }
    }
}

/// What a trade does.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Operation {
    /// Places an order, pending or at the market.
    Place,
    /// Closes two positions by each other.
    CloseBy,
    /// Closes a position, or a part of it.
    Close,
    /// Changes a position's stops.
    ModifyPosition,
    /// Changes a pending order.
    ModifyOrder,
    /// Cancels a pending order.
    Cancel,
}

impl Operation {
    /// Every one, in declaration order.
    pub const ALL: &'static [Operation] = Operation::VARIANTS;

    /// Its name in the journal and in answers.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Operation> {
        name.parse().ok()
    }
}

/// What became of a trade, in MT5's fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TradeResult {
    /// `TRADE_RETCODE_*`.
    #[schema(example = 10009)]
    pub retcode: i64,
    /// Its name.
    #[schema(example = "done")]
    pub retcode_name: String,
    /// Ticket of the deal, 0 if there was none.
    pub deal: u64,
    /// Ticket of the order, 0 if there was none.
    pub order: u64,
    /// Ticket of the position that was opened, changed or closed; 0 if there is none, or if it is not
    /// known.
    #[serde(default)]
    pub position: u64,
    /// Tickets of all deals of the order, as far as they are known.
    #[serde(default)]
    pub deals: Vec<u64>,
    /// Lots, of all deals together.
    #[schema(example = 0.1)]
    #[serde(deserialize_with = "number_or_nan")]
    pub volume: f64,
    /// Price of the order, or the average price of its deals, weighted by volume.
    #[serde(deserialize_with = "number_or_nan")]
    pub price: f64,
    /// The broker's bid; `null` if the trade was found by looking for it.
    pub bid: Option<f64>,
    /// The broker's ask; `null` if the trade was found by looking for it.
    pub ask: Option<f64>,
    /// The broker's words.
    pub comment: String,
    /// Number that the terminal gave the request; 0 if it is not known.
    pub request_id: u64,
    /// The exchange's own code.
    pub retcode_external: i64,
}

impl TradeResult {
    /// What the terminal answered.
    pub fn answered(result: &OrderSendResult) -> TradeResult {
        TradeResult {
            retcode: result.retcode,
            retcode_name: Retcode::from_code(result.retcode).name().to_owned(),
            deal: result.deal,
            order: result.order,
            position: 0,
            deals: Some(result.deal).filter(|deal| *deal != 0).into_iter().collect(),
            volume: result.volume,
            price: result.price,
            bid: Some(result.bid),
            ask: Some(result.ask),
            comment: tag::strip(&result.comment).into_owned(),
            request_id: result.request_id,
            retcode_external: result.retcode_external,
        }
    }

    /// What was found at the broker, of an order without deals.
    pub fn found(retcode: Retcode, order: u64, volume: f64, price: f64) -> TradeResult {
        TradeResult {
            retcode: retcode.code(),
            retcode_name: retcode.name().to_owned(),
            deal: 0,
            order,
            position: 0,
            deals: vec![],
            volume,
            price,
            bid: None,
            ask: None,
            comment: "found by reconciliation".to_owned(),
            request_id: 0,
            retcode_external: 0,
        }
    }

    /// What the deals of one order say: their volume, and their average price.
    ///
    /// `requested`: the order's volume, to tell a partial execution from a whole one.
    pub fn of_deals(order: u64, deals: &[&Deal], requested: f64) -> TradeResult {
        let volume: f64 = deals.iter().map(|deal| deal.volume).sum();
        let turnover: f64 = deals.iter().map(|deal| deal.volume * deal.price).sum();
        let price = if volume > 0.0 { turnover / volume } else { 0.0 };
        let whole = volume > requested - VOLUME_NOISE;
        let retcode = if whole { Retcode::Done } else { Retcode::DonePartial };
        let tickets: Vec<u64> = deals.iter().map(|deal| deal.ticket).collect();
        TradeResult {
            deal: tickets.last().copied().unwrap_or_default(),
            position: deals.first().map_or(0, |deal| deal.position_id),
            deals: tickets,
            ..TradeResult::found(retcode, order, round(volume), round(price))
        }
    }
}

/// Reads what JSON has no number for, which a broker's odd answer may hold.
fn number_or_nan<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// What sums of volumes may be off by, lots.
const VOLUME_NOISE: f64 = 1e-9;

/// Takes the noise out of a sum: ten decimals are more than any broker has.
fn round(value: f64) -> f64 {
    (value * 1e10).round() / 1e10
}

/// What a change was to change, as it stood when the change was prepared. Zero: not of this kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Before {
    pub sl: f64,
    pub tp: f64,
    pub price: f64,
    pub stoplimit: f64,
    pub type_time: i64,
    pub expiration: i64,
    pub volume: f64,
    /// `time_update_msc` of a position.
    pub updated_msc: i64,
}

/// A trade, as it stands in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Trade {
    /// The gateway's own id.
    pub trade_id: TradeId,
    /// Name of the account.
    pub account: AccountName,
    /// The account at the broker.
    pub identity: Identity,
    /// Name of the key that its client used; `None`: without keys, or from before they were recorded.
    pub api_key: Option<String>,
    /// The client's address.
    pub client: Option<String>,
    /// What it does.
    pub operation: Operation,
    /// The client's key.
    pub idempotency_key: Option<IdempotencyKey>,
    /// SHA-256 of what the client asked for.
    pub fingerprint: [u8; 32],
    /// By which it is recognised at the broker.
    pub tag: Option<String>,
    /// What is known about its fate.
    pub state: TradeState,
    /// When its intent was written, unix milliseconds.
    pub created_msc: i64,
    /// When its state changed last, unix milliseconds.
    pub updated_msc: i64,
    /// A time that the server's clock had certainly reached when it was prepared, unix seconds of that
    /// clock.
    pub server_time: i64,
    /// The position that it changes or closes, by `POSITION_IDENTIFIER`; else 0.
    pub position_id: u64,
    /// The highest ticket of an order or position that was seen before it.
    pub order_floor: u64,
    /// The highest ticket of a deal that was seen before it.
    pub deal_floor: u64,
    /// What it was to change, as it stood before.
    pub before: Option<Before>,
    /// Ticket of the order that the broker accepted without a final answer; 0: none.
    pub accepted_order: u64,
    /// Whether it was given to a terminal that never answered and may still deliver it. Such a trade
    /// is never known not to have happened, however long nothing shows it.
    pub may_arrive: bool,
    /// Whether a client was told that it was not sent, so that its key is free again.
    pub told: bool,
    /// Why it stands where it stands, if there is more to say.
    pub detail: Option<String>,
    /// The present object that took the place of what a superseded trade was to change.
    pub present: Option<serde_json::Value>,
    /// The key's name of the operator who settled it.
    pub resolved_by: Option<String>,
    /// What was found later and contradicts how an operator settled it.
    pub contradicted: Option<String>,
    /// Orders any of which could be it.
    pub candidates: Vec<u64>,
    /// What was sent. Removed by retention.
    pub request: Option<TradeRequest>,
    /// What came of it. Removed by retention, but for its codes and tickets.
    pub result: Option<TradeResult>,
}

impl Trade {
    /// Tickets of the orders that are certainly its own: what it placed or closed with, not what it
    /// changed.
    pub fn own_orders(&self) -> Vec<u64> {
        let ordered = match self.operation {
            Operation::Place | Operation::Close | Operation::CloseBy => {
                self.result.as_ref().map_or(0, |result| result.order)
            }
            Operation::ModifyPosition | Operation::ModifyOrder | Operation::Cancel => 0,
        };
        [ordered, self.accepted_order].into_iter().filter(|ticket| *ticket != 0).collect()
    }

    /// A trade that is about to be sent, of which nothing else is known yet.
    pub fn new(
        trade_id: TradeId,
        account: AccountName,
        operation: Operation,
        now_msc: i64,
    ) -> Trade {
        Trade {
            trade_id,
            account,
            identity: Identity::default(),
            api_key: None,
            client: None,
            operation,
            idempotency_key: None,
            fingerprint: [0; 32],
            tag: None,
            state: TradeState::Sending,
            created_msc: now_msc,
            updated_msc: now_msc,
            server_time: 0,
            position_id: 0,
            order_floor: 0,
            deal_floor: 0,
            before: None,
            accepted_order: 0,
            may_arrive: false,
            told: false,
            detail: None,
            candidates: vec![],
            present: None,
            resolved_by: None,
            contradicted: None,
            request: None,
            result: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deal(ticket: u64, volume: f64, price: f64) -> Deal {
        Deal { ticket, order: 7, position_id: 5, volume, price, ..Deal::default() }
    }

    #[test]
    fn each_final_state_has_an_outcome_that_is_counted() {
        let outcomes = TradeState::ALL.iter().filter_map(|state| state.outcome());
        assert!(outcomes.eq(TradeState::OUTCOMES.iter().copied()));
        for state in TradeState::ALL {
            assert_eq!(state.outcome().is_some(), state.is_final(), "{state:?}");
        }
    }

    #[test]
    fn an_order_is_all_its_deals() {
        let (first, second) = (deal(1, 0.04, 1.1), deal(2, 0.06, 1.2));
        let whole = TradeResult::of_deals(7, &[&first, &second], 0.1);
        assert_eq!((whole.retcode, whole.volume, whole.price), (10009, 0.1, 1.16));
        assert_eq!((whole.order, whole.position, whole.deal), (7, 5, 2));
        assert_eq!(whole.deals, [1, 2]);
        let part = TradeResult::of_deals(7, &[&first], 0.1);
        assert_eq!(
            (part.retcode_name.as_str(), part.volume, part.price),
            ("done_partial", 0.04, 1.1)
        );
    }

    #[test]
    fn a_name_in_the_journal_leads_back_to_its_variant() {
        let names =
            ["sending", "executed", "refused", "unknown", "not-found", "not-sent", "superseded"];
        assert!(TradeState::ALL.iter().map(|state| state.name()).eq(names));
        for state in TradeState::ALL {
            assert_eq!(TradeState::from_name(state.name()), Some(*state));
        }
        let names = ["place", "close-by", "close", "modify-position", "modify-order", "cancel"];
        assert!(Operation::ALL.iter().map(|operation| operation.name()).eq(names));
        for operation in Operation::ALL {
            assert_eq!(Operation::from_name(operation.name()), Some(*operation));
        }
        assert_eq!(TradeState::from_name("Sending"), None);
    }

    #[test]
    fn what_is_decided_stays_decided() {
        for from in TradeState::ALL {
            for to in TradeState::ALL {
                let late = (*from, *to) == (TradeState::NotFound, TradeState::Executed);
                assert!(!from.is_final() || !from.may_become(*to) || late, "{from:?} {to:?}");
            }
        }
    }
}
