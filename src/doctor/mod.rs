//! `mt5-gateway doctor`: walks the whole way from the settings to a quote, and says for each step how it
//! is, what was found and what to do.
//!
//! Evidence is gathered by I/O here, in [`gateway`] and in [`own`]; pure functions in [`local`] and
//! [`account`] turn it into the lines of a [`Report`]. No order is sent, no journal is
//! opened for writing, and a gateway that runs is asked by its own API, because a second worker would
//! disturb its terminals. Only where none runs are terminals started, and ended again. Those with a template
//! get their copies first, as at a start of the gateway.

mod account;
mod gateway;
mod local;
mod own;
mod prices;
mod remedy;
mod report;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use futures_util::future::{BoxFuture, join_all};
use jiff::Timestamp;
use tokio::net::TcpListener;

use self::gateway::{Knock, NotShown};
use self::local::{KeysLook, PortLook, SpaceLook};
use self::own::OwnGateway;
pub use self::report::{Check, Finding, Outcome, Report};
use self::shown::{Configured, Reached, Sight};
use crate::control::Remote;
use crate::files::free_space;
use crate::settings::{Inspection, SettingFault, Settings};
use crate::telemetry::Events;
use crate::terminal::worker::Examination;
use crate::trading::{self, JournalLook};

/// What doctor is told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The only account to look at.
    pub account: Option<String>,
    /// Where the gateway is; by default where the settings say.
    pub url: Option<String>,
    /// The file of a key for it.
    pub key_file: Option<PathBuf>,
}

/// Looks at everything.
///
/// # Errors
/// If doctor was told to look at something that does not exist.
pub async fn run(
    inspection: Inspection,
    options: Options,
    events: Events,
) -> Result<Report, String> {
    let Inspection { settings, faults, mut warnings } = inspection;
    // The checks of Python and of the terminal's files say more.
    let said = [".terminal.python", ".terminal.template"];
    warnings.retain(|warning| !said.iter().any(|key| warning.key.ends_with(key)));
    let mut patients =
        settings.as_ref().map(|settings| patients(settings, &faults)).unwrap_or_default();
    let place = Place::find(settings.as_ref(), &faults, &options).await?;
    let journal = settings.as_ref().map(|settings| {
        let file = settings.trading.journal.clone();
        let needed = settings.accounts.iter().any(|account| account.trade);
        (trading::inspect(&file), file, needed)
    });
    let spaces = settings.as_ref().map(spaces).unwrap_or_default();
    let keys = settings.as_ref().map(|settings| settings.keys.names());
    let configured: Vec<String> = patients.keys().cloned().collect();

    let examinations = patients.iter_mut().filter(|(name, _)| is_chosen(&options, name));
    let examinations = examinations
        .filter_map(|(name, patient)| Some((name.clone(), patient.examination.take()?)));
    let examined =
        join_all(examinations.map(async |(name, examination)| (name, examination.await)));
    let examined: BTreeMap<String, Examination> = examined.await.into_iter().collect();
    let in_use = matches!(journal, Some((JournalLook::InUse, ..)));
    let visit = Visit { patients: &patients, examined: &examined, options: &options, in_use };
    let (mut sights, refused) = visit.sights(settings, &place, events).await;
    if let Some(name) = options.account.as_ref().filter(|name| !sights.contains_key(*name)) {
        let known = configured.join(", ");
        if faults.is_empty() {
            return Err(format!("there is no account {name:?}: there is {known}"));
        }
        // A fault may hide it.
        let why = match known.as_str() {
            "" => "no account can be read from the settings".to_owned(),
            known => format!("it is not among the accounts that can be read ({known})"),
        };
        let remedy =
            Some("correct the settings first; if it is still missing, its name".to_owned());
        sights.insert(name.clone(), Sight::Unseen { why, remedy });
    }

    let names: Vec<&str> = configured.iter().map(String::as_str).collect();
    let mut findings = local::settings(&faults, &warnings, &names);
    let refused = refused.or(place.key_fault);
    findings.extend(local::keys(&KeysLook {
        names: keys,
        faults: &faults,
        warnings: &warnings,
        refused,
    }));
    findings.push(local::port(&place.look, &place.at, options.url.is_some()));
    findings
        .extend(journal.map(|(look, file, needed)| {
            local::journal(&look, &file.display().to_string(), needed)
        }));
    findings.extend(local::disk(&spaces));
    let now = Timestamp::now().as_second();
    for (name, sight) in &sights {
        findings.extend(examined.get(name).into_iter().flat_map(|look| local::worker(name, look)));
        let configured = patients.get(name).map(|patient| &patient.configured);
        let terminal = examined.get(name).map_or(Reached::Unknown, Reached::of);
        findings.extend(account::findings(name, configured, &terminal, sight, now));
    }
    Ok(Report::new(findings))
}

fn is_chosen(options: &Options, name: &str) -> bool {
    options.account.as_deref().is_none_or(|chosen| chosen == name)
}

/// An account of the settings.
struct Patient {
    configured: Configured,
    /// Whether its settings have no fault.
    is_sound: bool,
    examination: Option<BoxFuture<'static, Examination>>,
}

fn patients(settings: &Settings, faults: &[SettingFault]) -> BTreeMap<String, Patient> {
    let patient = |account: &crate::pool::AccountOptions| {
        let name = account.name.to_string();
        let below = format!("accounts.{name}.");
        let is_sound = !faults.iter().any(|fault| fault.key.starts_with(&below));
        let configured = Configured { trade: account.trade, pause: settings.pause_of(account) };
        let examination = account.launcher.examine();
        (name, Patient { configured, is_sound, examination })
    };
    settings.accounts.iter().map(patient).collect()
}

/// Folders that fill.
fn spaces(settings: &Settings) -> Vec<SpaceLook> {
    let folder_of = |file: &Path| {
        let above = file.ancestors().skip(1).find(|folder| folder.is_dir());
        above.map_or_else(|| PathBuf::from("."), Path::to_owned)
    };
    let journal = folder_of(&settings.trading.journal);
    let log = settings.log.file.as_ref().map(|file| folder_of(&file.path));
    let copies = settings.accounts.iter().any(|account| account.launcher.provides_files());
    let terminals = copies.then(|| folder_of(&settings.terminals.directory().join("account")));
    let mut folders: Vec<PathBuf> = [journal].into_iter().chain(log).chain(terminals).collect();
    folders.dedup();
    let look = |folder: PathBuf| {
        let free = free_space(&folder).map_err(|fault| {
            format!("the space that is free in {} is not known: {fault}", folder.display())
        });
        (folder, free)
    };
    folders.into_iter().map(look).collect()
}

/// Where a gateway may run.
struct Place {
    /// The way to the one that runs.
    remote: Option<Remote>,
    look: PortLook,
    at: String,
    /// Why the given key cannot be read.
    key_fault: Option<String>,
}

impl Place {
    /// Finds out whether a gateway runs.
    ///
    /// # Errors
    /// If the given URL is none.
    async fn find(
        settings: Option<&Settings>,
        faults: &[SettingFault],
        options: &Options,
    ) -> Result<Place, String> {
        let is_told = options.url.is_some();
        let listen = settings.map(|settings| settings.listen);
        let is_wrong = faults.iter().any(|fault| fault.key == "server.listen");
        let (url, at) = match (&options.url, listen) {
            (Some(url), _) => (url.clone(), url.clone()),
            (None, Some(listen)) if !is_wrong => match Remote::url_of(listen) {
                Ok(url) => (url, listen.to_string()),
                Err(_) => return Ok(Place::without(PortLook::Any)),
            },
            _ => {
                let why = "the settings do not say where the gateway listens".to_owned();
                return Ok(Place::without(PortLook::Unknown(why)));
            }
        };
        // What does not answer as a gateway gets no key. Who imitates one is not told apart: there is no TLS.
        let without_key = Remote::new(&url, None)?;
        let look = match (gateway::knock(&without_key).await, listen) {
            (Knock::Gateway, _) => PortLook::Gateway,
            (Knock::Other, _) => PortLook::Other,
            (Knock::Silent(fault), _) => PortLook::Silent(fault),
            (Knock::Nobody(_), Some(listen)) if !is_told => try_to_listen(listen).await,
            (Knock::Nobody(fault), _) => PortLook::Nobody(fault),
        };
        let (remote, key_fault) = match Remote::new(&url, options.key_file.as_deref()) {
            Ok(remote) => (remote, None),
            Err(fault) => (without_key, Some(fault)),
        };
        let remote = (look == PortLook::Gateway).then_some(remote);
        Ok(Place { remote, look, at, key_fault })
    }

    fn without(look: PortLook) -> Place {
        Place { remote: None, look, at: String::new(), key_fault: None }
    }
}

async fn try_to_listen(address: SocketAddr) -> PortLook {
    match TcpListener::bind(address).await {
        Ok(_) => PortLook::Free,
        Err(fault) if fault.kind() == std::io::ErrorKind::AddrInUse => PortLook::Other,
        Err(fault) => PortLook::Unusable(fault.to_string()),
    }
}

/// How accounts are looked at.
struct Visit<'a> {
    patients: &'a BTreeMap<String, Patient>,
    examined: &'a BTreeMap<String, Examination>,
    options: &'a Options,
    /// Whether a gateway has the journal.
    in_use: bool,
}

impl Visit<'_> {
    /// The accounts to be told of although nobody can be asked: those of the settings, and one that a
    /// gateway elsewhere may have.
    fn names(&self) -> BTreeSet<&String> {
        let configured = self.patients.keys().filter(|name| is_chosen(self.options, name));
        let elsewhere = self.options.account.iter().filter(|_| self.options.url.is_some());
        configured.chain(elsewhere).collect()
    }

    /// What can be seen of each account, and why the given key was refused.
    async fn sights(
        &self,
        settings: Option<Settings>,
        place: &Place,
        events: Events,
    ) -> (BTreeMap<String, Sight>, Option<String>) {
        if let Some(remote) = &place.remote {
            return self.ask(remote).await;
        }
        let unseen = |why: &str, remedy: Option<&str>| {
            let sight = |name: &String| {
                let (why, remedy) = (why.to_owned(), remedy.map(str::to_owned));
                (name.clone(), Sight::Unseen { why, remedy })
            };
            (self.names().into_iter().map(sight).collect(), None)
        };
        let start = "do first what the line of the port says";
        match &place.look {
            PortLook::Free | PortLook::Any | PortLook::Unusable(_) => {}
            PortLook::Nobody(_) => return unseen("no gateway answers", Some(start)),
            // Whoever is there may be a gateway that hangs, with terminals of these accounts.
            PortLook::Gateway | PortLook::Other | PortLook::Silent(_) | PortLook::Unknown(_) => {
                return unseen("whether a gateway uses the terminals is not known", Some(start));
            }
        }
        if self.in_use {
            let why = "a gateway that has the journal runs, and not where the settings say";
            return unseen(why, Some("say where by --url"));
        }
        match settings {
            Some(settings) if settings.terminals.are_in_use() => {
                let directory = settings.terminals.directory().display();
                let why = format!(
                    "a gateway that uses the copies of terminals in {directory} runs, and not where the settings \
                     say"
                );
                let remedy = "say where by --url; if it is a gateway with other settings, give each a \
                              `terminals.directory` of its own";
                unseen(&why, Some(remedy))
            }
            Some(settings) => (self.start(settings, events).await, None),
            None => unseen("the settings cannot be read", Some("correct them first")),
        }
    }

    /// Asks the gateway that runs.
    async fn ask(&self, remote: &Remote) -> (BTreeMap<String, Sight>, Option<String>) {
        let configured = self.patients.keys().filter(|name| is_chosen(self.options, name));
        let mut sights: BTreeMap<String, Sight> =
            configured.map(|name| (name.clone(), Sight::Absent)).collect();
        let mut refused = None;
        match gateway::accounts(remote).await {
            Ok(accounts) => {
                let chosen = accounts.into_iter().filter(|(name, _)| is_chosen(self.options, name));
                let looked = chosen.map(async |(name, status)| {
                    (name, Sight::Shown(Box::new(gateway::look(remote, status, false).await)))
                });
                sights.extend(join_all(looked).await);
            }
            Err(NotShown::Key(detail)) => {
                refused =
                    remote.has_key().then(|| format!("the gateway refuses the key: {detail}"));
                let ready = gateway::ready_accounts(remote).await.into_iter();
                let chosen = ready.filter(|(name, _)| is_chosen(self.options, name));
                sights.extend(chosen.map(|(name, ready)| (name, Sight::Public(ready))));
            }
            Err(NotShown::Other(why)) => {
                for name in self.names() {
                    let remedy = Some("see the gateway's log".to_owned());
                    sights.insert(name.clone(), Sight::Unseen { why: why.clone(), remedy });
                }
            }
        }
        (sights, refused)
    }

    /// Starts the accounts, looks at them, and ends them.
    async fn start(&self, mut settings: Settings, events: Events) -> BTreeMap<String, Sight> {
        let mut sights = BTreeMap::new();
        settings.accounts.retain(|account| {
            let name = account.name.as_str();
            let Some(patient) = self.patients.get(name).filter(|_| is_chosen(self.options, name))
            else {
                return false;
            };
            let lacks = self.examined.get(name).is_some_and(|look| !look.is_complete());
            let why = if !patient.is_sound {
                "the account's settings have faults"
            } else if lacks {
                "what its worker needs is not there"
            } else {
                return true;
            };
            let remedy = Some("do first what the lines above say".to_owned());
            sights.insert(name.to_owned(), Sight::Unseen { why: why.to_owned(), remedy });
            false
        });
        let names: Vec<String> =
            settings.accounts.iter().map(|account| account.name.to_string()).collect();
        if names.is_empty() {
            return sights;
        }
        match OwnGateway::start(settings, events).await {
            Ok(gateway) => {
                let accounts = gateway.settled().await;
                let looked = accounts.into_iter().map(async |(name, status)| {
                    (
                        name,
                        Sight::Shown(Box::new(gateway::look(&gateway.remote, status, true).await)),
                    )
                });
                let looked = join_all(looked).await;
                gateway.end().await;
                sights.extend(looked);
                for name in names {
                    let (why, remedy) =
                        ("doctor's own gateway did not show it".to_owned(), remedy::OWN_LOG);
                    let unseen = Sight::Unseen { why, remedy: Some(remedy.to_owned()) };
                    sights.entry(name).or_insert(unseen);
                }
            }
            Err(fault) => {
                let unseen =
                    |name: String| (name, Sight::Unseen { why: fault.to_string(), remedy: None });
                sights.extend(names.into_iter().map(unseen));
            }
        }
        sights
    }
}
