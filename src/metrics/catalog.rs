//! Every metric family: its name, labels, buckets and help, in one place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::RwLock;
use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge, Opts};

use super::children::{Children, Render};
use super::render::Text;
use super::{AccountId, Options};
use crate::actor::Role;
use crate::mt5::{Method, Retcode};

/// The fine buckets of `http_request_duration_highr_seconds`, those of
/// prometheus-fastapi-instrumentator.
const HIGHR_BUCKETS: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0,
    7.5, 10.0, 30.0, 60.0,
];
/// Bodies, bytes: from one packet to a large history.
const SIZE_BUCKETS: &[f64] = &[128.0, 1024.0, 16384.0, 262_144.0, 4_194_304.0, 67_108_864.0];
/// What the gateway does for its own sake, seconds.
const OWN_BUCKETS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0];

/// `action` of `mt5_account_trade_allowed`.
const TRADE_ACTIONS: [&str; 2] = ["open", CLOSE];

const CLOSE: &str = "close";

/// A family as it is declared.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// Help text.
    pub help: &'static str,
}

/// The closed sets of label values that other rooms own. `app` collects them, because this room is
/// below those. With an empty set, children appear on first use.
#[derive(Debug, Clone, Copy, Default)]
pub struct LabelSets {
    /// `state` of `mt5_pool_sessions`.
    pub session_states: &'static [&'static str],
    /// `reason` of `mt5_session_restarts_total`.
    pub restart_reasons: &'static [&'static str],
    /// `reason` of `mt5_account_trade_blocked`.
    pub trade_blocks: &'static [&'static str],
    /// Those of `trade_blocks` that do not stand against closing.
    pub opening_blocks: &'static [&'static str],
    /// `reason` of `mt5_calls_rejected_total`.
    pub rejections: &'static [&'static str],
    /// `outcome` of `mt5_trades_total`.
    pub trade_outcomes: &'static [&'static str],
    /// `event` of the families of streams.
    pub stream_events: &'static [&'static str],
    /// `group` of `gateway_sampler_errors_total`.
    pub sampler_groups: &'static [&'static str],
}

/// An account that is served.
struct CatalogAccount {
    name: String,
    /// Calls that wait or are under way.
    queue: Arc<AtomicI64>,
}

macro_rules! catalog {
    (@type counter) => { IntCounter };
    (@type seconds) => { Counter };
    (@type gauge) => { IntGauge };
    (@type ratio) => { Gauge };
    (@type histogram) => { Histogram };
    (@kind counter) => { "counter" };
    (@kind seconds) => { "counter" };
    (@kind gauge) => { "gauge" };
    (@kind ratio) => { "gauge" };
    (@kind histogram) => { "histogram" };
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { $buckets.as_ref() };
    ($options:ident; $($kind:ident $name:ident [$($label:ident),*] $(($buckets:expr))? $help:literal;)*) => {
        /// Every family, in the order of this file.
        pub const FAMILIES: &[Family] = &[$(Family {
            name: stringify!($name),
            kind: catalog!(@kind $kind),
            labels: &[$(stringify!($label)),*],
            help: $help,
        },)*];

        /// The families. Fields are named after them.
        pub struct Catalog {
            /// Every family, in the order of their names.
            families: Vec<Arc<dyn Render>>,
            /// Those that are served. Whoever touches a child of an account holds the lock, so that a
            /// child that was removed with its account never comes back.
            accounts: RwLock<BTreeMap<AccountId, CatalogAccount>>,
            labels: LabelSets,
            /// Whether the money of accounts is shown.
            pub account_values: bool,
            $(#[doc = $help] pub $name: Arc<Children<catalog!(@type $kind)>>,)*
        }

        impl Catalog {
            fn register($options: &Options, labels: LabelSets) -> prometheus::Result<Catalog> {
                let mut families: BTreeMap<_, Arc<dyn Render>> = BTreeMap::new();
                $(
                    let $name = Arc::new(Children::new(
                        Opts::new(stringify!($name), $help),
                        &[$(stringify!($label)),*],
                        catalog!(@buckets $($buckets)?),
                    )?);
                    families.insert(stringify!($name), $name.clone());
                )*
                let families = families.into_values().collect();
                Ok(Catalog {
                    families,
                    accounts: RwLock::default(),
                    labels,
                    account_values: $options.account_values,
                    $($name),*
                })
            }
        }
    };
}

catalog! { options;
    counter http_requests_total [method, status, handler]
        "HTTP requests, by method, status and route template.";
    histogram http_request_duration_seconds [method, handler] (options.duration_buckets)
        "Time from the arrival of an HTTP request to the end of its response.";
    histogram http_request_duration_highr_seconds [] (HIGHR_BUCKETS)
        "Time from the arrival of an HTTP request to the end of its response, in fine buckets.";
    gauge http_requests_inprogress [method, handler]
        "HTTP requests whose response has not ended.";
    histogram http_request_size_bytes [handler] (SIZE_BUCKETS)
        "Body bytes received with an HTTP request.";
    histogram http_response_size_bytes [handler] (SIZE_BUCKETS)
        "Body bytes sent with an HTTP response, after compression.";
    gauge http_connections_active []
        "Open connections.";
    counter http_connections_total []
        "Connections accepted.";

    gauge mt5_pool_size [account]
        "Terminals configured for the account.";
    gauge mt5_pool_sessions [account, state]
        "Sessions of the account in each state.";
    counter mt5_logins_total [account, outcome]
        "Logins tried, by outcome.";
    histogram mt5_login_duration_seconds [] (options.call_buckets)
        "Time that a login took, from initialize to the check of the account.";
    counter mt5_calls_total [account, method, outcome]
        "Calls that ended, by MT5 method and outcome.";
    histogram mt5_call_duration_seconds [method] (options.call_buckets)
        "Time that a call took on the terminal, without queueing.";
    histogram mt5_call_queue_seconds [method] (options.call_buckets)
        "Time that a call waited for its terminal.";
    counter mt5_errors_total [account, method, type]
        "Errors, by MT5 method and type.";
    counter mt5_trade_results_total [account, retcode]
        "Answers of brokers to trades, by return code.";
    counter mt5_trades_total [account, outcome]
        "Trades that ended, by outcome.";
    gauge mt5_trades_unknown [account]
        "Trades of which nobody knows yet what became of them.";
    ratio mt5_trades_unknown_oldest_timestamp_seconds [account]
        "When the oldest unknown trade was sent, in unix seconds; 0 if there is none.";
    counter mt5_trades_contradicted_total [account]
        "Trades whose final state was contradicted by what was found later.";
    gauge mt5_terminal_connected [account]
        "Terminals of the account that are connected to their broker.";
    ratio mt5_account_balance [account]
        "Money of the account without the result of open positions, in its currency.";
    ratio mt5_account_equity [account]
        "Money of the account with the result of open positions, in its currency.";
    ratio mt5_account_margin [account]
        "Money that open positions tie up, in the account's currency.";
    ratio mt5_account_margin_free [account]
        "Money for further positions, in the account's currency.";
    ratio mt5_account_margin_level_ratio [account]
        "Equity by margin; absent while nothing ties up money.";
    ratio mt5_account_profit [account]
        "Result of open positions, in the account's currency.";
    gauge mt5_account_positions [account]
        "Open positions of the account.";
    gauge mt5_account_orders [account]
        "Pending orders of the account.";
    gauge mt5_account_info [account, currency, leverage, margin_mode, trade_mode]
        "Always 1; the labels tell what the account is.";
    gauge mt5_account_trade_allowed [account, action]
        "Whether orders that open or close can be sent now: 1 or 0.";
    gauge mt5_account_trade_blocked [account, reason]
        "Whether this reason keeps the account from trading: 1 or 0.";
    gauge mt5_terminal_resident_memory_bytes [account, session]
        "Memory that a session's worker holds, with the processes that it started.";
    gauge mt5_terminal_disk_bytes [account, session]
        "Size of a session's terminal files, if the gateway copied them from a template.";
    seconds mt5_terminal_cpu_seconds_total [account, session]
        "Processor time that a session's worker has used, with the processes that it started.";
    ratio mt5_terminal_start_time_seconds [account, session]
        "When a session's worker was started, in unix seconds.";
    counter mt5_session_restarts_total [account, reason]
        "Terminals replaced, by reason.";
    gauge mt5_session_queue_depth [account]
        "Calls that wait or are under way.";
    counter mt5_calls_rejected_total [account, reason]
        "Calls that were not admitted, by reason.";

    gauge gateway_stream_subscribers [account]
        "Readers of the account's streams.";
    counter gateway_stream_events_sent_total [account, event]
        "Events given to readers of streams.";
    counter gateway_stream_events_dropped_total [account]
        "Events of the account that had left the buffer before a reader came to them; it was told of the gap.";
    histogram gateway_stream_poll_duration_seconds [event] (options.call_buckets)
        "Time that a look for changes took, over every topic that is read.";

    ratio system_cpu_usage_ratio []
        "Share of all processors' time that is used, 0 to 1.";
    gauge system_memory_used_bytes []
        "Memory in use on the machine.";
    gauge system_memory_total_bytes []
        "Memory of the machine.";
    gauge system_memory_limit_bytes []
        "Memory that the gateway's control group may use, where it is limited.";
    gauge system_disk_free_bytes [mountpoint]
        "Space that is free on the file system.";
    gauge system_disk_size_bytes [mountpoint]
        "Size of the file system.";
    seconds process_cpu_seconds_total []
        "Processor time that the gateway has used.";
    gauge process_resident_memory_bytes []
        "Memory that the gateway holds.";
    gauge process_threads []
        "Threads of the gateway.";
    ratio process_start_time_seconds []
        "When the gateway was started, in unix seconds.";
    gauge process_open_fds []
        "File descriptors that the gateway has open.";
    gauge process_max_fds []
        "File descriptors that the gateway may open.";

    gauge gateway_build_info [version, revision]
        "Always 1; the labels tell the version that is running.";
    gauge gateway_actor_mailbox_depth [actor]
        "Messages that wait for actors of this kind.";
    counter gateway_actor_restarts_total [actor]
        "Actors that failed and were restarted by their supervisor.";
    histogram gateway_sampler_duration_seconds [] (OWN_BUCKETS)
        "Time that a measurement of the machine took.";
    counter gateway_sampler_errors_total [group]
        "Parts of a measurement that failed.";
    ratio gateway_sampler_last_success_timestamp_seconds []
        "When the machine was last measured whole, in unix seconds.";
    histogram gateway_journal_write_duration_seconds [] (OWN_BUCKETS)
        "Time until a write to the journal of trades was on disk.";
    histogram gateway_scrape_duration_seconds [] (OWN_BUCKETS)
        "Time that rendering the metrics took.";
    counter gateway_scrapes_rejected_total []
        "Scrapes refused by the rate limit.";
    gauge gateway_metrics_series []
        "Series in the rendering before this one.";
}

impl Catalog {
    /// Registers every family, with these accounts, whose ids count from 0, and their numbers of
    /// sessions. Children whose labels are accounts and closed sets exist from the start, at 0.
    ///
    /// # Errors
    /// If buckets are not in ascending order.
    pub fn new(
        options: &Options,
        accounts: &[(String, usize)],
        labels: &LabelSets,
    ) -> prometheus::Result<Catalog> {
        let catalog = Catalog::register(options, *labels)?;
        for (index, (account, sessions)) in accounts.iter().enumerate() {
            catalog.add_account(AccountId(index), account, *sessions);
        }
        for role in Role::ALL {
            catalog.gateway_actor_mailbox_depth.with_label_values(&[role.name()]);
            catalog.gateway_actor_restarts_total.with_label_values(&[role.name()]);
        }
        for event in labels.stream_events {
            catalog.gateway_stream_poll_duration_seconds.with_label_values(&[event]);
        }
        for group in labels.sampler_groups {
            catalog.gateway_sampler_errors_total.with_label_values(&[group]);
        }
        let none: &[&str] = &[];
        catalog.http_request_duration_highr_seconds.with_label_values(none);
        catalog.http_connections_active.with_label_values(none);
        catalog.http_connections_total.with_label_values(none);
        catalog.mt5_login_duration_seconds.with_label_values(none);
        catalog.gateway_sampler_duration_seconds.with_label_values(none);
        catalog.gateway_journal_write_duration_seconds.with_label_values(none);
        catalog.gateway_scrape_duration_seconds.with_label_values(none);
        catalog.gateway_scrapes_rejected_total.with_label_values(none);
        catalog.gateway_metrics_series.with_label_values(none);
        catalog
            .gateway_build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION"), env!("MT5_GATEWAY_REVISION")])
            .set(1);
        Ok(catalog)
    }

    /// Adds an account, unless it is there. Its children exist from then on; those that an account
    /// of the same name has stay as they are.
    pub fn add_account(&self, id: AccountId, account: &str, sessions: usize) {
        let mut accounts = self.accounts.write();
        accounts
            .entry(id)
            .or_insert_with(|| CatalogAccount { name: account.to_owned(), queue: Arc::default() });
        let size = i64::try_from(sessions).unwrap_or(i64::MAX);
        self.mt5_pool_size.with_label_values(&[account]).set(size);
        self.mt5_terminal_connected.with_label_values(&[account]);
        self.mt5_session_queue_depth.with_label_values(&[account]);
        self.mt5_trades_unknown.with_label_values(&[account]);
        self.mt5_trades_unknown_oldest_timestamp_seconds.with_label_values(&[account]);
        self.mt5_trades_contradicted_total.with_label_values(&[account]);
        for retcode in Retcode::ALL {
            self.mt5_trade_results_total.with_label_values(&[account, retcode.name()]);
        }
        for outcome in self.labels.trade_outcomes {
            self.mt5_trades_total.with_label_values(&[account, outcome]);
        }
        self.gateway_stream_subscribers.with_label_values(&[account]);
        self.gateway_stream_events_dropped_total.with_label_values(&[account]);
        for event in self.labels.stream_events {
            self.gateway_stream_events_sent_total.with_label_values(&[account, event]);
        }
        for outcome in ["success", "failure"] {
            self.mt5_logins_total.with_label_values(&[account, outcome]);
        }
        for state in self.labels.session_states {
            self.mt5_pool_sessions.with_label_values(&[account, state]);
        }
        for action in TRADE_ACTIONS {
            self.mt5_account_trade_allowed.with_label_values(&[account, action]);
        }
        for reason in self.labels.trade_blocks {
            self.mt5_account_trade_blocked.with_label_values(&[account, reason]);
        }
        for reason in self.labels.restart_reasons {
            self.mt5_session_restarts_total.with_label_values(&[account, reason]);
        }
        for reason in self.labels.rejections {
            self.mt5_calls_rejected_total.with_label_values(&[account, reason]);
        }
    }

    /// Removes an account, and its children unless another account has its name by now. What is
    /// reported of it later is ignored.
    pub fn remove_account(&self, id: AccountId) {
        let mut accounts = self.accounts.write();
        let Some(removed) = accounts.remove(&id) else {
            return;
        };
        if accounts.values().all(|other| other.name != removed.name) {
            self.families.iter().for_each(|family| family.remove("account", &removed.name));
        }
    }

    /// Does something with the children of an account, by its name. `None`: it is not served any
    /// more, and has none.
    pub fn with_account<T>(&self, id: AccountId, change: impl FnOnce(&str) -> T) -> Option<T> {
        let accounts = self.accounts.read();
        accounts.get(&id).map(|account| change(&account.name))
    }

    /// The counter behind `mt5_session_queue_depth`, for whoever admits calls.
    pub fn queue(&self, id: AccountId) -> Arc<AtomicI64> {
        self.accounts.read().get(&id).map(|account| account.queue.clone()).unwrap_or_default()
    }

    /// Calls that wait or are under way, by account.
    pub fn queue_depths(&self) -> BTreeMap<String, f64> {
        let mut depths = BTreeMap::new();
        for account in self.accounts.read().values() {
            let depth = account.queue.load(Ordering::Relaxed) as f64;
            *depths.entry(account.name.clone()).or_default() += depth;
        }
        depths
    }

    /// Writes every family, each as of when it is its turn.
    pub(super) fn render(&self, text: &mut Text) {
        {
            // Its children must not come back if it is removed meanwhile.
            let accounts = self.accounts.read();
            for account in accounts.values() {
                let depth = account.queue.load(Ordering::Relaxed);
                self.mt5_session_queue_depth.with_label_values(&[&account.name]).set(depth);
            }
        }
        self.families.iter().for_each(|family| family.render(text));
    }

    /// The families as the package has them.
    #[cfg(test)]
    pub(super) fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.families.iter().filter_map(|family| family.gather()).collect()
    }

    /// Shows which of these reasons against trading stand, and whether any does.
    pub fn show_trade_blocks(&self, account: AccountId, blocked: &[(&'static str, bool)]) {
        self.with_account(account, |account| {
            let child =
                |reason| self.mt5_account_trade_blocked.with_label_values(&[account, reason]);
            for (reason, stands) in blocked {
                child(reason).set((*stands).into());
            }
            for action in TRADE_ACTIONS {
                let is_of_opening = |reason| self.labels.opening_blocks.contains(reason);
                let mut reasons = self.labels.trade_blocks.iter();
                let allowed = reasons.all(|reason| {
                    child(reason).get() == 0 || (action == CLOSE && is_of_opening(reason))
                });
                let labels = [account, action];
                self.mt5_account_trade_allowed.with_label_values(&labels).set(allowed.into());
            }
        });
    }

    /// Counts an error of a call.
    pub fn count_error(&self, account: AccountId, method: Method, error: &str) {
        self.with_account(account, |account| {
            let labels = [account, method.name(), error];
            self.mt5_errors_total.with_label_values(&labels).inc();
        });
    }

    /// The counter of calls that ended so. `None`: the account is not served any more.
    pub fn calls(&self, account: AccountId, method: Method, outcome: &str) -> Option<IntCounter> {
        self.with_account(account, |account| {
            self.mt5_calls_total.with_label_values(&[account, method.name(), outcome])
        })
    }
}
