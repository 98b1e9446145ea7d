//! Terminals that nobody installs by hand: each session has a copy of a template, with its own start
//! configuration.
//!
//! A copy is made beside its place and moved there once it is whole, so what has its place is complete. What
//! goes is moved away first and deleted then. Each folder that is made here holds a mark from its first
//! moment on, and nothing without the mark is ever deleted.

mod configuration;
mod template;

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};
use walkdir::WalkDir;

pub use self::configuration::StartConfiguration;
use self::template::{PROGRAM, Template};
use crate::files::{create_private_directory, free_space, open_private};

/// The mark of a folder that the gateway made.
const MARK: &str = "mt5-gateway.json";

/// The file that the gateway which uses the directory has locked.
const LOCK: &str = ".lock";

/// How long somebody may hold the lock who only looks whether it is held.
const LOOKED_AT: std::time::Duration = std::time::Duration::from_millis(100);

/// What folders are called that are to be deleted, and a number.
const WASTE: &str = ".waste-";

/// How often a template that changes while it is copied is copied again.
const ATTEMPTS: usize = 3;

/// What of a copy grows, and comes back by itself.
const GROWING: [&str; 5] = ["bases", "logs", "MQL5/Logs", "Tester/logs", "Tester/bases"];

/// Where the terminals of all accounts are.
#[derive(Debug)]
pub struct Terminals {
    options: Options,
    /// Held while it is decided what becomes of a folder.
    deciding: Mutex<()>,
    /// Copies that are being made, and their bytes. They look like what a gateway that was killed has left.
    making: Mutex<HashMap<PathBuf, u64>>,
    /// The accounts and sessions whose terminal is being provided, and how often at once.
    providing: Mutex<HashMap<(String, usize), usize>>,
    /// The file that is locked as long as this lives, once it is.
    lock: Mutex<Option<File>>,
}

/// How terminals are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The folder with the folders of all accounts.
    pub directory: PathBuf,
    /// Bytes that stay free on its file system. No copy is made that would need them.
    pub keep_free: u64,
    /// Bytes that a copy may have at a start. One that has more loses the history of prices and the logs,
    /// which its terminal makes anew.
    pub copy_limit: u64,
}

/// Which terminal a session needs.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The account's name.
    pub account: String,
    /// Which of the account's sessions.
    pub session: usize,
    /// The folder with an installed terminal.
    pub template: PathBuf,
    /// What it starts with.
    pub configuration: StartConfiguration,
}

/// A terminal that can be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// The program.
    pub program: PathBuf,
    /// Of the template as it was seen for this start. A later one is worth another start.
    pub fingerprint: String,
}

/// What the mark says.
#[derive(Serialize, Deserialize)]
struct Mark {
    /// Of the template, once the copy is whole.
    fingerprint: Option<String>,
}

impl Terminals {
    /// Nothing is read or written yet.
    pub fn new(options: Options) -> Terminals {
        Terminals {
            options,
            deciding: Mutex::default(),
            making: Mutex::default(),
            providing: Mutex::default(),
            lock: Mutex::default(),
        }
    }

    /// Sees to it that a session has its terminal, as its template is now, and writes what it starts with.
    /// The terminal must not run. Takes as long as the copying does; `goes_on` is asked meanwhile.
    ///
    /// If the template cannot be copied, but was before, the copy of before is taken, with a warning.
    ///
    /// # Errors
    /// Why there is no terminal.
    pub fn provide(&self, wanted: &Wanted, goes_on: impl Fn() -> bool) -> Result<Provided, String> {
        let _providing = Providing::begin(self, wanted);
        self.lock()?;
        let folder = self.folder(&wanted.account, wanted.session);
        let present = {
            // Nobody decides meanwhile that it is not wanted.
            let _deciding = self.deciding.lock();
            whole(&folder)
        };
        self.refuse_own(&wanted.template)?;
        let template = Template::read(&wanted.template, &goes_on);
        let found = template.as_ref().ok().map(|template| template.fingerprint.clone());
        let copied = template.and_then(|template| {
            if present.as_ref() == Some(&template.fingerprint) {
                return Ok(template.fingerprint);
            }
            self.copy(wanted, template, &folder, &goes_on)
        });
        if !goes_on() {
            return Err("the terminal is not needed any more".to_owned());
        }
        let (account, session) = (wanted.account.as_str(), wanted.session);
        let fingerprint = match (copied, present) {
            (Ok(fingerprint), _) => fingerprint,
            (Err(fault), present) if present.is_none() || whole(&folder) != present => {
                return Err(fault);
            }
            (Err(fault), present) => {
                warn!(account, session, fault, "terminal starts as it was copied before");
                // Another look at what could not be copied must not end this terminal.
                found.or(present).unwrap_or_default()
            }
        };
        let bytes = size_of(&folder);
        if bytes > self.options.copy_limit {
            info!(account, session, bytes, "terminal's price history and logs are removed");
            for growing in GROWING {
                remove_any_case(&folder, growing);
            }
        }
        configure(&folder, &wanted.configuration)
            .map_err(|fault| format!("{} cannot be configured: {fault}", folder.display()))?;
        Ok(Provided { program: folder.join(PROGRAM), fingerprint })
    }

    /// Whether another gateway uses the directory. Nothing is made, and nothing stays locked.
    pub fn are_in_use(&self) -> bool {
        let lock = File::open(self.options.directory.join(LOCK));
        lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Whether the terminal of a session is being provided, which may take as long as its copy does.
    pub fn is_providing(&self, account: &str, session: usize) -> bool {
        self.providing.lock().contains_key(&(account.to_owned(), session))
    }

    /// Looks whether a folder holds a terminal.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(template: &Path) -> Result<(), String> {
        template::check(template)
    }

    /// Where the folders of all accounts are, from the root.
    pub fn directory(&self) -> &Path {
        &self.options.directory
    }

    /// Whether a template is another than the one that a terminal was copied from. A template that
    /// cannot be read is none.
    pub fn differs(template: &Path, fingerprint: &str) -> bool {
        Template::read(template, || true).is_ok_and(|template| template.fingerprint != fingerprint)
    }

    /// Bytes of a session's copy.
    pub fn size(&self, account: &str, session: usize) -> u64 {
        size_of(&self.folder(account, session))
    }

    /// Deletes the copies that are not wanted: those of accounts and sessions that there are no more. Their
    /// terminals must not run. `is_wanted` is asked for each account and session.
    pub fn clear(&self, is_wanted: impl Fn(&str, usize) -> bool) {
        let directory = &self.options.directory;
        if !directory.is_dir() {
            return;
        }
        if let Err(fault) = self.lock() {
            return warn!(fault, "folders of terminals that are gone are not deleted");
        }
        for account in folders(directory) {
            let name = account.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(WASTE) {
                if !self.making.lock().contains_key(&account) {
                    delete(&account);
                }
                continue;
            }
            let mut is_cleared = false;
            for copy in folders(&account) {
                let index = copy.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let moved = {
                    let _deciding = self.deciding.lock();
                    let is_unwanted = index.parse().is_ok_and(|index| !is_wanted(&name, index));
                    if !is_unwanted || mark(&copy).is_none() {
                        continue;
                    }
                    self.discard(&copy)
                };
                match moved {
                    Ok(waste) => {
                        is_cleared = true;
                        info!(account = name, session = index, "terminal's folder is deleted");
                        delete(&waste);
                    }
                    Err(fault) => {
                        let path = copy.display().to_string();
                        warn!(%fault, path, "terminal's folder cannot be deleted");
                    }
                }
            }
            if is_cleared {
                let _deciding = self.deciding.lock();
                // Only if it is empty.
                let _ = fs::remove_dir(&account);
            }
        }
    }

    /// Refuses a template that a link leads to the copies, or around them.
    fn refuse_own(&self, template: &Path) -> Result<(), String> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let (template, directory) = (real(template), real(&self.options.directory));
        if template.starts_with(&directory) || directory.starts_with(&template) {
            return Err(format!(
                "the template {} is a copy, or has the copies in it: keep it beside `terminals.directory`",
                template.display()
            ));
        }
        Ok(())
    }

    fn folder(&self, account: &str, session: usize) -> PathBuf {
        self.options.directory.join(account).join(session.to_string())
    }

    /// Makes the directory this gateway's own.
    fn lock(&self) -> Result<(), String> {
        let mut locked = self.lock.lock();
        if locked.is_some() {
            return Ok(());
        }
        let directory = &self.options.directory;
        let shown = directory.display();
        let file = create_private_directory(directory)
            .and_then(|()| open_private(&directory.join(LOCK), OpenOptions::new().write(true)));
        let file = file.map_err(|fault| format!("{shown} cannot be used: {fault}"))?;
        let locked_now = file.try_lock().or_else(|_| {
            // Doctor holds it for a moment, to see whether a gateway does.
            std::thread::sleep(LOOKED_AT);
            file.try_lock()
        });
        locked_now.map_err(|fault| match fault {
            TryLockError::WouldBlock => format!(
                "another gateway uses {shown}: set `terminals.directory` to a directory of its own"
            ),
            TryLockError::Error(fault) => format!("{shown} cannot be locked: {fault}"),
        })?;
        *locked = Some(file);
        Ok(())
    }

    /// Makes a copy, and puts it in the place of the one before. Gives the fingerprint of what was copied.
    fn copy(
        &self,
        wanted: &Wanted,
        mut template: Template,
        folder: &Path,
        goes_on: impl Fn() -> bool,
    ) -> Result<String, String> {
        let begun = std::time::Instant::now();
        let cannot = |path: &Path| {
            let path = path.display().to_string();
            move |fault: io::Error| format!("{path} cannot be made: {fault}")
        };
        for _ in 0..ATTEMPTS {
            let new = Making::begin(self, template.size)?;
            create_private_directory(&new.0).map_err(cannot(&new.0))?;
            write_mark(&new.0, None).map_err(cannot(&new.0))?;
            template.copy(&new.0, &goes_on)?;
            let now = Template::read(&wanted.template, &goes_on)?;
            if now.fingerprint != template.fingerprint {
                template = now;
                continue;
            }
            write_mark(&new.0, Some(&template.fingerprint)).map_err(cannot(&new.0))?;
            let before = {
                // Nobody removes the account's folder meanwhile because it is empty.
                let _deciding = self.deciding.lock();
                // A disk that answered late may have been given up, and the session has another terminal.
                if !goes_on() {
                    return Err(template::ENDED.to_owned());
                }
                self.put_in_place(&new.0, folder)?
            };
            if let Some(before) = before {
                delete(&before);
            }
            let (account, session) = (wanted.account.as_str(), wanted.session);
            let (bytes, elapsed) = (template.size, begun.elapsed());
            info!(account, session, bytes, ?elapsed, "terminal was copied from its template");
            return Ok(template.fingerprint);
        }
        Err(format!(
            "the template {} changes while it is copied: it is tried again later",
            wanted.template.display()
        ))
    }

    /// Puts a whole copy in the place of the one before, and gives where that is now.
    fn put_in_place(&self, new: &Path, folder: &Path) -> Result<Option<PathBuf>, String> {
        let shown = folder.display();
        let cannot = |fault: io::Error| format!("{shown} cannot be made: {fault}");
        create_private_directory(folder.parent().unwrap_or(folder)).map_err(cannot)?;
        let before = if folder.symlink_metadata().is_err() {
            None
        } else if is_ours(folder) {
            Some(self.discard(folder).map_err(|fault| {
                format!("{shown} cannot be replaced ({fault}): does its terminal run?")
            })?)
        } else {
            return Err(format!(
                "{shown} was not made by the gateway: move it away, or set `terminals.directory`"
            ));
        };
        if let Err(fault) = fs::rename(new, folder) {
            // A terminal of before is better than none.
            let _ = before.map(|before| fs::rename(before, folder));
            return Err(cannot(fault));
        }
        Ok(before)
    }

    /// Refuses a copy that would fill the disk, beside `promised` bytes of others that are being made.
    fn check_space(&self, size: u64, promised: u64) -> Result<(), String> {
        let Options { directory, keep_free, .. } = &self.options;
        let free = free_space(directory).map_err(|fault| {
            format!("the space that is free in {} is not known: {fault}", directory.display())
        })?;
        // Of what is being made a part is written already, so this is more than is needed.
        if free.saturating_sub(size).saturating_sub(promised) >= *keep_free {
            return Ok(());
        }
        let [needed, free, kept] =
            [size, free, *keep_free].map(|size| ByteSize(size).display().iec());
        Err(format!(
            "a copy of the template needs {needed}, and {free} are free in {}, of which \
             `terminals.keep_free` keeps {kept}: make room there",
            directory.display()
        ))
    }

    /// Moves a folder away that is to be deleted.
    fn discard(&self, folder: &Path) -> io::Result<PathBuf> {
        let waste = self.options.directory.join(waste_name());
        fs::rename(folder, &waste)?;
        Ok(waste)
    }
}

/// Notes that the terminal of a session is being provided, until this is dropped.
struct Providing<'a>(&'a Terminals, (String, usize));

impl Providing<'_> {
    fn begin<'a>(terminals: &'a Terminals, wanted: &Wanted) -> Providing<'a> {
        let session = (wanted.account.clone(), wanted.session);
        *terminals.providing.lock().entry(session.clone()).or_default() += 1;
        Providing(terminals, session)
    }
}

impl Drop for Providing<'_> {
    fn drop(&mut self) {
        let mut providing = self.0.providing.lock();
        if let Some(count) = providing.get_mut(&self.1) {
            *count -= 1;
        }
        // One that was given up may still be stuck beside its successor.
        providing.retain(|_, count| *count > 0);
    }
}

/// The folder of a copy that is being made. Dropping it deletes the folder, unless that got its place.
struct Making<'a>(PathBuf, &'a Terminals);

impl Making<'_> {
    fn begin(terminals: &Terminals, size: u64) -> Result<Making<'_>, String> {
        let folder = terminals.options.directory.join(waste_name());
        let mut making = terminals.making.lock();
        terminals.check_space(size, making.values().sum())?;
        making.insert(folder.clone(), size);
        Ok(Making(folder, terminals))
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        delete(&self.0);
        self.1.making.lock().remove(&self.0);
    }
}

fn waste_name() -> String {
    format!("{WASTE}{}", uuid::Uuid::now_v7().simple())
}

/// Deletes a folder that the gateway made. What is left is deleted by the next start.
fn delete(waste: &Path) {
    if mark(waste).is_none() {
        // A gateway that was killed between the folder and its mark has left it empty; others stay.
        let _ = fs::remove_dir(waste);
        return;
    }
    // The mark goes last, so that what is left can still be told apart.
    let entries = fs::read_dir(waste).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name() != MARK) {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let deleted = if is_folder {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
        // Somebody else may delete it, too.
        if let Err(fault) = deleted
            && fault.kind() != io::ErrorKind::NotFound
        {
            let path = waste.display().to_string();
            return warn!(%fault, path, "folder cannot be deleted yet");
        }
    }
    let _ = fs::remove_file(waste.join(MARK));
    let _ = fs::remove_dir(waste);
}

fn mark(folder: &Path) -> Option<Mark> {
    let file = folder.join(MARK);
    // Another kind of file could be waited for without end.
    let is_file = file.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    serde_json::from_slice(&fs::read(is_file.then_some(file)?).ok()?).ok()
}

/// Whether the gateway made a folder. A link is none.
fn is_ours(folder: &Path) -> bool {
    folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) && mark(folder).is_some()
}

/// The fingerprint of what a whole copy was made of.
fn whole(folder: &Path) -> Option<String> {
    let fingerprint = Some(folder).filter(|folder| is_ours(folder)).and_then(mark)?.fingerprint;
    fingerprint.filter(|_| folder.join(PROGRAM).is_file())
}

fn write_mark(folder: &Path, fingerprint: Option<&str>) -> io::Result<()> {
    let mark = Mark { fingerprint: fingerprint.map(str::to_owned) };
    let text = serde_json::to_string(&mark)?;
    // As a whole, because a copy without a mark would never be deleted.
    let new = folder.join(format!("{MARK}.new"));
    fs::write(&new, text)?;
    fs::rename(new, folder.join(MARK))
}

/// Writes what a terminal starts with.
fn configure(folder: &Path, configuration: &StartConfiguration) -> io::Result<()> {
    let directory = child_any_case(folder, "config");
    fs::create_dir_all(&directory)?;
    // An older terminal may have kept passwords.
    let accounts = child_any_case(&directory, "accounts.dat");
    if accounts.exists() {
        fs::remove_file(accounts)?;
    }
    let file = child_any_case(&directory, "common.ini");
    let present = match fs::read(&file) {
        Ok(present) => present,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => vec![],
        Err(fault) => return Err(fault),
    };
    fs::write(file, configuration.file(&present))?;
    // Without charts.
    let profile = ["MQL5", "Profiles", "Charts", configuration::PROFILE];
    let profile =
        profile.iter().fold(folder.to_owned(), |above, name| child_any_case(&above, name));
    fs::create_dir_all(profile)
}

/// The path of a child whose name may be written otherwise: to a terminal it is the same.
fn child_any_case(folder: &Path, name: &str) -> PathBuf {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut same =
        entries.filter(|entry| entry.file_name().to_string_lossy().eq_ignore_ascii_case(name));
    same.next().map_or_else(|| folder.join(name), |entry| entry.path())
}

fn remove_any_case(folder: &Path, path: &str) {
    let path = path.split('/').fold(folder.to_owned(), |above, name| child_any_case(&above, name));
    // What cannot be removed stays for the next start.
    let _ = fs::remove_dir_all(path);
}

/// The folders in a folder. Links are none.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

fn size_of(folder: &Path) -> u64 {
    let files = WalkDir::new(folder).into_iter().flatten();
    files
        .filter_map(|entry| entry.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}

#[cfg(test)]
mod tests;
