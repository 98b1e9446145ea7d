//! Trades as rows.

use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use tracing::warn;

use crate::account_name::AccountName;
use crate::mt5::{Identity, Retcode};
use crate::trading::identifiers::{IdempotencyKey, TradeId};
use crate::trading::trade::{Operation, Trade, TradeResult, TradeState};

macro_rules! text_columns {
    ($($name:ident),*) => { $(
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(ToSqlOutput::from(&**self))
            }
        }

        // The gateway wrote it, after it had checked it.
        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<$name> {
                value.as_str().map($name::from_trusted)
            }
        }
    )* };
}

text_columns!(AccountName, TradeId, IdempotencyKey);

/// SQLite's integers are signed; the bits are kept.
fn stored(ticket: u64) -> i64 {
    ticket.cast_signed()
}

fn loaded(ticket: i64) -> u64 {
    ticket.cast_unsigned()
}

fn json(value: &impl serde::Serialize) -> Option<String> {
    serde_json::to_string(value).ok().filter(|text| text != "null" && text != "[]")
}

fn parsed<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
    // One odd row must not hide the others, nor its own state.
    Ok(parsed.unwrap_or_else(|error| {
        warn!(column, %error, "column of a trade cannot be read");
        None
    }))
}

fn invalid(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error)
}

/// Inserts an intent.
pub fn insert(connection: &Connection, trade: &Trade) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO trades (trade_id, account, login, server, trade_mode, operation,
                idempotency_key, fingerprint, tag, state, created_msc, updated_msc, server_time,
                position_id, order_floor, deal_floor, may_arrive, told, before, detail, request,
                api_key, client)
             VALUES (:trade_id, :account, :login, :server, :trade_mode, :operation,
                :idempotency_key, :fingerprint, :tag, :state, :created_msc, :updated_msc,
                :server_time, :position_id, :order_floor, :deal_floor, :may_arrive, :told, :before,
                :detail, :request, :api_key, :client)",
        )?
        .execute(named_params! {
            ":trade_id": trade.trade_id,
            ":account": trade.account,
            ":login": stored(trade.identity.login),
            ":server": trade.identity.server,
            ":trade_mode": trade.identity.trade_mode,
            ":operation": trade.operation.name(),
            ":idempotency_key": trade.idempotency_key,
            ":fingerprint": trade.fingerprint,
            ":tag": trade.tag,
            ":state": trade.state.name(),
            ":created_msc": trade.created_msc,
            ":updated_msc": trade.updated_msc,
            ":server_time": trade.server_time,
            ":position_id": stored(trade.position_id),
            ":order_floor": stored(trade.order_floor),
            ":deal_floor": stored(trade.deal_floor),
            ":may_arrive": trade.may_arrive,
            ":told": trade.told,
            ":before": json(&trade.before),
            ":detail": trade.detail,
            ":request": json(&trade.request),
            ":api_key": trade.api_key,
            ":client": trade.client,
        })
        .map(drop)
}

/// Writes what is known about a trade now, which may have no row yet.
pub fn put(connection: &Connection, trade: &Trade) -> rusqlite::Result<()> {
    if update(connection, trade)? == 0 {
        insert(connection, trade)?;
        update(connection, trade)?;
    }
    Ok(())
}

fn update(connection: &Connection, trade: &Trade) -> rusqlite::Result<usize> {
    let result = trade.result.as_ref();
    connection
        .prepare_cached(
            "UPDATE trades SET state = :state, updated_msc = :updated_msc,
                retcode = :retcode, order_ticket = :order, deal_ticket = :deal,
                accepted_order = :accepted_order, may_arrive = :may_arrive, told = :told,
                detail = :detail, candidates = :candidates, present = :present,
                resolved_by = :resolved_by, contradicted = :contradicted, result = :result
             WHERE trade_id = :trade_id",
        )?
        .execute(named_params! {
            ":trade_id": trade.trade_id,
            ":state": trade.state.name(),
            ":updated_msc": trade.updated_msc,
            ":retcode": result.map(|result| result.retcode),
            ":order": result.map(|result| stored(result.order)),
            ":deal": result.map(|result| stored(result.deal)),
            ":accepted_order": stored(trade.accepted_order),
            ":may_arrive": trade.may_arrive,
            ":told": trade.told,
            ":detail": trade.detail,
            ":candidates": json(&trade.candidates),
            ":present": json(&trade.present),
            ":resolved_by": trade.resolved_by,
            ":contradicted": trade.contradicted,
            ":result": json(&trade.result),
        })
}

/// Trades that pass a condition.
pub fn select(
    connection: &Connection,
    condition: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Trade>> {
    connection
        .prepare_cached(&format!("SELECT * FROM trades WHERE {condition}"))?
        .query_map(parameters, read)?
        .collect()
}

/// The trade with an id.
pub fn by_id(connection: &Connection, trade_id: &TradeId) -> rusqlite::Result<Option<Trade>> {
    connection
        .prepare_cached("SELECT * FROM trades WHERE trade_id = ?1")?
        .query_row(params![trade_id], read)
        .optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Trade> {
    let word = |column: &str| row.get::<_, String>(column);
    let (state, operation) = (word("state")?, word("operation")?);
    let unknown = |what: &str, name: &str| invalid(format!("there is no {what} {name:?}").into());
    let ticket = |column: &str| row.get::<_, Option<i64>>(column).map(|at| at.map_or(0, loaded));
    // After retention the codes and tickets are what is left. What is not known any more is no number.
    let kept = match row.get::<_, Option<i64>>("retcode")? {
        None => None,
        Some(code) => {
            let (order, deal) = (ticket("order_ticket")?, ticket("deal_ticket")?);
            let retcode = Retcode::from_code(code);
            Some(TradeResult {
                comment: String::new(),
                retcode: code,
                deal,
                deals: Some(deal).filter(|deal| *deal != 0).into_iter().collect(),
                ..TradeResult::found(retcode, order, f64::NAN, f64::NAN)
            })
        }
    };
    Ok(Trade {
        trade_id: row.get("trade_id")?,
        account: row.get("account")?,
        identity: Identity {
            login: ticket("login")?,
            server: word("server")?,
            trade_mode: row.get("trade_mode")?,
        },
        api_key: row.get("api_key")?,
        client: row.get("client")?,
        operation: Operation::from_name(&operation)
            .ok_or_else(|| unknown("operation", &operation))?,
        idempotency_key: row.get("idempotency_key")?,
        fingerprint: row.get("fingerprint")?,
        tag: row.get("tag")?,
        state: TradeState::from_name(&state).ok_or_else(|| unknown("state", &state))?,
        created_msc: row.get("created_msc")?,
        updated_msc: row.get("updated_msc")?,
        server_time: row.get("server_time")?,
        position_id: ticket("position_id")?,
        order_floor: ticket("order_floor")?,
        deal_floor: ticket("deal_floor")?,
        accepted_order: ticket("accepted_order")?,
        before: parsed(row, "before")?,
        may_arrive: row.get("may_arrive")?,
        told: row.get("told")?,
        detail: row.get("detail")?,
        candidates: parsed(row, "candidates")?.unwrap_or_default(),
        present: parsed(row, "present")?,
        resolved_by: row.get("resolved_by")?,
        contradicted: row.get("contradicted")?,
        request: parsed(row, "request")?,
        result: parsed(row, "result")?.or(kept),
    })
}
