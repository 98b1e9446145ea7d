//! What a supervising actor knows of its children.

use std::collections::HashMap;
use std::hash::Hash;

use ractor::{Actor, ActorCell, ActorId, SupervisionEvent};
use tokio::time::Instant;
use tracing::error;

use super::address::{Address, Role};
use super::restarts::{RestartBudget, RestartPolicy, RestartVerdict};

/// The children of a supervising actor, each known by a key. A child that ends is removed; its
/// failures are remembered.
#[derive(Debug)]
pub struct Children<K> {
    policy: RestartPolicy,
    running: HashMap<ActorId, Running<K>>,
    budgets: HashMap<K, RestartBudget>,
}

#[derive(Debug)]
struct Running<K> {
    key: K,
    since: Instant,
    cell: ActorCell,
}

/// A child that has ended, or could not be spawned.
#[derive(Debug)]
pub struct Ended<K> {
    /// Which child.
    pub key: K,
    /// Why, for the log.
    pub reason: String,
    /// Whether to start it again.
    pub verdict: RestartVerdict,
}

impl<K> Ended<K> {
    /// Logs that the child will start again, and sends its supervisor `start` when it is time. A
    /// successor of the supervisor, which starts its children by itself, does not get it.
    pub fn retry<M: Send + 'static>(
        &self,
        role: Role,
        account: Option<&str>,
        supervisor: &Address<M>,
        start: M,
    ) {
        let (actor, reason, delay) = (role.name(), &self.reason, self.verdict.delay());
        error!(actor, account, reason, retry_in = ?delay, "actor restarting");
        supervisor.pinned().send_after(delay, start);
    }
}

impl<K: Clone + Eq + Hash> Children<K> {
    /// No children yet. The policy holds for each of them on its own.
    pub fn new(policy: RestartPolicy) -> Children<K> {
        Children { policy, running: HashMap::new(), budgets: HashMap::new() }
    }

    /// Spawns a child and links it to its supervisor.
    ///
    /// # Errors
    /// If it does not start, which counts as a failure of the child.
    pub async fn spawn<A: Actor>(
        &mut self,
        key: K,
        actor: A,
        args: A::Arguments,
        supervisor: ActorCell,
    ) -> Result<(), Ended<K>> {
        match Actor::spawn_linked(None, actor, args, supervisor).await {
            Ok((child, _)) => {
                let running = Running { key, since: Instant::now(), cell: child.get_cell() };
                self.running.insert(child.get_id(), running);
                Ok(())
            }
            Err(fault) => Err(self.fail(key, format!("the actor did not start: {fault}"))),
        }
    }

    /// The child that an event says has ended, for whatever reason. `None`: none of the present
    /// children.
    pub fn ended(&mut self, event: SupervisionEvent) -> Option<Ended<K>> {
        let (actor, reason) = match event {
            SupervisionEvent::ActorFailed(actor, reason) => (actor, reason.to_string()),
            SupervisionEvent::ActorTerminated(actor, _, reason) => {
                (actor, reason.unwrap_or_else(|| "it was stopped".to_owned()))
            }
            _ => return None,
        };
        let Running { key, since, .. } = self.running.remove(&actor.get_id())?;
        if since.elapsed() >= self.policy.window
            && let Some(budget) = self.budgets.get_mut(&key)
        {
            budget.refill();
        }
        Some(self.fail(key, reason))
    }

    fn fail(&mut self, key: K, reason: String) -> Ended<K> {
        let budget = self.budgets.entry(key.clone());
        let budget = budget.or_insert_with(|| RestartBudget::new(self.policy.clone()));
        let verdict = budget.fail(Instant::now(), rand::random_range(0.0..=1.0));
        Ended { key, reason, verdict }
    }

    /// Whether the child of this key runs.
    pub fn is_running(&self, key: &K) -> bool {
        self.running.values().any(|running| running.key == *key)
    }

    /// Lets the child of this key finish its message and end. Whether it runs; if so, its end is an
    /// event, as ever.
    pub fn stop_one(&self, key: &K) -> bool {
        let child = self.running.values().find(|running| running.key == *key);
        if let Some(child) = child {
            child.cell.stop(None);
        }
        child.is_some()
    }

    /// Forgets the failures of a child that is not started again.
    pub fn forget(&mut self, key: &K) {
        self.budgets.remove(key);
    }

    /// Kills the child of this key.
    #[cfg(test)]
    pub fn kill(&self, key: &K) {
        for child in self.running.values().filter(|running| running.key == *key) {
            child.cell.kill();
        }
    }

    /// Stops every child and waits for its end. For the supervisor's `post_stop`: otherwise ractor
    /// kills the children without their own `post_stop`.
    pub async fn stop(&mut self, supervisor: ActorCell) {
        self.running.clear();
        supervisor.stop_children_and_wait(None, None).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ractor::{ActorProcessingErr, ActorRef};
    use tokio::sync::mpsc;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    struct Child;

    impl Actor for Child {
        type Msg = ();
        type State = ();
        /// Whether it starts.
        type Arguments = bool;

        async fn pre_start(&self, _: ActorRef<()>, starts: bool) -> Result<(), ActorProcessingErr> {
            if starts { Ok(()) } else { Err("injected".into()) }
        }

        async fn handle(
            &self,
            _: ActorRef<()>,
            (): (),
            (): &mut (),
        ) -> Result<(), ActorProcessingErr> {
            Err("injected".into())
        }
    }

    /// Hands every supervision event on.
    struct Supervisor;

    impl Actor for Supervisor {
        type Msg = ();
        type State = mpsc::UnboundedSender<SupervisionEvent>;
        type Arguments = mpsc::UnboundedSender<SupervisionEvent>;

        async fn pre_start(
            &self,
            _: ActorRef<()>,
            events: Self::Arguments,
        ) -> Result<Self::State, ActorProcessingErr> {
            Ok(events)
        }

        async fn handle_supervisor_evt(
            &self,
            _: ActorRef<()>,
            event: SupervisionEvent,
            events: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            let _ = events.send(event);
            Ok(())
        }
    }

    struct Harness {
        children: Children<&'static str>,
        supervisor: ActorCell,
        events: mpsc::UnboundedReceiver<SupervisionEvent>,
    }

    impl Harness {
        async fn new() -> Harness {
            let policy = RestartPolicy {
                backoff: Duration::from_secs(1),
                backoff_max: Duration::from_secs(10),
                budget: 2,
                window: WINDOW,
            };
            let (sender, events) = mpsc::unbounded_channel();
            let (supervisor, _) = Actor::spawn(None, Supervisor, sender).await.unwrap();
            let supervisor = supervisor.get_cell();
            Harness { children: Children::new(policy), supervisor, events }
        }

        async fn spawn(&mut self, starts: bool) -> Result<(), Ended<&'static str>> {
            self.children.spawn("child", Child, starts, self.supervisor.clone()).await
        }

        /// What the next event says of a child's end.
        async fn next_end(&mut self) -> Ended<&'static str> {
            loop {
                let event = self.events.recv().await.unwrap();
                if let Some(ended) = self.children.ended(event) {
                    return ended;
                }
            }
        }

        fn child(&self) -> ActorCell {
            self.supervisor.get_children().pop().unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ended_tells_which_child_failed_and_whether_to_start_it_again() {
        let mut harness = Harness::new().await;
        harness.spawn(true).await.unwrap();
        assert!(harness.children.is_running(&"child"));
        harness.child().send_message(()).unwrap();
        let ended = harness.next_end().await;
        assert_eq!((ended.key, ended.reason.as_str()), ("child", "injected"));
        assert!(matches!(ended.verdict, RestartVerdict::Retry(_)), "{ended:?}");
        assert!(!harness.children.is_running(&"child"));
        harness.spawn(true).await.unwrap();
        harness.child().stop(None);
        let ended = harness.next_end().await;
        assert_eq!(ended.reason, "it was stopped");
        assert!(matches!(ended.verdict, RestartVerdict::Retry(_)), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_that_cannot_be_spawned_spends_its_budget_like_one_that_fails() {
        let mut harness = Harness::new().await;
        for _ in 0..2 {
            let ended = harness.spawn(false).await.unwrap_err();
            assert!(matches!(ended.verdict, RestartVerdict::Retry(_)), "{ended:?}");
        }
        assert_eq!(harness.spawn(false).await.unwrap_err().verdict, RestartVerdict::Spent);
        // Waiting alone does not help.
        tokio::time::advance(WINDOW * 2).await;
        assert_eq!(harness.spawn(false).await.unwrap_err().verdict, RestartVerdict::Spent);
        // Working for a whole window does.
        harness.spawn(true).await.unwrap();
        tokio::time::advance(WINDOW).await;
        harness.child().send_message(()).unwrap();
        let ended = harness.next_end().await;
        assert!(matches!(ended.verdict, RestartVerdict::Retry(_)), "{ended:?}");
    }

    #[tokio::test]
    async fn stopped_children_are_not_reported() {
        let mut harness = Harness::new().await;
        harness.spawn(true).await.unwrap();
        let child = harness.child();
        harness.children.stop(harness.supervisor.clone()).await;
        assert_eq!(child.get_status(), ractor::ActorStatus::Stopped);
        while let Ok(event) = harness.events.try_recv() {
            assert!(harness.children.ended(event).is_none());
        }
    }
}
