//! How a worker's terminal gets its files, and how it is noticed that they have a newer version.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval_at, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Options, Template, locked};
use crate::terminal::provisioning::{Provided, StartConfiguration, Terminals, Wanted};
use crate::terminal::{Event, EventSink};

/// How long the making of files that nobody needs any more is waited for. It ends by itself, unless what it
/// reads does not answer.
const GIVE_UP: Duration = Duration::from_secs(10);

/// How often it is told that files are still being made.
const REMIND: Duration = Duration::from_secs(60);

/// The files of one session's terminal.
pub struct Provision {
    pub template: Template,
    pub wanted: Wanted,
    /// The sessions whose terminal is of an earlier template.
    pub outdated: Arc<Mutex<BTreeSet<usize>>>,
    /// Cancelled when nobody wants the terminal any more.
    pub unneeded: CancellationToken,
}

impl Template {
    /// Why it cannot be copied.
    pub fn fault(&self) -> Option<String> {
        Terminals::check(&self.folder).err()
    }

    /// What a session needs.
    pub(super) fn wanted(&self, options: &Options, session: usize) -> Wanted {
        Wanted {
            account: options.account.clone(),
            session,
            template: self.folder.clone(),
            configuration: StartConfiguration {
                login: options.login,
                server: options.server.clone(),
                max_bars: self.max_bars,
            },
        }
    }
}

impl Provision {
    /// Has the terminal's files made. If they are not needed any more it ends with nobody at work on them, or
    /// soon, with somebody who is stuck and will touch nothing later.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn provide(&self) -> Result<Provided, String> {
        let (terminals, wanted) = (self.template.terminals.clone(), self.wanted.clone());
        let unneeded = self.unneeded.clone();
        let making = move || terminals.provide(&wanted, || !unneeded.is_cancelled());
        let Wanted { account, session, template, .. } = &self.wanted;
        let remind = |elapsed| {
            let template = template.display().to_string();
            warn!(account, session, template, ?elapsed, "terminal's files are still being made");
        };
        let provided = unless_stuck(making, &self.unneeded, remind).await?;
        locked(&self.outdated).remove(&self.wanted.session);
        Ok(provided)
    }

    /// Looks at the template again and again, and says how much the terminal's files take.
    pub async fn watch(&self, fingerprint: &str, events: &EventSink) {
        let mut look = tokio::time::interval(self.template.interval);
        // One that is just being changed is looked at once more.
        let mut differed = false;
        loop {
            look.tick().await;
            let (terminals, wanted) = (self.template.terminals.clone(), self.wanted.clone());
            let fingerprint = fingerprint.to_owned();
            let looked = spawn_blocking(move || {
                let differs = Terminals::differs(&wanted.template, &fingerprint);
                (terminals.size(&wanted.account, wanted.session), differs)
            });
            let Ok((bytes, differs)) = looked.await else {
                continue;
            };
            events(Event::Files(bytes));
            if differs && differed {
                locked(&self.outdated).insert(self.wanted.session);
            }
            differed = differs;
        }
    }
}

/// Does what may wait for a disk or a share that does not answer.
async fn unless_stuck<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
    unneeded: &CancellationToken,
    remind: impl Fn(Duration),
) -> Result<T, String> {
    let begun = Instant::now();
    let reminding = async {
        let mut reminder = interval_at(begun + REMIND, REMIND);
        loop {
            remind(reminder.tick().await - begun);
        }
    };
    let given_up = async {
        unneeded.cancelled().await;
        sleep(GIVE_UP).await;
    };
    tokio::select! {
        done = spawn_blocking(work) => done.map_err(|failure| failure.to_string())?,
        () = given_up => Err("its files were not ready when nobody needed them any more".to_owned()),
        () = reminding => unreachable!("it reminds for ever"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_is_told_and_holds_nobody_who_gives_up() {
        let (answer, disk) = mpsc::channel::<u32>();
        let unneeded = CancellationToken::new();
        let reminded = RefCell::new(vec![]);
        let work = move || disk.recv().map_err(|fault| fault.to_string());
        let stuck = unless_stuck(work, &unneeded, |elapsed| {
            reminded.borrow_mut().push(elapsed.as_secs());
            if elapsed >= 3 * REMIND {
                unneeded.cancel();
            }
        });
        tokio::pin!(stuck);
        // Time stands still while a blocking task runs.
        let told = loop {
            tokio::select! {
                biased;
                told = &mut stuck => break told,
                () = tokio::time::advance(Duration::from_secs(5)) => {}
            }
        };
        assert!(told.unwrap_err().contains("were not ready"));
        assert_eq!(*reminded.borrow(), [60, 120, 180]);
        drop(answer);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_needed_any_more_may_still_end_by_itself() {
        let unneeded = CancellationToken::new();
        unneeded.cancel();
        assert_eq!(unless_stuck(|| Ok(1), &unneeded, |_| ()).await, Ok(1));
    }
}
