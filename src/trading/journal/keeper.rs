//! The journal actor: writes what waits in the outbox, and removes what is past its retention.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;
use tracing::{info, warn};

use super::Journal;
use crate::actor::{Address, Depths, Envelope, Role};
use crate::trading::now_msc;

/// How often what waits is tried again.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// How often bodies past their retention are looked for.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3_600);

/// The actor.
pub struct Keeper;

/// What the actor is told.
pub enum Msg {
    /// Time to look.
    Tick,
}

/// What the actor needs.
#[derive(Clone)]
pub struct KeeperArgs {
    /// The journal.
    pub journal: Journal,
    /// How long requests and results are kept.
    pub retention: Duration,
    /// Messages that wait.
    pub depths: Depths,
}

/// What the actor knows.
pub struct State {
    args: KeeperArgs,
    address: Address<Msg>,
    forget_at: Instant,
}

impl Actor for Keeper {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = KeeperArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: KeeperArgs,
    ) -> Result<State, ActorProcessingErr> {
        let address = Address::new(Role::Journal, &args.depths);
        address.assign(myself);
        let _ = address.send(Msg::Tick);
        info!(actor = Role::Journal.name(), "actor started");
        Ok(State { args, address, forget_at: Instant::now() })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let Msg::Tick = message.open();
        let journal = &state.args.journal;
        journal.flush().await;
        if state.forget_at <= Instant::now() {
            state.forget_at = Instant::now() + RETENTION_INTERVAL;
            let kept = i64::try_from(state.args.retention.as_millis()).unwrap_or(i64::MAX);
            if let Err(error) = journal.forget_bodies(now_msc().saturating_sub(kept)).await {
                warn!(%error, "bodies past their retention cannot be removed");
            }
        }
        state.address.send_after(FLUSH_INTERVAL, Msg::Tick);
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        _state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        info!(actor = Role::Journal.name(), "actor stopped");
        Ok(())
    }
}
