//! Service managers: how far the process is, told to what started it.
//!
//! A manager waits until the gateway listens, wants to know that it is alive, and kills it if its end
//! takes too long. Nobody is told anything when the gateway was started by hand.

pub mod command;
#[cfg(target_os = "linux")]
mod systemd;
#[cfg(windows)]
pub mod windows;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

#[cfg(target_os = "linux")]
pub use self::systemd::Systemd;

/// What the end may take beyond the grace: the actors that remain are stopped, and the log is written.
const BEYOND_THE_GRACE: Duration = Duration::from_secs(15);

/// How soon a gateway that did not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// What a running process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It accepts connections.
    Listening,
    /// It accepts nothing new, and ends within this time or a little later.
    Stopping(Duration),
}

/// Tells a service manager about the process. No method may block for long.
pub trait Manager: Send {
    /// Tells that the process has come to this phase.
    fn tell(&mut self, phase: Phase);

    /// How often the manager wants to know in this phase that the process is alive. `None`: never.
    fn interval(&self, phase: Phase) -> Option<Duration>;

    /// Tells that the process is alive.
    fn alive(&mut self);
}

/// What to tell when nobody is to be told.
pub struct Nobody;

impl Manager for Nobody {
    fn tell(&mut self, _phase: Phase) {}

    fn interval(&self, _phase: Phase) -> Option<Duration> {
        None
    }

    fn alive(&mut self) {}
}

/// The manager that started this process, as far as the environment names it.
pub fn manager() -> Box<dyn Manager> {
    #[cfg(target_os = "linux")]
    if let Some(systemd) = Systemd::from_environment() {
        return Box::new(systemd);
    }
    Box::new(Nobody)
}

/// Reports to a manager from the moment when the gateway listens, until the future is dropped.
///
/// `answers` asks within a time whether the gateway works. While it stops nobody is asked, because its
/// actors end one after the other; the manager's limit for the stop is the limit of this phase.
pub async fn report(
    mut manager: Box<dyn Manager>,
    stop: CancellationToken,
    grace: Duration,
    answers: impl AsyncFn(Duration) -> bool,
) {
    manager.tell(Phase::Listening);
    tokio::select! {
        () = stop.cancelled() => {}
        () = prove(&mut *manager, Phase::Listening, answers) => {}
    }
    let stopping = Phase::Stopping(grace);
    manager.tell(stopping);
    prove(&mut *manager, stopping, async |_| true).await;
}

/// Tells again and again that the process is alive, as long as it is.
async fn prove(manager: &mut dyn Manager, phase: Phase, answers: impl AsyncFn(Duration) -> bool) {
    let Some(interval) = manager.interval(phase) else {
        return std::future::pending().await;
    };
    loop {
        let pause = if answers(interval).await {
            manager.alive();
            interval
        } else {
            // It may work again any moment, and the manager's patience is not over yet.
            RETRY
        };
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use parking_lot::Mutex;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);
    const GRACE: Duration = Duration::from_secs(65);

    #[derive(Debug, PartialEq)]
    enum Told {
        Phase(Phase),
        Alive,
    }

    #[derive(Clone, Default)]
    struct Listener(Arc<Mutex<Vec<Told>>>);

    impl Listener {
        fn take(&self) -> Vec<Told> {
            std::mem::take(&mut self.0.lock())
        }
    }

    impl Manager for Listener {
        fn tell(&mut self, phase: Phase) {
            self.0.lock().push(Told::Phase(phase));
        }

        fn interval(&self, _phase: Phase) -> Option<Duration> {
            Some(INTERVAL)
        }

        fn alive(&mut self) {
            self.0.lock().push(Told::Alive);
        }
    }

    /// Lets the reporter run for a time.
    async fn pass(time: Duration) {
        tokio::time::sleep(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_is_alive_only_while_it_answers() {
        let (listener, stop) = (Listener::default(), CancellationToken::new());
        let works = Arc::new(AtomicBool::new(true));
        let answers = {
            let works = works.clone();
            async move |_| works.load(Ordering::Relaxed)
        };
        let reporter = report(Box::new(listener.clone()), stop.clone(), GRACE, answers);
        let test = async {
            pass(INTERVAL * 2 + INTERVAL / 2).await;
            let listening = Told::Phase(Phase::Listening);
            assert_eq!(listener.take(), [listening, Told::Alive, Told::Alive, Told::Alive]);
            works.store(false, Ordering::Relaxed);
            // Between two questions, so that no order of waking matters.
            pass(INTERVAL * 5 + RETRY / 2).await;
            assert_eq!(listener.take(), []);
            works.store(true, Ordering::Relaxed);
            pass(INTERVAL).await;
            assert_eq!(listener.take(), [Told::Alive]);
        };
        tokio::select! {
            () = reporter => panic!("it never ends"),
            () = test => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_stops_is_alive_although_no_actor_answers() {
        let (listener, stop) = (Listener::default(), CancellationToken::new());
        let hangs = async |_| std::future::pending().await;
        let reporter = report(Box::new(listener.clone()), stop.clone(), GRACE, hangs);
        let test = async {
            pass(INTERVAL).await;
            assert_eq!(listener.take(), [Told::Phase(Phase::Listening)]);
            stop.cancel();
            pass(INTERVAL + INTERVAL / 2).await;
            let stopping = Told::Phase(Phase::Stopping(GRACE));
            assert_eq!(listener.take(), [stopping, Told::Alive, Told::Alive]);
        };
        tokio::select! {
            () = reporter => panic!("it never ends"),
            () = test => {}
        }
    }
}
