//! Addresses that survive the restart of their actor, and the depth of mailboxes.
//!
//! ractor's mailboxes are unbounded and do not tell their depth, so messages are counted when they
//! are sent and when they are opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ractor::{ActorRef, MessagingErr};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tracing::info;

macro_rules! roles {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// The kinds of actor.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Role {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Role {
            /// Every role, in declaration order.
            pub const ALL: &'static [Role] = &[$(Role::$variant,)*];

            /// The name in logs and labels.
            pub const fn name(self) -> &'static str {
                match self { $(Role::$variant => $name,)* }
            }
        }
    };
}

roles! {
    Gateway = "gateway",
    Metrics = "metrics",
    Sampler = "sampler",
    Pool = "pool",
    Session = "session",
    Trading = "trading",
    Journal = "journal",
    Reconciler = "reconciler",
    Streams = "streams",
    Hub = "hub",
}

/// How many messages wait for the actors of each role. Clones share their counts.
#[derive(Debug, Clone, Default)]
pub struct Depths(Arc<[AtomicI64; Role::ALL.len()]>);

impl Depths {
    /// How many messages wait for the actors of a role.
    pub fn get(&self, role: Role) -> i64 {
        self.0[role as usize].load(Ordering::Relaxed)
    }
}

/// A message in a mailbox. It counts as waiting until it is opened or dropped.
pub struct Envelope<M> {
    message: M,
    waiting: Waiting,
}

impl<M> Envelope<M> {
    /// The message, which no longer waits.
    pub fn open(self) -> M {
        drop(self.waiting);
        self.message
    }
}

struct Waiting(Depths, Role);

impl Waiting {
    fn new(depths: &Depths, role: Role) -> Self {
        depths.0[role as usize].fetch_add(1, Ordering::Relaxed);
        Waiting(depths.clone(), role)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0[self.1 as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// The question whether an actor still takes messages.
#[derive(Debug)]
pub struct Ping(oneshot::Sender<()>);

impl Ping {
    /// Answers it.
    pub fn answer(self) {
        // Whoever asked may have stopped waiting.
        let _ = self.0.send(());
    }
}

/// Takes messages for an actor, also after its supervisor has restarted it. Cheap to clone.
pub struct Address<M> {
    recipient: Arc<Recipient<M>>,
    depths: Depths,
}

struct Recipient<M> {
    role: Role,
    account: Option<String>,
    session: Option<usize>,
    actor: ArcSwapOption<ActorRef<Envelope<M>>>,
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Address { recipient: self.recipient.clone(), depths: self.depths.clone() }
    }
}

impl<M: Send + 'static> Address<M> {
    /// The address of an actor that has yet to be started.
    pub fn new(role: Role, depths: &Depths) -> Self {
        Address::of(role, None, None, depths)
    }

    /// The address of an actor that serves one account.
    pub fn of_account(role: Role, account: &str, depths: &Depths) -> Self {
        Address::of(role, Some(account), None, depths)
    }

    /// The address of an account's session.
    pub fn of_session(account: &str, session: usize, depths: &Depths) -> Self {
        Address::of(Role::Session, Some(account), Some(session), depths)
    }

    fn of(role: Role, account: Option<&str>, session: Option<usize>, depths: &Depths) -> Self {
        let account = account.map(str::to_owned);
        let recipient = Recipient { role, account, session, actor: ArcSwapOption::empty() };
        Address { recipient: Arc::new(recipient), depths: depths.clone() }
    }

    /// Puts an actor behind the address.
    pub fn assign(&self, actor: ActorRef<Envelope<M>>) {
        self.recipient.actor.store(Some(Arc::new(actor)));
    }

    /// The address of the actor that is behind this one now, and not of its successors. For what an
    /// actor sends to itself: timers and tasks of an actor that failed must not reach the next one.
    #[must_use]
    pub fn pinned(&self) -> Self {
        let Recipient { role, account, session, actor } = &*self.recipient;
        let recipient = Recipient {
            role: *role,
            account: account.clone(),
            session: *session,
            actor: ArcSwapOption::new(actor.load_full()),
        };
        Address { recipient: Arc::new(recipient), depths: self.depths.clone() }
    }

    /// Puts an actor that starts now behind the address, and logs that it starts.
    pub fn started(&self, actor: ActorRef<Envelope<M>>) {
        self.assign(actor);
        let Recipient { role, account, session, .. } = &*self.recipient;
        info!(actor = role.name(), account = account.as_deref(), session, "actor started");
    }

    /// Logs that the actor has stopped in good order.
    pub fn stopped(&self) {
        let Recipient { role, account, session, .. } = &*self.recipient;
        info!(actor = role.name(), account = account.as_deref(), session, "actor stopped");
    }

    /// Sends a message without waiting.
    ///
    /// # Errors
    /// The message, if no actor takes it.
    pub fn send(&self, message: M) -> Result<(), M> {
        let actor = self.recipient.actor.load();
        let Some(actor) = actor.as_ref() else {
            return Err(message);
        };
        let waiting = Waiting::new(&self.depths, self.recipient.role);
        let envelope = Envelope { message, waiting };
        actor.send_message(envelope).map_err(|error| match error {
            MessagingErr::SendErr(envelope) => envelope.open(),
            // Mailbox and message have one type, and a closed mailbox gives the message back.
            _ => unreachable!("a mailbox takes its own type"),
        })
    }

    /// Sends a message later. A message that no actor takes then is dropped.
    pub fn send_after(&self, delay: Duration, message: M) -> AbortHandle {
        let address = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = address.send(message);
        })
        .abort_handle()
    }
}

impl<M: From<Ping> + Send + 'static> Address<M> {
    /// Whether the actor answers. Waits without limit: callers set their own.
    pub async fn ping(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.send(Ping(reply).into()).is_ok() && answer.await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use ractor::{Actor, ActorProcessingErr};

    use super::*;

    /// Answers a ping with life, and fails at the second one.
    struct Mortal;

    impl Actor for Mortal {
        type Msg = Envelope<Ping>;
        type State = bool;
        type Arguments = ();

        async fn pre_start(
            &self,
            _: ActorRef<Self::Msg>,
            (): (),
        ) -> Result<bool, ActorProcessingErr> {
            Ok(false)
        }

        async fn handle(
            &self,
            _: ActorRef<Self::Msg>,
            message: Self::Msg,
            answered: &mut bool,
        ) -> Result<(), ActorProcessingErr> {
            let ping = message.open();
            if std::mem::replace(answered, true) {
                return Err("injected".into());
            }
            ping.answer();
            Ok(())
        }
    }

    async fn start() -> (ActorRef<Envelope<Ping>>, tokio::task::JoinHandle<()>) {
        Actor::spawn(None, Mortal, ()).await.unwrap()
    }

    #[tokio::test]
    async fn an_address_reaches_the_successor_and_a_pinned_one_does_not() {
        let depths = Depths::default();
        let address = Address::<Ping>::new(Role::Hub, &depths);
        assert!(!address.ping().await, "nobody is there yet");
        let (first, ended) = start().await;
        address.assign(first);
        let pinned = address.pinned();
        assert!(pinned.ping().await);
        assert!(!address.ping().await, "it fails");
        ended.await.unwrap();
        assert!(!address.ping().await, "it has ended");
        address.assign(start().await.0);
        assert!(!pinned.ping().await);
        assert!(address.ping().await);
    }

    #[tokio::test]
    async fn a_message_waits_until_it_is_opened_or_lost() {
        let depths = Depths::default();
        let address = Address::<Ping>::new(Role::Hub, &depths);
        let (actor, ended) = start().await;
        address.assign(actor);
        let waiting = |pings: usize| {
            let answers: Vec<_> = (0..pings).map(|_| oneshot::channel()).collect();
            answers
                .into_iter()
                .map(|(reply, answer)| {
                    address.send(Ping(reply)).unwrap();
                    answer
                })
                .collect::<Vec<_>>()
        };
        let answers = waiting(3);
        assert_eq!((depths.get(Role::Hub), depths.get(Role::Streams)), (3, 0));
        ended.await.unwrap();
        for (answer, answered) in answers.into_iter().zip([true, false, false]) {
            assert_eq!(answer.await.is_ok(), answered);
        }
        assert_eq!(depths.get(Role::Hub), 0);
    }
}
