//! The last events of each actor, kept within a fixed amount of memory.

use std::collections::VecDeque;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use utoipa::ToSchema;

use crate::actor::Role;

/// Events that are kept of each actor.
const KEPT: usize = 20;

/// Bytes of an event's text that are kept.
const LONGEST: usize = 400;

/// Something that an actor logged.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Noted {
    /// When, RFC 3339.
    #[schema(value_type = String)]
    pub time: Timestamp,
    /// Which kind of actor.
    pub actor: &'static str,
    /// `ERROR`, `WARN` or `INFO`.
    pub level: &'static str,
    /// The message and its fields.
    pub text: String,
}

/// The last events. Clones show the same ones.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<[VecDeque<Noted>; Role::ALL.len()]>>);

impl Events {
    /// What is kept, newest first.
    pub fn latest(&self) -> Vec<Noted> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latest: Vec<Noted> = kept.iter().flatten().cloned().collect();
        latest.sort_by_key(|noted| std::cmp::Reverse(noted.time));
        latest
    }

    pub(super) fn layer<S>(&self) -> impl Layer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // Spans, of which ractor makes one an actor, are nothing to be kept.
        let wanted = filter_fn(|metadata| metadata.is_event() && *metadata.level() <= Level::INFO);
        Recorder(self.clone()).with_filter(wanted)
    }

    fn note(&self, role: Role, noted: Noted) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_role = &mut kept[role as usize];
        if of_role.len() == KEPT {
            of_role.pop_front();
        }
        of_role.push_back(noted);
    }
}

struct Recorder(Events);

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN",
            Level::INFO => "INFO",
            _ => return,
        };
        let Some(role) = role_of(metadata.target()) else {
            return;
        };
        let mut text = Text::default();
        event.record(&mut text);
        let text = text.joined();
        self.0.note(role, Noted { time: Timestamp::now(), actor: role.name(), level, text });
    }
}

/// Which actor's room a line comes from.
fn role_of(target: &str) -> Option<Role> {
    let mut rooms = target.strip_prefix("mt5_gateway::")?.split("::");
    match (rooms.next()?, rooms.next()) {
        ("gateway" | "app", _) => Some(Role::Gateway),
        ("metrics", _) => Some(Role::Metrics),
        ("sampler", _) => Some(Role::Sampler),
        ("pool", Some("session")) | ("terminal", _) => Some(Role::Session),
        ("pool", _) => Some(Role::Pool),
        ("trading", _) => Some(Role::Trading),
        _ => None,
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn joined(self) -> String {
        let mut text = self.message + &self.fields;
        if text.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            "actor" => {}
            name => {
                let _ = write!(self.fields, " {name}={value}");
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        self.record_str(field, &value);
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_last_of_each_actor_are_kept_and_long_ones_cut() {
        let events = Events::default();
        let subscriber = tracing_subscriber::registry().with(events.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "mt5_gateway::sampler", "source failed");
            for session in 0..50 {
                tracing::info!(target: "mt5_gateway::pool::session", session, "session ready");
            }
            tracing::info!(target: "mt5_gateway::trading", detail = "ü".repeat(500), "trade");
            tracing::info!(target: "mt5_gateway::access", "request");
            tracing::debug!(target: "mt5_gateway::pool", "not this");
        });
        let latest = events.latest();
        let of = |actor: &str| latest.iter().filter(|noted| noted.actor == actor).count();
        assert_eq!((of("sampler"), of("session"), of("trading"), latest.len()), (1, KEPT, 1, 22));
        assert!(latest.iter().any(|noted| noted.text == "session ready session=49"));
        assert!(latest.iter().all(|noted| noted.text.len() <= LONGEST + '…'.len_utf8()));
    }
}
