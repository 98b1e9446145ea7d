//! A terminal without a broker: demo, test double, and a way to see how the
//! gateway copes. Two with the same seed agree about every price.
//!
//! [`prices`] makes history out of numbers, [`replay`] takes it from a file that
//! [`bar_file`] reads, [`feed`] makes symbols of them, [`broker`] keeps the
//! account, [`market`] answers calls. This file gives them a clock, latency and
//! faults.

mod bar_file;
mod broker;
mod feed;
mod market;
mod prices;
mod replay;
mod symbols;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::broker::Broker;
use self::market::Market;
use super::{
    Answered, Answers, Ending, Event, EventSink, Failure, Launch, Lease, Mode, SubmittedCall,
    Terminal,
};
use crate::clock::BootInstant;
use crate::mt5::{Answer, AnswerKind, Error, Method, Request, Retcode};

pub use self::broker::MarginMode;
pub use self::replay::Replay;

/// How long a simulator may take to end after it was closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The names of the simulated symbols.
pub fn symbols() -> impl Iterator<Item = &'static str> {
    symbols::SPECS.iter().map(|spec| spec.name)
}

/// A simulated account.
#[derive(Debug)]
pub struct Options {
    /// The account's number.
    pub login: u64,
    /// The server's name.
    pub server: String,
    /// What prices follow from.
    pub seed: u64,
    /// The deposit, in USD.
    pub balance: f64,
    /// How the account holds positions.
    pub margin_mode: MarginMode,
    /// What a lot costs, each time that it is bought or sold, in USD.
    pub commission: f64,
    /// Symbols whose history comes from a file.
    pub bars: BTreeMap<String, Arc<Replay>>,
    /// How long each call takes.
    pub latency: Duration,
    /// The faults to inject, by method.
    pub faults: BTreeMap<Method, InjectedFault>,
}

/// A fault that the settings inject into the calls of a method.
#[derive(Debug, Clone)]
pub struct InjectedFault {
    /// What it does.
    pub kind: FaultKind,
    /// Inject the fault into every n-th call of the method (1 = every call).
    pub every: u64,
    /// Whether the call is carried out before the fault.
    pub after: bool,
}

/// What a fault does to a call.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultKind {
    /// Answers it with this error.
    Error(Error),
    /// Answers an `order_send` with this return code.
    Retcode(Retcode),
    /// Never answers it.
    Hang,
    /// Ends the terminal.
    Exit,
}

/// Starts simulators, all of one account.
pub struct Launcher {
    options: Arc<Options>,
    broker: Arc<Mutex<Broker>>,
}

impl Launcher {
    /// Opens the account that the options describe.
    pub fn new(options: Options) -> Launcher {
        let options = Arc::new(options);
        let broker = Arc::new(Mutex::new(Broker::new(options.clone(), now_msc())));
        Launcher { options, broker }
    }
}

impl Launch for Launcher {
    fn launch(&self, _session: usize, lease: Lease, events: EventSink) -> Box<dyn Terminal> {
        let (calls, queue) = mpsc::unbounded_channel();
        let market = Arc::new(Mutex::new(Market::new(&self.options, self.broker.clone())));
        let options = self.options.clone();
        let task = tokio::spawn(run(options.clone(), market.clone(), lease, events, queue));
        Box::new(Handle { options, market, calls, task: Some(task.abort_handle()) })
    }

    fn mode(&self) -> Mode {
        Mode::Simulated
    }

    fn init_timeout(&self) -> Duration {
        Duration::from_secs(10)
    }
}

struct Handle {
    options: Arc<Options>,
    /// Of the task, while it has a call.
    market: Arc<Mutex<Market>>,
    calls: mpsc::UnboundedSender<SubmittedCall>,
    task: Option<AbortHandle>,
}

impl Terminal for Handle {
    fn submit(&mut self, call: SubmittedCall, idle: bool) -> Option<Answered> {
        let method = call.request.method();
        let takes_time = is_long(method) || !self.options.latency.is_zero();
        if idle && !takes_time && !self.options.faults.contains_key(&method) {
            return Some(answer(&self.market, &call));
        }
        // A simulator that ended has said so; the call is accounted for there.
        let _ = self.calls.send(call);
        None
    }

    fn close(mut self: Box<Self>) {
        // Dropping `calls` ends it, unless it hangs as its faults say.
        if let Some(task) = self.task.take() {
            tokio::spawn(async move {
                tokio::time::sleep(CLOSE_TIMEOUT).await;
                task.abort();
            });
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn run(
    options: Arc<Options>,
    market: Arc<Mutex<Market>>,
    lease: Lease,
    events: EventSink,
    mut calls: mpsc::UnboundedReceiver<SubmittedCall>,
) {
    let _lease = lease.lock_owned().await;
    events(Event::Started("simulator".to_owned()));
    let mut seen: BTreeMap<Method, u64> = BTreeMap::new();
    let mut answers = Answers::new();
    while let Some(call) = next(&mut calls, &mut answers, &events).await {
        let method = call.request.method();
        let fault = due_fault(&options, &mut seen, method);
        if is_long(method) || fault.is_some() || !options.latency.is_zero() {
            // Who has an answer need not wait for this one.
            tell(&mut answers, &events);
        }
        if !options.latency.is_zero() {
            tokio::time::sleep(options.latency).await;
        }
        if is_late(&call) {
            answers.push(withdrawn(call.id));
            continue;
        }
        let (id, mut result) = (call.id, Ok(Answer::Done(())));
        match fault {
            Some(InjectedFault { kind: FaultKind::Retcode(retcode), after: false, .. })
                if let Request::OrderSend { request } = &call.request =>
            {
                result = Ok(market.lock().refuse(request, *retcode, now_msc()));
            }
            Some(InjectedFault { kind: FaultKind::Error(error), after: false, .. }) => {
                result = Err(Failure::Mt5(error.clone()));
            }
            Some(InjectedFault {
                kind: FaultKind::Hang | FaultKind::Exit, after: false, ..
            }) => {}
            _ if is_long(method) => {
                let market = market.clone();
                let answered = tokio::task::spawn_blocking(move || answer(&market, &call)).await;
                match answered {
                    Ok(answered) => result = answered.result,
                    Err(failure) => std::panic::resume_unwind(failure.into_panic()),
                }
            }
            _ => result = answer(&market, &call).result,
        }
        match fault.map(|fault| &fault.kind) {
            Some(FaultKind::Hang) => std::future::pending().await,
            Some(FaultKind::Exit) => {
                return events(Event::Ended(Ending::Exit(format!(
                    "the simulator ended in {method}, as its faults say"
                ))));
            }
            Some(FaultKind::Error(error)) => result = Err(Failure::Mt5(error.clone())),
            Some(FaultKind::Retcode(retcode)) => {
                if let Ok(Answer::OrderSend(sent)) = &mut result {
                    sent.retcode = retcode.code();
                }
            }
            None => {}
        }
        answers.push(Answered { id, at: Instant::now(), result });
    }
}

/// Answers a call, unless it is late.
fn answer(market: &Mutex<Market>, call: &SubmittedCall) -> Answered {
    let mut market = market.lock();
    if is_late(call) {
        return withdrawn(call.id);
    }
    let result = market.answer(&call.request, now_msc()).map_err(Failure::Mt5);
    Answered { id: call.id, at: Instant::now(), result }
}

fn is_late(call: &SubmittedCall) -> bool {
    call.send_by.is_some_and(BootInstant::has_passed)
}

fn withdrawn(id: u64) -> Answered {
    Answered { id, at: Instant::now(), result: Err(Failure::Withdrawn) }
}

/// The next call, before which the answers that are there are told if it has to be waited for.
async fn next(
    calls: &mut mpsc::UnboundedReceiver<SubmittedCall>,
    answers: &mut Answers,
    events: &EventSink,
) -> Option<SubmittedCall> {
    if let Ok(call) = calls.try_recv() {
        return Some(call);
    }
    tell(answers, events);
    let call = calls.recv().await;
    // Whoever is about to call does so first, so that more can be told together.
    tokio::task::yield_now().await;
    call
}

fn tell(answers: &mut Answers, events: &EventSink) {
    if !answers.is_empty() {
        events(Event::Answered(std::mem::take(answers)));
    }
}

fn due_fault<'a>(
    options: &'a Options,
    seen: &mut BTreeMap<Method, u64>,
    method: Method,
) -> Option<&'a InjectedFault> {
    let fault = options.faults.get(&method)?;
    let count = seen.entry(method).or_default();
    *count += 1;
    count.is_multiple_of(fault.every).then_some(fault)
}

/// Whether a call may take more than microseconds.
fn is_long(method: Method) -> bool {
    matches!(method.reply(), AnswerKind::Rates | AnswerKind::Ticks)
}

fn now_msc() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
