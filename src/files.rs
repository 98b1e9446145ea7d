//! Files that only the service's user may read.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::path::Path;

/// Opens a file for writing, and creates it with mode 0600 if it is not there.
///
/// On Windows a new file has the access list of its directory.
///
/// # Errors
/// As [`OpenOptions::open`].
pub fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Creates a directory and those above it that are missing, with mode 0700.
///
/// # Errors
/// As [`DirBuilder::create`].
pub fn create_private_directory(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// The mode of a file that users other than its owner may read or write; `None` if none may, and
/// on Windows.
#[cfg(unix)]
pub fn open_to_others(metadata: &std::fs::Metadata) -> Option<u32> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

/// The mode of a file that users other than its owner may read or write; `None` if none may, and
/// on Windows.
#[cfg(not(unix))]
pub fn open_to_others(_metadata: &std::fs::Metadata) -> Option<u32> {
    None
}
