//! The actor that supervises hubs. It starts one when an account has its first subscriber, and starts
//! it again when it fails.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::hub::{self, Hub, Subscribe};
use crate::account_name::AccountName;
use crate::actor::{Address, Children, Ended, Envelope, Ping, RestartPolicy, Role};
use crate::metrics::{Event, Metrics};

/// Supervises hubs.
pub struct StreamsActor;

/// What the supervisor is told.
pub enum Msg {
    /// Somebody subscribes to events of this account.
    Subscribe(AccountName, Subscribe),
    /// Time to start the hub of this account again.
    Start(AccountName),
    /// Answers that it lives.
    Ping(Ping),
    /// Fails.
    #[cfg(test)]
    Fail,
}

impl From<Ping> for Msg {
    fn from(ping: Ping) -> Msg {
        Msg::Ping(ping)
    }
}

/// What the supervisor needs.
#[derive(Clone)]
pub struct Args {
    /// Its own address.
    pub address: Address<Msg>,
    /// What each account's hub needs.
    pub hubs: Arc<BTreeMap<AccountName, hub::Args>>,
    /// Where restarts are counted.
    pub metrics: Metrics,
}

/// What the supervisor knows.
pub struct State {
    args: Args,
    children: Children<AccountName>,
    /// Accounts whose hubs failed and wait for their next start.
    failed: HashSet<AccountName>,
}

impl Actor for StreamsActor {
    type Msg = Envelope<Msg>;
    type State = State;
    type Arguments = Args;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        args.address.started(myself.clone());
        let children = Children::new(RestartPolicy::UNLIMITED);
        let mut state = State { args, children, failed: HashSet::new() };
        // Whoever subscribed before an earlier supervisor ended is still there.
        let hubs = state.args.hubs.clone();
        for (account, hub) in hubs.iter() {
            if hub.feed.has_subscribers() {
                state.start(account, hub, &myself).await;
            }
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message.open() {
            Msg::Subscribe(account, subscribe) => {
                state.subscribe(&account, subscribe, &myself).await;
            }
            Msg::Start(account) => state.restart(&account, &myself).await,
            Msg::Ping(ping) => ping.answer(),
            #[cfg(test)]
            Msg::Fail => return Err("injected".into()),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(ended) = state.children.ended(event) {
            state.ended(ended);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        state.children.stop(myself.get_cell()).await;
        state.args.address.stopped();
        Ok(())
    }
}

impl State {
    /// Hands a subscription to the account's hub, which is started if it is not there. Drops it, which
    /// the subscriber sees, while the hub waits for its restart.
    async fn subscribe(
        &mut self,
        account: &AccountName,
        subscribe: Subscribe,
        myself: &ActorRef<Envelope<Msg>>,
    ) {
        let hubs = self.args.hubs.clone();
        let Some(hub) = hubs.get(account) else {
            return;
        };
        if !self.children.is_running(account) && !self.failed.contains(account) {
            self.start(account, hub, myself).await;
        }
        let _ = hub.address.send(hub::Msg::Subscribe(subscribe));
    }

    async fn start(
        &mut self,
        account: &AccountName,
        hub: &hub::Args,
        myself: &ActorRef<Envelope<Msg>>,
    ) {
        let cell = myself.get_cell();
        match self.children.spawn(account.clone(), Hub, hub.clone(), cell).await {
            Ok(()) => {}
            Err(ended) => self.ended(ended),
        }
    }

    /// Starts a hub that failed, unless its last subscriber left meanwhile: then the next one starts it.
    async fn restart(&mut self, account: &AccountName, myself: &ActorRef<Envelope<Msg>>) {
        if self.children.is_running(account) {
            return;
        }
        self.failed.remove(account);
        let hubs = self.args.hubs.clone();
        if let Some(hub) = hubs.get(account)
            && hub.feed.has_subscribers()
        {
            self.start(account, hub, myself).await;
            if self.children.is_running(account) {
                self.args.metrics.record(Event::ActorRestarted(Role::Hub));
            }
        }
    }

    fn ended(&mut self, ended: Ended<AccountName>) {
        let account = &ended.key;
        self.failed.insert(account.clone());
        let start = Msg::Start(account.clone());
        ended.retry(Role::Hub, Some(account), &self.args.address, start);
    }
}
