//! File systems: where they are mounted, and how much space they have.
//!
//! On Linux the list of mounts is read anew for each measurement, which touches none of them, and
//! only the wanted file system is asked. `sysinfo` would ask every one of the machine, and leaves
//! tmpfs, NFS and CIFS out.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::metrics::Disk;

/// A file system to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSystem {
    /// The one that holds the working directory.
    WorkingDirectory,
    /// The one that is mounted here.
    Mountpoint(PathBuf),
}

impl fmt::Display for FileSystem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileSystem::WorkingDirectory => formatter.write_str("working directory"),
            FileSystem::Mountpoint(path) => path.display().fmt(formatter),
        }
    }
}

impl FileSystem {
    /// Its mount point, among those of the machine in the order in which they were mounted.
    fn find(&self, mountpoints: &[PathBuf], working_directory: &Path) -> Result<PathBuf, String> {
        match self {
            FileSystem::WorkingDirectory => {
                let holders = mountpoints.iter().filter(|at| working_directory.starts_with(at));
                let longest = holders.max_by_key(|at| at.components().count());
                longest.cloned().ok_or_else(|| {
                    let directory = working_directory.display();
                    format!("no mount point holds {directory}; list one in `metrics.disks`")
                })
            }
            // Without a file system there the path exists as well, on another one.
            FileSystem::Mountpoint(path) if mountpoints.contains(path) => Ok(path.clone()),
            FileSystem::Mountpoint(path) => {
                Err(format!("nothing is mounted at {}", path.display()))
            }
        }
    }
}

/// Room on a file system.
///
/// # Errors
/// Why it cannot be told.
#[cfg(target_os = "linux")]
pub fn measure(file_system: &FileSystem) -> Result<Disk, String> {
    use std::os::unix::ffi::OsStrExt;

    let listed = std::fs::read(MOUNTS).map_err(|fault| format!("{MOUNTS}: {fault}"))?;
    let mountpoints: Vec<PathBuf> = listed
        .split(|byte| *byte == b'\n')
        .filter_map(mountpoint)
        .map(|bytes| PathBuf::from(std::ffi::OsStr::from_bytes(&bytes)))
        .collect();
    let directory = std::env::current_dir()
        .map_err(|fault| format!("the working directory cannot be told: {fault}"))?;
    let mountpoint = file_system.find(&mountpoints, &directory)?;
    // The directory itself: on some file systems it has less room than the mount point.
    let asked = match file_system {
        FileSystem::WorkingDirectory => &directory,
        FileSystem::Mountpoint(path) => path,
    };
    let room = rustix::fs::statvfs(asked)
        .map_err(|fault| format!("statvfs of {} failed: {fault}", asked.display()))?;
    Ok(Disk {
        mountpoint: mountpoint.display().to_string(),
        free: room.f_bavail.saturating_mul(room.f_frsize),
        size: room.f_blocks.saturating_mul(room.f_frsize),
    })
}

/// Bytes that are free for this user where a directory is.
///
/// # Errors
/// Why that cannot be told.
#[cfg(unix)]
pub fn free_space(directory: &Path) -> Result<u64, String> {
    let room = rustix::fs::statvfs(directory)
        .map_err(|fault| format!("statvfs of {} failed: {fault}", directory.display()))?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

/// Bytes that are free for this user where a directory is.
///
/// # Errors
/// Why that cannot be told.
#[cfg(not(unix))]
pub fn free_space(directory: &Path) -> Result<u64, String> {
    use sysinfo::{DiskRefreshKind, Disks};

    let directory = std::path::absolute(directory)
        .map_err(|fault| format!("{} cannot be resolved: {fault}", directory.display()))?;
    let storage = DiskRefreshKind::nothing().with_storage();
    let disks = Disks::new_with_refreshed_list_specifics(storage)
        .map_err(|error| format!("the disks cannot be listed: {error}"))?;
    let holders = disks.iter().filter(|disk| directory.starts_with(disk.mount_point()));
    let holder = holders.max_by_key(|disk| disk.mount_point().components().count());
    let holder = holder.ok_or_else(|| format!("no disk holds {}", directory.display()))?;
    Ok(holder.available_space())
}

#[cfg(target_os = "linux")]
const MOUNTS: &str = "/proc/self/mountinfo";

/// The mount point of a line of `mountinfo`, its fifth field.
#[cfg(target_os = "linux")]
fn mountpoint(line: &[u8]) -> Option<Vec<u8>> {
    let mut field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    while let Some((byte, rest)) = field.split_first() {
        // Spaces, tabs, line feeds and backslashes are written as \ and three octal digits.
        let escaped = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = escaped.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let (byte, rest) = match escaped {
            Some(escaped) if *byte == b'\\' => (escaped, &rest[3..]),
            _ => (*byte, rest),
        };
        path.push(byte);
        field = rest;
    }
    Some(path)
}

/// Room on a file system.
///
/// # Errors
/// Why it cannot be told.
#[cfg(not(target_os = "linux"))]
pub fn measure(file_system: &FileSystem) -> Result<Disk, String> {
    use sysinfo::{DiskRefreshKind, Disks};

    let storage = DiskRefreshKind::nothing().with_storage();
    let disks = Disks::new_with_refreshed_list_specifics(storage)
        .map_err(|error| format!("the disks cannot be listed: {error}"))?;
    let mountpoints: Vec<PathBuf> =
        disks.iter().map(|disk| disk.mount_point().to_owned()).collect();
    let directory = std::env::current_dir()
        .map_err(|fault| format!("the working directory cannot be told: {fault}"))?;
    let mountpoint = file_system.find(&mountpoints, &directory)?;
    let disk = disks.iter().find(|disk| disk.mount_point() == mountpoint);
    let disk = disk.ok_or_else(|| format!("nothing is mounted at {}", mountpoint.display()))?;
    Ok(Disk {
        mountpoint: mountpoint.display().to_string(),
        free: disk.available_space(),
        size: disk.total_space(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_takes_the_file_system_that_holds_the_directory_and_only_mount_points() {
        let mounted = ["/proc", "/", "/data", "/data/inner", "/database", "/data"];
        let mounted: Vec<PathBuf> = mounted.iter().map(PathBuf::from).collect();
        let cases = [
            ("/", Some("/")),
            ("/home/me", Some("/")),
            ("/data", Some("/data")),
            ("/data/me", Some("/data")),
            ("/data/inner/me", Some("/data/inner")),
            ("/data2", Some("/")),
        ];
        for (directory, expected) in cases {
            let found = FileSystem::WorkingDirectory.find(&mounted, Path::new(directory)).ok();
            assert_eq!(found, expected.map(PathBuf::from), "{directory}");
        }
        let nowhere = FileSystem::WorkingDirectory.find(&[], Path::new("/home")).unwrap_err();
        assert_eq!(nowhere, "no mount point holds /home; list one in `metrics.disks`");

        let cases = [("/data", Ok("/data")), ("/data/", Ok("/data/")), ("/home", Err(()))];
        for (path, expected) in cases {
            let file_system = FileSystem::Mountpoint(path.into());
            let found = file_system.find(&mounted, Path::new("/home")).map_err(|_| ());
            assert_eq!(found, expected.map(PathBuf::from), "{path}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn mountpoint_reads_the_fifth_field_of_any_bytes() {
        let cases: [(&[u8], Option<&[u8]>); 5] = [
            (b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw", Some(b"/")),
            (
                b"36 35 0:47 /top /mnt/with\\040space\\134 rw shared:1 master:2 - nfs host:/x rw",
                Some(b"/mnt/with space\\"),
            ),
            (b"36 35 0:47 / /mnt/\xff\\09 rw - tmpfs tmpfs rw", Some(b"/mnt/\xff\\09")),
            (b"36 35 0:47 /", None),
            (b"", None),
        ];
        for (line, expected) in cases {
            assert_eq!(mountpoint(line).as_deref(), expected, "{}", line.escape_ascii());
        }
    }
}
