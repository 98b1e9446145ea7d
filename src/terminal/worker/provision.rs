//! How a worker's terminal gets its files, and how it is noticed that they have a newer version.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::{Options, Template, locked};
use crate::terminal::provisioning::{Provided, StartConfiguration, Terminals, Wanted};
use crate::terminal::{Event, EventSink};

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
    /// Has the terminal's files made. It ends when nobody works on them any more, also if they are not needed.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn provide(&self) -> Result<Provided, String> {
        let (terminals, wanted) = (self.template.terminals.clone(), self.wanted.clone());
        let unneeded = self.unneeded.clone();
        let provided =
            spawn_blocking(move || terminals.provide(&wanted, || !unneeded.is_cancelled()));
        let provided = provided.await.map_err(|failure| failure.to_string())??;
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
