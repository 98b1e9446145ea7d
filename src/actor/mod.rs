//! How actors are addressed: an address survives the restart of its actor, and
//! knows how many messages wait.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ractor::ActorRef;
use tokio::task::AbortHandle;
use tokio::time::Instant;

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
}

/// How many messages wait for each role's actors. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Depths(Arc<[AtomicI64; Role::ALL.len()]>);

impl Depths {
    /// Messages that wait now.
    pub fn get(&self, role: Role) -> i64 {
        self.0[role as usize].load(Ordering::Relaxed)
    }
}

/// A message on its way; the wait is counted until it is opened or dropped.
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

/// Where messages for an actor go, also after it was restarted.
pub struct Address<M> {
    role: Role,
    depths: Depths,
    actor: Arc<ArcSwapOption<ActorRef<Envelope<M>>>>,
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Address { role: self.role, depths: self.depths.clone(), actor: self.actor.clone() }
    }
}

impl<M: Send + 'static> Address<M> {
    /// An address behind which nobody is yet.
    pub fn new(role: Role, depths: &Depths) -> Self {
        Address { role, depths: depths.clone(), actor: Arc::default() }
    }

    /// Puts an actor behind the address.
    pub fn assign(&self, actor: ActorRef<Envelope<M>>) {
        self.actor.store(Some(Arc::new(actor)));
    }

    /// Sends a message without waiting.
    ///
    /// # Errors
    /// The message, if nobody is there to take it.
    pub fn send(&self, message: M) -> Result<(), M> {
        let actor = self.actor.load();
        let Some(actor) = actor.as_ref() else {
            return Err(message);
        };
        let envelope = Envelope { message, waiting: Waiting::new(&self.depths, self.role) };
        actor.send_message(envelope).map_err(|error| match error {
            ractor::MessagingErr::SendErr(envelope) => envelope.open(),
            // The mailbox and the message have one type; a closed channel gives the message back.
            _ => unreachable!("a mailbox takes its own type"),
        })
    }

    /// Sends a message later. A message that nobody takes then is dropped.
    pub fn send_after(&self, delay: Duration, message: M) -> AbortHandle {
        let address = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let _ = address.send(message);
        })
        .abort_handle()
    }
}

/// The delays before restarts of one child: each failure doubles the next one, until the child has
/// worked for a while.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    last: Option<Instant>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(30);
    /// How long a child has to work for its failures to be forgotten.
    const FORGOTTEN: Duration = Duration::from_secs(300);

    /// The delay after a failure at this moment.
    pub fn next(&mut self, now: Instant) -> Duration {
        if self.last.is_some_and(|last| now.duration_since(last) > Self::FORGOTTEN) {
            self.failures = 0;
        }
        self.last = Some(now);
        let delay = Self::FIRST.saturating_mul(1 << self.failures.min(16));
        self.failures += 1;
        delay.min(Self::LONGEST)
    }
}

/// The text of a panic that was caught, for the log.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_wait_longer_and_are_forgotten() {
        let mut backoff = Backoff::default();
        let now = Instant::now();
        let delays: Vec<u128> = (0..4).map(|_| backoff.next(now).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800]);
        let worst = (0..40).map(|_| backoff.next(now)).max();
        assert_eq!(worst, Some(Duration::from_secs(30)));
        let later = now + Duration::from_secs(3_600);
        assert_eq!(backoff.next(later), Duration::from_millis(100));
    }

    #[test]
    fn panic_message_reads_literals_and_formatted_texts() {
        let cases: [(Box<dyn Any + Send>, &str); 3] = [
            (Box::new("literal"), "literal"),
            (Box::new("formatted".to_owned()), "formatted"),
            (Box::new(7), "a panic without a text"),
        ];
        for (panic, expected) in cases {
            assert_eq!(panic_message(&*panic), expected);
        }
    }
}
