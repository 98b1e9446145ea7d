//! The session actor: carries out what its machine decides.
//!
//! It never waits for its terminal: calls go out by [`Terminal::submit`] and come back as messages, or
//! with it if they take no time. So health, stop and supervision are always answered.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use smallvec::smallvec;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::backoff::NextStart;
use super::effect::{Effect, Generation, Now, Report, Surroundings, Timer};
use super::machine::{Config, Machine};
use super::notice::{Settled, StopToken};
use crate::actor::{Address, Envelope};
use crate::metrics::Watch;
use crate::mt5::{AccountInfo, AccountValues};
use crate::pool::Options;
use crate::pool::accounts::Account;
use crate::pool::call::{QueuedCall, QueuedTrade, TradeError};
use crate::pool::labels::RestartReason;
use crate::pool::session_slot::SessionSlot;
use crate::terminal::{self, Answered, SubmittedCall, Terminal};

/// What a session is told.
pub enum Msg {
    /// Make a call.
    Call(Box<QueuedCall>),
    /// Send a trade.
    Trade(QueuedTrade),
    /// The terminal of this generation reports.
    Terminal(Generation, terminal::Event),
    /// It is time for something that was decided in this generation.
    Ring(Timer, Generation),
    /// Replace the terminal for this reason. Dropped when the new one is ready or has failed, or if a
    /// trade keeps the terminal from being recycled.
    Restart(RestartReason, Settled),
    /// Let the terminal finish and end. Dropped when the actor has ended; the terminal is gone when
    /// its lease is free.
    Stop(StopToken),
    /// Fail.
    #[cfg(test)]
    Fail,
}

/// Owns one terminal.
pub struct Session;

/// What the actor needs.
pub struct Args {
    pub account: Arc<Account>,
    /// Which of the account's sessions this is.
    pub index: usize,
    pub options: Arc<Options>,
}

/// What the actor knows.
pub struct State {
    machine: Machine,
    place: Place,
    /// Of this actor alone, so that nothing that an earlier one began is taken for this one's.
    address: Address<Msg>,
    terminal: Option<Box<dyn Terminal>>,
    /// What the terminal answered at once, until the machine hears it. One at most: only an idle
    /// terminal answers so.
    answered: Option<Answered>,
    next_probe: Option<AbortHandle>,
    /// Has the terminal's process measured.
    watch: Option<Watch>,
}

/// Where the session stands: its account, and which of the account's sessions it is.
struct Place {
    account: Arc<Account>,
    index: usize,
}

impl Actor for Session {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let Args { account, index, options } = args;
        let config = Config {
            account: account.id,
            init_timeout: account.launcher.init_timeout(),
            provides_files: account.launcher.provides_files(),
            options,
            jitter: || rand::random_range(0.0..=1.0),
        };
        let machine = Machine::new(config, Instant::now());
        let address = &account.slots[index].address;
        address.started(myself);
        let address = address.pinned();
        // Not here: a terminal that cannot be launched is a failure of this actor, not of its start.
        let _ = address.send(Msg::Ring(Timer::Launch, machine.generation()));
        let place = Place { account, index };
        Ok(State {
            machine,
            place,
            address,
            terminal: None,
            answered: None,
            next_probe: None,
            watch: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let State { machine, place, .. } = state;
        let now = Now::read();
        match message.open() {
            Msg::Call(call) => machine.take_call(call, now),
            Msg::Trade(trade) => machine.take_trade(trade, now, place),
            Msg::Terminal(generation, event) => machine.hear(generation, event, now, place),
            Msg::Ring(timer, generation) => machine.ring(timer, generation, now, place),
            Msg::Restart(reason, settled) => machine.restart(reason, settled, now),
            Msg::Stop(token) => machine.stop(token, now),
            #[cfg(test)]
            Msg::Fail => return Err("injected".into()),
        }
        state.carry_out(&myself);
        while let Some(answered) = state.answered.take() {
            let State { machine, place, .. } = state;
            // It took no time.
            let now = Now { at: answered.at, ..now };
            let event = terminal::Event::Answered(smallvec![answered]);
            machine.hear(machine.generation(), event, now, place);
            state.carry_out(&myself);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.address.stopped();
        Ok(())
    }
}

impl State {
    /// Carries out what the machine has decided.
    fn carry_out(&mut self, myself: &ActorRef<Envelope<Msg>>) {
        let mut effects = self.machine.take_effects();
        for effect in effects.drain(..) {
            self.perform(effect, myself);
        }
        self.machine.recycle(effects);
    }

    fn perform(&mut self, effect: Effect, myself: &ActorRef<Envelope<Msg>>) {
        let Place { account, index } = &self.place;
        match effect {
            Effect::Launch(generation) => self.launch(generation),
            Effect::Submit { id, request, send_by, idle } => {
                if let Some(terminal) = &mut self.terminal {
                    let call = SubmittedCall { id, request, send_by };
                    self.answered = terminal.submit(call, idle).or(self.answered.take());
                }
            }
            Effect::Close => {
                self.answered = None;
                self.watch = None;
                if let Some(terminal) = self.terminal.take() {
                    terminal.close();
                }
            }
            Effect::Kill => {
                self.answered = None;
                self.watch = None;
                self.terminal = None;
            }
            Effect::Arm(timer, after, generation) => {
                let armed = self.address.send_after(after, Msg::Ring(timer, generation));
                if timer == Timer::Probe
                    && let Some(earlier) = self.next_probe.replace(armed)
                {
                    earlier.abort();
                }
            }
            Effect::Answer(call, at, result) => call.finish_at(at, result),
            Effect::Move(call) => account.hand_over(call, *index),
            Effect::EndTrade(trade, traded) => trade.finish(traded),
            Effect::RefuseTrade(trade) => {
                trade.finish(Err(TradeError::NotSent(account.not_ready())));
            }
            Effect::Settle(settled) => drop(settled),
            Effect::Stop => myself.stop(None),
            Effect::SetState(to, retry_at) => account.set_state(*index, to, retry_at),
            Effect::SetConnected(connected) => account.set_connected(*index, connected),
            Effect::SetTradeFlags(flags) => account.set_trade_flags(*index, flags),
            Effect::ShowAccount(info) => account.show_values(*index, AccountValues::of(&info)),
            Effect::ShowTotal(method, total) => account.show_total(*index, method, total),
            Effect::SetBusy { since, internal } => {
                self.place.slot().set_busy_since(since, internal);
            }
            Effect::Watch(pid) => {
                self.watch = Some(Watch::begin(&account.metrics, account.id, *index, pid));
            }
            Effect::NoteFiles(bytes) => {
                if let Some(watch) = &self.watch {
                    watch.note_files(bytes);
                }
            }
            Effect::CountCall(call) => account.metrics.count_call(call),
            Effect::Count(event) => account.metrics.record(event),
            Effect::Report(report) => self.place.report(report),
        }
    }

    fn launch(&mut self, generation: Generation) {
        let address = self.address.clone();
        let sink = Arc::new(move |event| {
            // A session that is gone has dropped the terminal already.
            let _ = address.send(Msg::Terminal(generation, event));
        });
        let lease = self.place.slot().lease.clone();
        self.terminal = Some(self.place.account.launcher.launch(self.place.index, lease, sink));
    }
}

impl Place {
    fn slot(&self) -> &SessionSlot {
        &self.account.slots[self.index]
    }

    fn report(&self, report: Report) {
        let Place { account, index: session } = self;
        let (session, name, login) = (*session, account.name.as_str(), account.login);
        match report {
            Report::Started(versions) => {
                info!(account = name, session, versions, "terminal started");
            }
            Report::LoggedIn { after: duration } => {
                account.note_login(session, true);
                info!(account = name, session, login, ?duration, "login succeeded");
            }
            Report::LoginFailed { detail } => {
                account.note_login(session, false);
                warn!(account = name, session, login, detail, "login failed");
            }
            Report::Ready => info!(account = name, session, "session ready"),
            Report::BrokerLost => {
                warn!(account = name, session, "terminal lost its broker");
                account.note_error(session, "the terminal is not connected to its broker".into());
            }
            Report::TradesHandedOver => {
                warn!(account = name, session, "session is slow, trades go to another");
            }
            Report::Failed { reason, detail, next_start, request_id } => {
                let (message, retry_in) = match next_start {
                    NextStart::BackingOff(delay) => ("terminal restarting", delay),
                    NextStart::Quarantined(delay) => ("session quarantined", delay),
                };
                let reason = reason.name();
                let request_id = request_id.as_deref();
                warn!(account = name, session, reason, detail, ?retry_in, request_id, "{message}");
                account.note_error(session, detail);
                account.note_restart(session);
            }
            Report::Replaced(reason) => {
                let reason = reason.name();
                info!(account = name, session, reason, "terminal restarting");
                account.note_restart(session);
            }
        }
    }
}

impl Surroundings for Place {
    fn is_primary(&self) -> bool {
        self.account.is_primary(self.index)
    }

    fn has_several_sessions(&self) -> bool {
        self.account.has_several_sessions()
    }

    fn hand_over_after(&self) -> Duration {
        self.account.hand_over_after()
    }

    fn hand_primary_over(&self) -> bool {
        self.account.hand_primary_over(self.index)
    }

    fn check_identity(&self, info: &AccountInfo) -> Result<(), String> {
        self.account.check_identity(info)
    }
}
