//! The actor that supervises hubs. It starts one when an account has its first subscriber, and starts
//! it again when it fails.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::oneshot;

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
    /// End the hub of an account that goes. The answer comes when it has ended.
    Close(AccountName, oneshot::Sender<()>),
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

/// What the hub of each account needs.
pub type Hubs = BTreeMap<AccountName, hub::Args>;

/// What the supervisor needs.
#[derive(Clone)]
pub struct Args {
    /// Its own address.
    pub address: Address<Msg>,
    /// What each account's hub needs. Accounts come and go.
    pub hubs: Arc<RwLock<Hubs>>,
    /// Where restarts are counted.
    pub metrics: Metrics,
}

/// What the supervisor knows.
pub struct State {
    args: Args,
    children: Children<AccountName>,
    /// Accounts whose hubs failed and wait for their next start.
    failed: HashSet<AccountName>,
    /// Who waits for the end of which hub.
    closing: HashMap<AccountName, oneshot::Sender<()>>,
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
        let mut state = State { args, children, failed: HashSet::new(), closing: HashMap::new() };
        // Whoever subscribed before an earlier supervisor ended is still there.
        let hubs = state.args.hubs.read().clone();
        for (account, hub) in &hubs {
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
            Msg::Close(account, closed) => state.close(account, closed),
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
            match state.closing.remove(&ended.key) {
                // Its account goes.
                Some(closed) => {
                    state.children.forget(&ended.key);
                    let _ = closed.send(());
                }
                None => state.ended(&ended),
            }
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
        let Some(hub) = self.hub(account) else {
            return;
        };
        if !self.children.is_running(account) && !self.failed.contains(account) {
            self.start(account, &hub, myself).await;
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
            Err(ended) => self.ended(&ended),
        }
    }

    /// Starts a hub that failed, unless its last subscriber left meanwhile: then the next one starts it.
    async fn restart(&mut self, account: &AccountName, myself: &ActorRef<Envelope<Msg>>) {
        if self.children.is_running(account) {
            return;
        }
        self.failed.remove(account);
        if let Some(hub) = self.hub(account)
            && hub.feed.has_subscribers()
        {
            self.start(account, &hub, myself).await;
            if self.children.is_running(account) {
                self.args.metrics.record(Event::ActorRestarted(Role::Hub));
            }
        }
    }

    fn hub(&self, account: &AccountName) -> Option<hub::Args> {
        self.args.hubs.read().get(account).cloned()
    }

    /// Ends the hub of an account that goes.
    fn close(&mut self, account: AccountName, closed: oneshot::Sender<()>) {
        self.failed.remove(&account);
        if self.children.stop_one(&account) {
            self.closing.insert(account, closed);
        } else {
            self.children.forget(&account);
            let _ = closed.send(());
        }
    }

    fn ended(&mut self, ended: &Ended<AccountName>) {
        let account = &ended.key;
        if self.hub(account).is_none() {
            // Its account has gone.
            return self.children.forget(account);
        }
        self.failed.insert(account.clone());
        let start = Msg::Start(account.clone());
        ended.retry(Role::Hub, Some(account), &self.args.address, start);
    }
}
