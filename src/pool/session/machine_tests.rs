//! A session's machine against an account, a terminal and a clock that do anything in any order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use smallvec::smallvec;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::effect::{Effect, Generation, Now, Report, Surroundings, Timer};
use super::machine::{Config, Machine};
use super::notice::{Settled, StopToken};
use crate::actor::RestartPolicy;
use crate::clock::BootInstant;
use crate::metrics::AccountId;
use crate::mt5::{AccountInfo, Answer, Error, Request, TerminalInfo, TradeRequest};
use crate::pool::Options;
use crate::pool::call::{
    CallError, LastCheck, QueuePermit, QueuedCall, QueuedTrade, TradeError, TradeOutcome,
};
use crate::pool::coalescing::Waiter;
use crate::pool::labels::{RestartReason, SessionState};
use crate::terminal::{self, Answered, Ending, Failure};

const LOGIN: u64 = 7;
const CAPACITY: usize = 10_000;
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// What the machine asks of the account.
struct Around {
    primary: bool,
    /// Whether another session is ready and idle.
    other_idle: bool,
}

impl Surroundings for Around {
    fn is_primary(&self) -> bool {
        self.primary
    }

    fn has_several_sessions(&self) -> bool {
        true
    }

    fn hand_over_after(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn hand_primary_over(&self) -> bool {
        self.other_idle
    }

    fn check_identity(&self, info: &AccountInfo) -> Result<(), String> {
        if info.login == LOGIN { Ok(()) } else { Err("another account".to_owned()) }
    }
}

/// Plays the account, the terminal and the clock, and checks each effect.
struct World {
    machine: Machine,
    around: Around,
    now: Now,
    timers: Vec<(Instant, Timer, Generation)>,
    /// Calls that the running terminal has not answered yet.
    terminal: Option<VecDeque<(u64, Request)>>,
    generation: Generation,
    connected: bool,
    login: u64,
    /// What the running terminal has told, which decides whether it may be asked.
    told: Told,
    state: SessionState,
    busy: bool,
    reads_admission: Arc<Semaphore>,
    trades_admission: Arc<Semaphore>,
    depth: Arc<AtomicI64>,
    reads: Vec<Read>,
    trades: Vec<(u64, Option<oneshot::Receiver<TradeOutcome>>)>,
    /// Trades that the machine was given and has not ended.
    held: HashSet<u64>,
    /// Trades that were written, with whether the terminal answered them.
    written: HashMap<u64, bool>,
    /// Whether the last thing that the terminal said was whose account it shows.
    account_shown: bool,
    launches: usize,
    settled: Vec<Arc<AtomicBool>>,
    stopped: bool,
    reports: Vec<&'static str>,
    _stop: Option<mpsc::Receiver<std::convert::Infallible>>,
}

#[derive(Default)]
struct Told {
    initialized: bool,
    account: bool,
    connected: bool,
    lost: bool,
}

struct Read {
    /// `None`: the test has looked at it.
    answer: Option<oneshot::Receiver<Result<Answer, CallError>>>,
    deadline: Instant,
}

impl World {
    fn new() -> World {
        World::whose_terminal(false)
    }

    /// `provides_files`: its files are made before it starts.
    fn whose_terminal(provides_files: bool) -> World {
        let restart = RestartPolicy {
            backoff: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            budget: 3,
            window: Duration::from_secs(300),
        };
        let options = Options {
            call_timeout: CALL_TIMEOUT,
            trade_timeout: Duration::from_secs(60),
            probe_interval: PROBE_INTERVAL,
            count_holdings: true,
            restart,
            quarantine_retry: Duration::from_secs(300),
        };
        let config = Config {
            account: AccountId(0),
            init_timeout: Duration::from_secs(60),
            provides_files,
            options: Arc::new(options),
            jitter: || 1.0,
        };
        let now = Now { at: Instant::now(), boot: BootInstant::from_boot(Duration::from_secs(9)) };
        let mut world = World {
            machine: Machine::new(config, now.at),
            around: Around { primary: true, other_idle: false },
            now,
            timers: vec![],
            terminal: None,
            generation: 0,
            connected: true,
            login: LOGIN,
            told: Told::default(),
            state: SessionState::Starting,
            busy: false,
            reads_admission: Arc::new(Semaphore::new(CAPACITY)),
            trades_admission: Arc::new(Semaphore::new(CAPACITY)),
            depth: Arc::default(),
            reads: vec![],
            trades: vec![],
            held: HashSet::new(),
            written: HashMap::new(),
            account_shown: false,
            launches: 0,
            settled: vec![],
            stopped: false,
            reports: vec![],
            _stop: None,
        };
        world.ring(Timer::Launch, world.machine.generation());
        world
    }

    /// A session that is ready, on a terminal that has answered everything.
    fn ready() -> World {
        let mut world = World::new();
        world.start();
        world.answer_all();
        assert_eq!(world.state, SessionState::Ready);
        world
    }

    // What comes in.

    fn start(&mut self) {
        self.hear(terminal::Event::Process(self.generation as u32));
        self.hear(terminal::Event::Started("1".to_owned()));
    }

    fn read(&mut self, internal: bool, urgent: bool, within: Duration) {
        let deadline = self.now.at + within;
        let (waiter, answer) = Waiter::new(deadline);
        let permit = self.reads_admission.clone().try_acquire_owned().unwrap();
        let call = Box::new(QueuedCall {
            request_id: "test".into(),
            request: Request::SymbolsTotal,
            arrived: self.now.at,
            permit: QueuePermit::new(permit, self.depth.clone()),
            moved: false,
            internal,
            urgent,
            waiters: smallvec![waiter],
            shared: None,
        });
        self.reads.push(Read { answer: Some(answer), deadline });
        self.machine.take_call(call, self.now);
        self.perform();
    }

    fn trade(&mut self, within: Duration) {
        let id = self.trades.len() as u64;
        let (reply, traded) = oneshot::channel();
        let permit = self.trades_admission.clone().try_acquire_owned().unwrap();
        let permit = QueuePermit::new(permit, self.depth.clone());
        let request = Box::new(TradeRequest { order: id, ..TradeRequest::default() });
        let send_by = self.now.boot + within;
        let trade =
            QueuedTrade::new(request, send_by, LastCheck::none(), self.now.at, permit, reply);
        self.trades.push((id, Some(traded)));
        self.held.insert(id);
        self.machine.take_trade(trade, self.now, &self.around);
        self.perform();
    }

    /// The terminal answers its oldest calls, together.
    fn answer(&mut self, count: usize) {
        let Some(pending) = &mut self.terminal else {
            return;
        };
        let count = count.min(pending.len());
        let calls: Vec<_> = pending.drain(..count).collect();
        let answers = calls.into_iter().map(|(id, request)| {
            let answer = match request {
                Request::Initialize => Answer::Done(()),
                Request::AccountInfo => Answer::AccountInfo(Box::new(AccountInfo {
                    login: self.login,
                    ..AccountInfo::default()
                })),
                Request::TerminalInfo => Answer::TerminalInfo(Box::new(TerminalInfo {
                    connected: self.connected,
                    ..TerminalInfo::default()
                })),
                Request::OrderSend { request } => {
                    self.written.insert(request.order, true);
                    Answer::OrderSend(Box::default())
                }
                _ => Answer::Total(0),
            };
            self.told.hear(&answer);
            self.account_shown =
                matches!(&answer, Answer::AccountInfo(info) if info.login == LOGIN);
            Answered { id, at: self.now.at, result: Ok(answer) }
        });
        let answers: terminal::Answers = answers.collect();
        if !answers.is_empty() {
            self.hear(terminal::Event::Answered(answers));
        }
    }

    fn answer_all(&mut self) {
        for _ in 0..20 {
            self.answer(usize::MAX);
        }
    }

    /// The terminal fails its oldest call.
    fn answer_failure(&mut self, failure: Failure) {
        let Some((id, request)) = self.terminal.as_mut().and_then(VecDeque::pop_front) else {
            return;
        };
        if let Request::OrderSend { request } = request {
            self.written.insert(request.order, true);
        }
        self.account_shown = false;
        let answer = Answered { id, at: self.now.at, result: Err(failure) };
        self.hear(terminal::Event::Answered(smallvec![answer]));
    }

    fn answer_out_of_turn(&mut self) {
        self.account_shown = false;
        let id = u64::MAX;
        let answer = Answered { id, at: self.now.at, result: Ok(Answer::Total(0)) };
        self.hear(terminal::Event::Answered(smallvec![answer]));
    }

    fn die(&mut self, ending: Ending) {
        self.hear(terminal::Event::Ended(ending));
    }

    fn hear(&mut self, event: terminal::Event) {
        if self.terminal.is_some() && !self.stopped {
            self.machine.hear(self.generation, event, self.now, &self.around);
            self.perform();
        }
    }

    fn ring(&mut self, timer: Timer, generation: Generation) {
        self.machine.ring(timer, generation, self.now, &self.around);
        self.perform();
    }

    /// Lets time pass, from one timer to the next.
    fn pass(&mut self, time: Duration) {
        let until = self.now.at + time;
        while !self.stopped {
            let next = self.timers.iter().enumerate().min_by_key(|(_, (at, ..))| *at);
            let Some((index, (at, timer, generation))) = next.filter(|(_, (at, ..))| *at <= until)
            else {
                break;
            };
            let (at, timer, generation) = (*at, *timer, *generation);
            self.timers.swap_remove(index);
            self.set_now(at.max(self.now.at));
            self.ring(timer, generation);
        }
        self.set_now(until);
    }

    fn set_now(&mut self, at: Instant) {
        let passed = at - self.now.at;
        self.now = Now { at, boot: self.now.boot + passed };
    }

    fn restart(&mut self) {
        self.restart_for(RestartReason::Request);
    }

    fn restart_for(&mut self, reason: RestartReason) {
        let settled = Arc::new(AtomicBool::new(false));
        self.settled.push(settled.clone());
        let settled = Settled::new(move || settled.store(true, Ordering::Relaxed));
        self.machine.restart(reason, settled, self.now);
        self.perform();
    }

    fn stop(&mut self) {
        let (token, stop): (StopToken, _) = mpsc::channel(1);
        self._stop = Some(stop);
        self.machine.stop(token, self.now);
        self.perform();
    }

    // What goes out.

    fn perform(&mut self) {
        for effect in self.machine.take_effects() {
            self.check(effect);
        }
        let pending = self.terminal.as_ref().is_some_and(|pending| !pending.is_empty());
        assert_eq!(self.busy, pending, "busy is shown wrongly");
        assert!(self.state != SessionState::Ready || self.told.is_trusted(), "ready too early");
    }

    fn check(&mut self, effect: Effect) {
        assert!(!self.stopped || matches!(effect, Effect::Stop), "after the end: {effect:?}");
        match effect {
            Effect::Launch(generation) => {
                assert!(self.terminal.is_none(), "a second terminal beside the first");
                self.terminal = Some(VecDeque::new());
                self.generation = generation;
                self.told = Told::default();
                self.account_shown = false;
                self.launches += 1;
            }
            Effect::Submit { id, request, send_by, idle } => {
                let pending = self.terminal.as_ref().map_or(0, VecDeque::len);
                assert_eq!(idle, pending == 0, "{request:?}");
                self.check_written(id, request, send_by);
            }
            Effect::Close | Effect::Kill => {
                assert!(self.terminal.take().is_some(), "no terminal to end");
                self.told = Told::default();
            }
            Effect::Arm(timer, after, generation) => {
                if timer == Timer::Probe {
                    self.timers.retain(|(_, other, _)| *other != Timer::Probe);
                }
                self.timers.push((self.now.at + after, timer, generation));
            }
            Effect::Answer(call, at, result) => call.finish_at(at, result),
            Effect::Move(mut call) => {
                assert!(!call.moved, "a read is given to the session a second time");
                call.moved = true;
                call.finish(Err(CallError::NotReady(Duration::ZERO)));
            }
            Effect::EndTrade(trade, traded) => {
                let id = trade.request.order;
                assert!(self.held.remove(&id), "a trade ends twice");
                match &traded {
                    Ok(_) | Err(TradeError::Failed(_)) => {
                        assert!(self.written[&id], "not answered")
                    }
                    Err(TradeError::Unanswered(_)) => assert!(!self.written[&id], "answered"),
                    Err(TradeError::Withdrawn) if self.written.contains_key(&id) => {
                        assert!(self.written[&id], "only its terminal may withdraw it");
                    }
                    Err(
                        TradeError::NotSent(_)
                        | TradeError::Moved
                        | TradeError::Withdrawn
                        | TradeError::HeldBack,
                    ) => {
                        assert!(!self.written.contains_key(&id), "it was written: {traded:?}");
                    }
                }
                trade.finish(traded);
            }
            Effect::RefuseTrade(trade) => {
                let id = trade.request.order;
                assert!(self.held.remove(&id), "a trade ends twice");
                assert!(!self.written.contains_key(&id), "a written trade is called not sent");
                trade.finish(Err(TradeError::NotSent(CallError::NotReady(Duration::ZERO))));
            }
            Effect::Settle(settled) => drop(settled),
            Effect::Stop => {
                assert!(self.terminal.is_none() && self.held.is_empty());
                self.stopped = true;
            }
            Effect::Watch(pid) => {
                assert!(self.terminal.is_some(), "a process of no terminal is measured");
                assert_eq!(u64::from(pid), self.generation, "that of an earlier terminal");
            }
            Effect::SetState(state, _) => self.state = state,
            Effect::SetBusy { since, .. } => self.busy = since.is_some(),
            Effect::Report(report) => self.reports.push(match report {
                Report::Started(_) => "started",
                Report::LoggedIn { .. } => "logged in",
                Report::LoginFailed { .. } => "login failed",
                Report::Ready => "ready",
                Report::BrokerLost => "broker lost",
                Report::TradesHandedOver => "handed over",
                Report::Failed { reason, .. } => reason.name(),
                Report::Replaced(reason) => reason.name(),
            }),
            Effect::SetTradeFlags(_)
            | Effect::ShowAccount(_)
            | Effect::ShowTotal(..)
            | Effect::SetConnected(_)
            | Effect::NoteFiles(_)
            | Effect::CountCall(_)
            | Effect::Count(_) => {}
        }
    }

    fn check_written(&mut self, id: u64, request: Request, send_by: Option<BootInstant>) {
        let pending = self.terminal.as_mut().expect("nothing is written without a terminal");
        if !self.held.is_empty() {
            assert!(pending.is_empty(), "written beside a trade: {request:?}");
            let trades = matches!(request, Request::AccountInfo | Request::OrderSend { .. });
            assert!(trades, "a trade waits, but {request:?} is written");
        }
        match &request {
            Request::OrderSend { request } => {
                assert!(self.account_shown, "the account was not looked at");
                assert!(send_by.unwrap() > self.now.boot, "too late");
                assert!(self.held.contains(&request.order));
                let before = self.written.insert(request.order, false);
                assert!(before.is_none(), "a trade is written twice");
            }
            Request::SymbolsTotal => {
                assert!(self.told.is_trusted(), "a read goes to a terminal that is not trusted");
                assert_eq!(send_by, None);
            }
            _ => assert_eq!(send_by, None),
        }
        pending.push_back((id, request));
    }

    /// Stops the session and lets the terminal answer until it has stopped; nothing may be left then.
    fn finish(mut self) {
        if !self.stopped {
            self.login = LOGIN;
            self.stop();
        }
        for _ in 0..1_000 {
            if self.stopped {
                break;
            }
            self.start_if_new();
            self.answer(usize::MAX);
            self.pass(Duration::from_millis(50));
        }
        assert!(self.stopped, "the session does not end");
        let now = self.now.at;
        drop(self.machine);
        for read in self.reads {
            let Some(mut answer) = read.answer else {
                continue;
            };
            match answer.try_recv() {
                Ok(_) => {}
                Err(TryRecvError::Closed) => assert!(read.deadline <= now, "a read is lost"),
                Err(TryRecvError::Empty) => panic!("a read is never answered"),
            }
        }
        for (id, traded) in self.trades {
            let answered = traded.is_none_or(|mut traded| traded.try_recv().is_ok());
            assert!(answered, "trade {id} is never answered");
        }
        assert_eq!(self.reads_admission.available_permits(), CAPACITY);
        assert_eq!(self.trades_admission.available_permits(), CAPACITY);
        assert_eq!(self.depth.load(Ordering::Relaxed), 0);
        assert!(self.settled.iter().all(|settled| settled.load(Ordering::Relaxed)));
    }

    fn start_if_new(&mut self) {
        if self.terminal.as_ref().is_some_and(VecDeque::is_empty) && !self.told.initialized {
            self.start();
        }
    }

    fn traded(&mut self, id: usize) -> TradeOutcome {
        let mut traded = self.trades[id].1.take().expect("the test looks once");
        traded.try_recv().expect("the trade has ended")
    }

    fn told_read(&mut self, index: usize) -> Result<(), CallError> {
        let mut answer = self.reads[index].answer.take().expect("the test looks once");
        answer.try_recv().expect("the read has ended").map(drop)
    }

    fn pending(&self) -> Vec<&'static str> {
        let pending = self.terminal.iter().flatten();
        pending.map(|(_, request)| request.method().name()).collect()
    }
}

impl Told {
    fn hear(&mut self, answer: &Answer) {
        match answer {
            Answer::Done(()) => self.initialized = true,
            Answer::AccountInfo(info) => self.account = info.login == LOGIN && !self.lost,
            Answer::TerminalInfo(info) => {
                self.connected = info.connected;
                self.lost = !info.connected;
                self.account &= info.connected;
            }
            _ => {}
        }
    }

    fn is_trusted(&self) -> bool {
        self.initialized && self.account && self.connected
    }
}

/// One thing that happens to a session.
#[derive(Debug, Clone)]
enum Step {
    Read { internal: bool, urgent: bool, patient: bool },
    Trade { patient: bool },
    Start,
    Answer(usize),
    Fail(Failure),
    OutOfTurn,
    Die(Ending),
    Pass(Duration),
    Connect(bool),
    LogIn(u64),
    Primary(bool),
    OtherIdle(bool),
    Restart,
    Stop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let failure = prop_oneof![
        Just(Failure::Mt5(Error::not_found("no such symbol"))),
        Just(Failure::Mt5(Error::new(-10005, "IPC timeout"))),
        Just(Failure::Mt5(Error::new(-6, "authorization failed"))),
        Just(Failure::Unusable("an exception".to_owned())),
        Just(Failure::OtherAccount("another account".to_owned())),
        Just(Failure::Withdrawn),
    ];
    let ending = prop_oneof![
        Just(Ending::Exit("gone".to_owned())),
        Just(Ending::Protocol("nonsense".to_owned())),
    ];
    let time = prop_oneof![
        4 => (0u64..2_000).prop_map(Duration::from_millis),
        1 => (0u64..100).prop_map(Duration::from_secs),
    ];
    let read = (any::<bool>(), any::<bool>(), any::<bool>());
    let step = prop_oneof![
        8 => read.prop_map(|(internal, urgent, patient)| Step::Read { internal, urgent, patient }),
        4 => any::<bool>().prop_map(|patient| Step::Trade { patient }),
        6 => Just(Step::Start),
        16 => (1usize..5).prop_map(Step::Answer),
        2 => failure.prop_map(Step::Fail),
        1 => Just(Step::OutOfTurn),
        1 => ending.prop_map(Step::Die),
        4 => time.prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Connect),
        1 => prop_oneof![4 => Just(LOGIN), 1 => Just(LOGIN + 1)].prop_map(Step::LogIn),
        1 => any::<bool>().prop_map(Step::Primary),
        1 => any::<bool>().prop_map(Step::OtherIdle),
        1 => Just(Step::Restart),
        1 => Just(Step::Stop),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Each effect is checked as it comes, and what is left at the end: see [`World`].
    #[test]
    fn whatever_happens_every_waiter_is_answered_and_no_trade_is_written_twice_or_late(
        ready in any::<bool>(),
        steps in steps(),
    ) {
        let mut world = if ready { World::ready() } else { World::new() };
        for step in steps {
            if world.stopped {
                break;
            }
            match step {
                Step::Read { internal, urgent, patient } => {
                    let within = if patient { 100_000 } else { 1 };
                    world.read(internal, urgent, Duration::from_secs(within));
                }
                Step::Trade { patient } => {
                    world.trade(Duration::from_millis(if patient { 30_000 } else { 500 }));
                }
                Step::Start => world.start_if_new(),
                Step::Answer(count) => world.answer(count),
                Step::Fail(failure) => world.answer_failure(failure),
                Step::OutOfTurn => world.answer_out_of_turn(),
                Step::Die(ending) => world.die(ending),
                Step::Pass(time) => world.pass(time),
                Step::Connect(connected) => world.connected = connected,
                Step::LogIn(login) => world.login = login,
                Step::Primary(primary) => world.around.primary = primary,
                Step::OtherIdle(idle) => world.around.other_idle = idle,
                Step::Restart => world.restart(),
                Step::Stop => world.stop(),
            }
        }
        world.finish();
    }
}

const PATIENCE: Duration = Duration::from_secs(100_000);
/// Two of them end before the first probe.
const SEND_WITHIN: Duration = Duration::from_secs(4);

#[test]
fn a_trade_waits_for_an_idle_terminal_and_goes_before_waiting_reads() {
    let mut world = World::ready();
    world.read(false, false, PATIENCE);
    world.trade(SEND_WITHIN);
    world.read(false, false, PATIENCE);
    assert_eq!(world.pending(), ["symbols_total"]);
    world.answer(1);
    assert_eq!(world.pending(), ["account_info"]);
    world.answer(1);
    assert_eq!(world.pending(), ["order_send"]);
    world.answer(1);
    assert_eq!(world.traded(0), Ok(Box::default()));
    assert_eq!(world.pending(), ["symbols_total"]);
    world.finish();
}

#[test]
fn a_trade_that_waits_past_its_last_moment_is_withdrawn() {
    let mut world = World::ready();
    world.read(false, false, PATIENCE);
    world.trade(SEND_WITHIN);
    world.pass(SEND_WITHIN);
    assert_eq!(world.traded(0), Err(TradeError::Withdrawn));
    // Likewise while the account is being looked at, and when that takes until then.
    world.answer(1);
    world.trade(SEND_WITHIN);
    assert_eq!(world.pending(), ["account_info"]);
    world.pass(SEND_WITHIN);
    assert_eq!(world.traded(1), Err(TradeError::Withdrawn));
    world.answer(1);
    assert!(world.pending().is_empty(), "{:?}", world.pending());
    world.finish();
}

#[test]
fn a_trade_is_refused_when_the_terminal_shows_another_account() {
    let mut world = World::ready();
    world.login = LOGIN + 1;
    world.trade(SEND_WITHIN);
    world.answer(1);
    assert!(matches!(world.traded(0), Err(TradeError::NotSent(_))));
    assert_eq!(world.reports.last(), Some(&"login"));
    assert_eq!(world.state, SessionState::BackingOff);
    world.finish();
}

#[test]
fn a_trade_is_not_sent_from_a_session_that_others_left_while_its_account_was_looked_at() {
    let leave: [fn(&mut World); 2] = [World::restart, |world| world.around.primary = false];
    for leave in leave {
        let mut world = World::ready();
        world.trade(SEND_WITHIN);
        assert_eq!(world.pending(), ["account_info"]);
        leave(&mut world);
        world.answer(1);
        assert_eq!(world.traded(0), Err(TradeError::Moved));
        assert!(!world.pending().contains(&"order_send"));
        world.finish();
    }
}

#[test]
fn a_trade_that_waits_where_the_primary_no_longer_is_moves() {
    let mut world = World::ready();
    world.read(false, false, PATIENCE);
    world.trade(SEND_WITHIN);
    world.around.primary = false;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.traded(0), Err(TradeError::Moved));
    world.finish();
}

#[test]
fn a_trade_whose_terminal_ends_is_unanswered_and_one_that_waits_behind_it_is_not_sent() {
    let mut world = World::ready();
    world.trade(SEND_WITHIN);
    world.answer(1);
    world.trade(SEND_WITHIN);
    world.die(Ending::Exit("gone".to_owned()));
    assert_eq!(world.traded(0), Err(TradeError::Unanswered("gone".to_owned())));
    assert!(matches!(world.traded(1), Err(TradeError::NotSent(_))));
    world.finish();
}

#[test]
fn trades_go_to_another_session_only_while_none_was_sent() {
    let mut world = World::ready();
    world.read(false, false, PATIENCE);
    world.trade(SEND_WITHIN);
    world.around.other_idle = true;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.traded(0), Err(TradeError::Moved));
    world.answer(1);
    world.around.other_idle = false;
    world.trade(SEND_WITHIN);
    world.answer(1);
    world.trade(SEND_WITHIN);
    world.around.other_idle = true;
    world.pass(Duration::from_secs(3));
    assert_eq!(world.pending(), ["order_send"], "the first was sent, so both stay");
    world.answer(1);
    assert_eq!(world.traded(1), Ok(Box::default()));
    world.finish();
}

#[test]
fn the_read_that_a_terminal_hangs_in_ends_and_those_behind_it_move() {
    let mut world = World::ready();
    for _ in 0..3 {
        world.read(false, false, PATIENCE);
    }
    world.pass(CALL_TIMEOUT - PROBE_INTERVAL);
    world.pass(PROBE_INTERVAL);
    assert_eq!(world.told_read(0), Err(CallError::TimedOut(CALL_TIMEOUT)));
    for index in [1, 2] {
        assert_eq!(world.told_read(index), Err(CallError::NotReady(Duration::ZERO)));
    }
    assert_eq!(world.reports.last(), Some(&"hang"));
    world.finish();
}

#[test]
fn the_start_of_a_terminal_has_a_limit_from_when_its_files_are_made() {
    let mut world = World::whose_terminal(true);
    world.pass(Duration::from_secs(3_600));
    assert_eq!((world.launches, world.reports.last()), (1, None), "files may take long");
    world.hear(terminal::Event::Process(1));
    world.pass(Duration::from_secs(59));
    assert_eq!(world.reports.last(), None);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.reports.last(), Some(&"hang"));
    world.finish();

    let mut world = World::new();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.reports.last(), Some(&"hang"));
    world.finish();
}

#[test]
fn a_terminal_without_its_broker_gets_no_reads_until_it_shows_the_account_again() {
    let mut world = World::ready();
    world.connected = false;
    world.pass(PROBE_INTERVAL);
    world.answer_all();
    assert_eq!(world.state, SessionState::Disconnected);
    world.read(false, false, PATIENCE);
    assert_eq!(world.told_read(0), Err(CallError::NotReady(Duration::ZERO)));
    world.connected = true;
    world.login = LOGIN + 1;
    world.pass(Duration::from_secs(1));
    world.answer_all();
    assert_eq!(world.state, SessionState::BackingOff, "another account is logged in");
    world.finish();
}

#[test]
fn a_restart_lets_the_terminal_answer_what_it_has() {
    let mut world = World::ready();
    world.trade(SEND_WITHIN);
    world.answer(1);
    world.restart();
    assert_eq!((world.pending(), world.launches), (vec!["order_send"], 1));
    world.answer(1);
    assert_eq!(world.traded(0), Ok(Box::default()));
    assert_eq!(world.launches, 2);
    assert!(!world.settled[0].load(Ordering::Relaxed));
    world.start();
    world.answer_all();
    assert!(world.settled[0].load(Ordering::Relaxed));
    assert_eq!(world.state, SessionState::Ready);
    world.finish();
}

#[test]
fn a_terminal_that_trades_or_does_not_serve_is_not_recycled() {
    let mut world = World::ready();
    world.trade(SEND_WITHIN);
    // The look at the account before the trade, and then the trade.
    for _ in 0..2 {
        world.restart_for(RestartReason::Recycle);
        assert!(world.settled.pop().unwrap().load(Ordering::Relaxed), "nobody waits for it");
        assert_eq!((world.state, world.launches), (SessionState::Ready, 1));
        world.answer(1);
    }
    assert_eq!(world.traded(0), Ok(Box::default()));
    world.read(false, false, PATIENCE);
    world.restart_for(RestartReason::Recycle);
    assert_eq!(world.launches, 1, "a read is finished first");
    world.answer(1);
    assert_eq!((world.launches, world.reports.last()), (2, Some(&"recycle")));
    world.restart_for(RestartReason::Recycle);
    world.start();
    world.answer_all();
    assert_eq!((world.state, world.launches), (SessionState::Ready, 2));
    assert!(world.settled.iter().all(|settled| settled.load(Ordering::Relaxed)));
    assert!(world.told_read(0).is_ok());
    world.finish();
}

#[test]
fn a_session_that_stops_finishes_its_calls_and_takes_no_trade() {
    let mut world = World::ready();
    world.read(false, false, PATIENCE);
    world.stop();
    world.trade(SEND_WITHIN);
    assert!(matches!(world.traded(0), Err(TradeError::NotSent(_))));
    world.read(false, false, PATIENCE);
    world.answer(1);
    assert!(!world.stopped);
    world.answer(1);
    assert!(world.stopped);
    assert!(world.told_read(0).is_ok() && world.told_read(1).is_ok());
    world.finish();
}

#[test]
fn what_an_earlier_terminal_reports_counts_for_nothing() {
    let mut world = World::ready();
    let earlier = world.generation;
    world.die(Ending::Exit("gone".to_owned()));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.launches, 2);
    let event = terminal::Event::Ended(Ending::Exit("gone again".to_owned()));
    world.machine.hear(earlier, event, world.now, &world.around);
    assert!(world.machine.take_effects().is_empty());
    world.finish();
}
