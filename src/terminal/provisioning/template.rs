//! A folder with an installed terminal, of which each session gets a copy.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};
use walkdir::WalkDir;

/// The terminal's program, at the top of its folder.
pub const PROGRAM: &str = "terminal64.exe";

/// What is not copied, in lower case: passwords, the history of prices, and what terminals write down.
/// A terminal makes each of them by itself.
const LEFT_OUT: [&str; 7] = [
    "config/accounts.dat",
    "bases",
    "logs",
    "mql5/logs",
    "tester/logs",
    "tester/bases",
    "tester/cache",
];

/// Why there is none if it is not wanted any more.
pub const ENDED: &str = "the copying was ended";

/// What of a template is copied, as it was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    folder: PathBuf,
    /// Paths below the folder: a directory comes before what is in it.
    entries: Vec<Entry>,
    /// Bytes of all files.
    pub size: u64,
    /// Tells it from what it was before, by names, sizes and times of change.
    pub fingerprint: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    path: PathBuf,
    is_directory: bool,
}

impl Template {
    /// Looks through a folder.
    ///
    /// # Errors
    /// Why it cannot be read, or that there is no terminal in it.
    pub fn read(folder: &Path, goes_on: impl Fn() -> bool) -> Result<Template, String> {
        let shown = folder.display();
        check(folder)?;
        let mut template = Template {
            folder: folder.to_owned(),
            entries: vec![],
            size: 0,
            fingerprint: String::new(),
        };
        let mut digest = Sha256::new();
        // A link is copied as what it leads to: a session must not write into it.
        let walk = WalkDir::new(folder).min_depth(1).follow_links(true).sort_by_file_name();
        let below = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_owned();
        for found in walk.into_iter().filter_entry(|entry| {
            entry.depth() == 0 || is_copied(&below(entry.path()).to_string_lossy())
        }) {
            if !goes_on() {
                return Err(ENDED.to_owned());
            }
            let unreadable = |fault| format!("the template {shown} cannot be read: {fault}");
            let found = found.map_err(unreadable)?;
            let metadata = found.metadata().map_err(unreadable)?;
            let path = below(found.path());
            digest.update(path.to_string_lossy().as_bytes());
            digest.update([0]);
            if metadata.is_file() {
                template.size += metadata.len();
                let changed = metadata.modified().ok();
                let changed = changed.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                digest.update(metadata.len().to_le_bytes());
                digest.update(changed.unwrap_or_default().as_nanos().to_le_bytes());
            }
            let is_directory = metadata.is_dir();
            if is_directory || metadata.is_file() {
                template.entries.push(Entry { path, is_directory });
            }
        }
        let hex = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        template.fingerprint = hex;
        Ok(template)
    }

    /// Copies it into a folder that exists. Where the file system shares blocks of files until they
    /// are written, so do the copies; no file is ever a hard link, because terminals write in place.
    ///
    /// # Errors
    /// Which file cannot be copied, and why. If `goes_on` says no, that it does not.
    pub fn copy(&self, to: &Path, goes_on: impl Fn() -> bool) -> Result<(), String> {
        for Entry { path, is_directory } in &self.entries {
            if !goes_on() {
                return Err(ENDED.to_owned());
            }
            let (source, target) = (self.folder.join(path), to.join(path));
            let copied = if *is_directory {
                fs::create_dir(&target)
            } else {
                copy_file(&source, &target).and_then(|()| make_writable(&target))
            };
            copied.map_err(|fault| format!("{} cannot be copied: {fault}", source.display()))?;
        }
        Ok(())
    }
}

/// Looks whether a folder holds a terminal.
///
/// # Errors
/// That it does not.
pub fn check(folder: &Path) -> Result<(), String> {
    if folder.join(PROGRAM).is_file() {
        return Ok(());
    }
    Err(format!(
        "the template {} has no {PROGRAM}: set `terminal.template` to the folder of an installed \
         terminal",
        folder.display()
    ))
}

/// Whether a path below a template's folder belongs into a copy.
fn is_copied(path: &str) -> bool {
    let path = path.to_lowercase().replace('\\', "/");
    !LEFT_OUT.contains(&path.as_str())
}

/// Copies a file. What has become a pipe meanwhile is refused, which a plain copy would wait for.
#[cfg(unix)]
fn copy_file(source: &Path, target: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;

    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let mut from = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(source)?;
    let metadata = from.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is no regular file any more"));
    }
    let mut to = fs::File::create_new(target)?;
    // Linux shares the blocks where it can, as `fs::copy` does.
    std::io::copy(&mut from, &mut to)?;
    to.set_permissions(metadata.permissions())
}

/// Copies a file.
#[cfg(not(unix))]
fn copy_file(source: &Path, target: &Path) -> std::io::Result<()> {
    fs::copy(source, target).map(drop)
}

/// Lets the terminal write a file whose original it may not write.
fn make_writable(file: &Path) -> std::io::Result<()> {
    let mut permissions = file.metadata()?.permissions();
    if !permissions.readonly() {
        return Ok(());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        permissions.set_mode(permissions.mode() | 0o200);
    }
    #[cfg(not(unix))]
    permissions.set_readonly(false);
    fs::set_permissions(file, permissions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_history_and_logs_are_left_out() {
        for (path, expected) in [
            ("terminal64.exe", true),
            ("config", true),
            ("Config\\servers.dat", true),
            ("Config\\Accounts.dat", false),
            ("config/accounts.dat", false),
            ("Bases", false),
            ("logs", false),
            ("MQL5/Logs", false),
            ("MQL5/Experts/logs", true),
            ("MQL5/Experts/bases", true),
        ] {
            assert_eq!(is_copied(path), expected, "{path}");
        }
    }
}
