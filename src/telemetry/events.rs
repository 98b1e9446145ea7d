//! The latest events of each actor, within a fixed amount of memory.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{Debug, Write};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;
use utoipa::ToSchema;

use crate::actor::Role;

/// Events that are kept per source.
const PER_SOURCE: usize = 200;

/// Events that one request gets, about. Copying them blocks every line of the log.
const MOST_RETURNED: usize = 5_000;

/// Sources that are distinguished. Only configured accounts have events, so the limit is never
/// reached; it bounds memory all the same.
const MOST_SOURCES: usize = 4_096;

/// The longest text of an event that is kept, in bytes.
const LONGEST_TEXT: usize = 400;

/// Something that an actor logged.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Noted)]
pub struct LoggedEvent {
    /// Unique, and higher than that of every earlier event: unix microseconds, or the next free number.
    #[schema(example = 1_795_604_613_000_001_u64)]
    pub id: u64,
    /// When, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Which kind of actor, or `http`, or `streams`.
    #[schema(example = "session")]
    pub actor: &'static str,
    /// The account that it is about. `null`: the gateway as a whole.
    #[schema(example = "demo")]
    pub account: Option<String>,
    /// The session of the account, counted from 0.
    pub session: Option<u64>,
    /// `ERROR`, `WARN` or `INFO`.
    #[schema(example = "WARN")]
    pub level: &'static str,
    /// The message and its other fields.
    #[schema(example = "terminal restarting reason=hang")]
    pub text: String,
}

/// The latest events. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Events(Arc<Mutex<EventBuffer>>);

#[derive(Debug, Default)]
struct EventBuffer {
    last_id: u64,
    sources: BTreeMap<EventSource, VecDeque<LoggedEvent>>,
}

/// What an event is about. Each source has room of its own, so that one that fails all the time
/// does not push out the others, and good news does not push out problems.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct EventSource {
    actor: &'static str,
    account: Option<String>,
    session: Option<u64>,
    problem: bool,
}

impl Events {
    /// The latest events of each source with a higher id than this, newest first. If there are so
    /// many sources that these would exceed [`MOST_RETURNED`], each gives fewer.
    pub fn after(&self, id: u64) -> Vec<LoggedEvent> {
        let buffer = self.0.lock();
        let of_each = (MOST_RETURNED / buffer.sources.len().max(1)).clamp(1, PER_SOURCE);
        let sources = buffer.sources.values();
        let later = sources
            .flat_map(|events| events.iter().rev().take_while(|event| event.id > id).take(of_each));
        let mut later: Vec<LoggedEvent> = later.cloned().collect();
        drop(buffer);
        later.sort_unstable_by_key(|event| std::cmp::Reverse(event.id));
        later
    }

    pub(super) fn layer<S>(&self) -> impl Layer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // ractor opens a span per actor. Spans are not events.
        let wanted = filter_fn(|metadata| metadata.is_event() && *metadata.level() <= Level::INFO);
        EventLayer(self.clone()).with_filter(wanted)
    }

    fn note(&self, level: &'static str, actor: &'static str, fields: EventFields) {
        let mut buffer = self.0.lock();
        let time = Timestamp::now();
        let micros = u64::try_from(time.as_microsecond()).unwrap_or_default();
        let id = micros.max(buffer.last_id + 1);
        buffer.last_id = id;
        let EventFields { account, session, .. } = &fields;
        let problem = level != "INFO";
        let mut source =
            EventSource { actor, account: account.clone(), session: *session, problem };
        if buffer.sources.len() >= MOST_SOURCES && !buffer.sources.contains_key(&source) {
            source = EventSource { account: None, session: None, ..source };
        }
        let of_source = buffer.sources.entry(source).or_default();
        if of_source.len() == PER_SOURCE {
            of_source.pop_front();
        }
        let (account, session, text) = (fields.account.clone(), fields.session, fields.text());
        of_source.push_back(LoggedEvent { id, time, actor, account, session, level, text });
    }
}

struct EventLayer(Events);

impl<S: Subscriber> Layer<S> for EventLayer {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARN",
            Level::INFO => "INFO",
            _ => return,
        };
        let Some(room) = room_of(metadata.target()) else {
            return;
        };
        let mut fields = EventFields::default();
        event.record(&mut fields);
        let actor = fields.actor.unwrap_or(room);
        self.0.note(level, actor, fields);
    }
}

/// The actor of an event without the field `actor`, by the room that logs it. `None`: no actor's,
/// as the access log.
fn room_of(target: &str) -> Option<&'static str> {
    let mut rooms = target.strip_prefix("mt5_gateway")?.split("::").skip(1);
    match (rooms.next().unwrap_or_default(), rooms.next().unwrap_or_default()) {
        ("access", _) => None,
        ("metrics", _) => Some(Role::Metrics.name()),
        ("sampler", _) => Some(Role::Sampler.name()),
        ("pool", "session") | ("terminal", _) => Some(Role::Session.name()),
        ("pool", _) => Some(Role::Pool.name()),
        ("trading", "journal") => Some(Role::Journal.name()),
        ("trading", "reconcile") => Some(Role::Reconciler.name()),
        ("trading", _) => Some(Role::Trading.name()),
        ("streams", _) => Some("streams"),
        ("api", _) => Some("http"),
        _ => Some(Role::Gateway.name()),
    }
}

/// The fields of an event.
#[derive(Default)]
struct EventFields {
    actor: Option<&'static str>,
    account: Option<String>,
    session: Option<u64>,
    message: String,
    others: String,
}

impl EventFields {
    fn text(self) -> String {
        let mut text = self.message + &self.others;
        if text.len() > LONGEST_TEXT {
            let end = (0..=LONGEST_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        text
    }
}

impl Visit for EventFields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "session" => self.session = Some(value),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            "account" => self.account = Some(value.to_owned()),
            "actor" => {
                self.actor = Role::ALL.iter().map(|role| role.name()).find(|name| *name == value);
            }
            name => {
                let _ = write!(self.others, " {name}={value}");
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

    fn noted(log: impl FnOnce()) -> Events {
        let events = Events::default();
        let subscriber = tracing_subscriber::registry().with(events.layer());
        tracing::subscriber::with_default(subscriber, log);
        events
    }

    #[test]
    fn a_source_that_fails_all_the_time_pushes_out_no_other() {
        let events = noted(|| {
            tracing::warn!(target: "mt5_gateway::sampler", "source failed");
            for (account, session) in [("a", 0u64), ("a", 1), ("b", 0)] {
                tracing::info!(target: "mt5_gateway::pool::session", account, session, "ready");
            }
            tracing::warn!(target: "mt5_gateway::pool::session", account = "a", session = 0u64, "rare");
            for restart in 0..2 * PER_SOURCE {
                let (account, session) = ("a", 0usize);
                tracing::info!(target: "mt5_gateway::pool::session", account, session, restart, "again");
            }
        });
        let latest = events.after(0);
        let of = |account: Option<&str>, session: Option<u64>| {
            let of = |noted: &&LoggedEvent| {
                (noted.account.as_deref(), noted.session) == (account, session)
            };
            latest.iter().filter(of).count()
        };
        assert_eq!(of(Some("a"), Some(0)), PER_SOURCE + 1, "the warning stays beside the last 200");
        assert_eq!((of(Some("a"), Some(1)), of(Some("b"), Some(0)), of(None, None)), (1, 1, 1));
        assert_eq!(latest[0].text, format!("again restart={}", 2 * PER_SOURCE - 1));
        assert!(latest.is_sorted_by(|later, earlier| later.id > earlier.id));
        let middle = latest[10].id;
        let later: Vec<u64> = events.after(middle).iter().map(|event| event.id).collect();
        assert_eq!(later, latest[..10].iter().map(|event| event.id).collect::<Vec<_>>());
    }

    #[test]
    fn an_event_belongs_to_the_actor_that_it_names_or_the_room_that_it_comes_from() {
        let events = noted(|| {
            tracing::error!(target: "mt5_gateway::gateway", actor = "sampler", "actor restarting");
            tracing::info!(target: "mt5_gateway::trading::reconcile", account = "a", "looking");
            tracing::error!(target: "mt5_gateway::trading::journal", "cannot be written");
            tracing::error!(target: "mt5_gateway::api::edge", actor = "nobody", "handler panicked");
            tracing::error!(target: "mt5_gateway::streams::poll", account = %"a", "poll loop");
            tracing::warn!(target: "mt5_gateway", "setting");
            tracing::info!(target: "mt5_gateway::access", "request");
            tracing::warn!(target: "ractor", "not ours");
            tracing::debug!(target: "mt5_gateway::pool", "not this");
        });
        let mut latest: Vec<_> = events.after(0);
        latest.reverse();
        let seen: Vec<_> =
            latest.iter().map(|event| (event.actor, event.account.as_deref())).collect();
        let expected = [
            ("sampler", None),
            ("reconciler", Some("a")),
            ("journal", None),
            ("http", None),
            ("streams", Some("a")),
            ("gateway", None),
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let events = noted(|| {
            tracing::info!(target: "mt5_gateway::trading", detail = "ü".repeat(500), "trade");
        });
        let latest = events.after(0);
        assert!(latest[0].text.ends_with("ü…"), "{}", latest[0].text);
        assert!(latest[0].text.len() <= LONGEST_TEXT + '…'.len_utf8());
    }
}
