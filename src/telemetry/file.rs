//! A log file that is replaced when it is full.
//!
//! This is our own code because the crates for it panic when somebody moves the file away, or
//! cannot create files that only their owner can read, and bring a calendar and compression along.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::LogFile;
use crate::files;

/// Writes lines to a file. When the next line would exceed `max_size`, the file is renamed
/// `NAME.1`, the former `NAME.1` is renamed `NAME.2`, and so on up to `NAME.KEEP`.
///
/// A failure is retried with the next line. The log says on standard error when failures begin and
/// end.
pub struct RotatingFile {
    options: LogFile,
    /// `None`: it was not opened yet, or opening it failed.
    open: Option<OpenLog>,
    failing: bool,
}

struct OpenLog<F = File> {
    file: F,
    /// Bytes that count towards `max_size`.
    size: u64,
    /// Whether the file ends within a line.
    torn: bool,
}

impl RotatingFile {
    /// The first line opens the file, and creates it if it is missing.
    pub fn new(options: LogFile) -> RotatingFile {
        RotatingFile { options, open: None, failing: false }
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let open = match self.open.take() {
            Some(open) => open,
            None => OpenLog::new(&self.options.path)?,
        };
        let is_full = open.size > 0 && open.size + line.len() as u64 > self.options.max_size;
        let open = if is_full { self.replace(open)? } else { open };
        self.open.insert(open).write_line(line)
    }

    /// Moves a full file on and opens the next one. A file that cannot be moved is continued, and
    /// the next attempt follows `max_size` bytes later: too long a log is better than none.
    fn replace(&self, full: OpenLog) -> io::Result<OpenLog> {
        let path = &self.options.path;
        // Windows cannot move an open file.
        drop(full);
        let moved = move_on(path, self.options.keep);
        let mut open = OpenLog::new(path)?;
        if let Err(fault) = moved {
            warn!(path = %path.display(), %fault, "log file is full but cannot be moved");
            open.size = 0;
        }
        Ok(open)
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line)?;
        Ok(line.len())
    }

    /// Writes one whole line.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.write_line(line);
        let path = self.options.path.display();
        match (&written, self.failing) {
            (Err(fault), false) => warn!(%path, %fault, "log file cannot be written"),
            (Ok(()), true) => info!(%path, "log file is written again"),
            _ => {}
        }
        self.failing = written.is_err();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl OpenLog {
    fn new(path: &Path) -> io::Result<OpenLog> {
        // Logs name accounts and clients.
        let open = || files::open_private(path, OpenOptions::new().append(true));
        let opened = open().or_else(|fault| match path.parent() {
            Some(parent) if fault.kind() == ErrorKind::NotFound => {
                files::create_private_directory(parent)?;
                open()
            }
            _ => Err(fault),
        });
        let file = opened?;
        let size = file.metadata()?.len();
        Ok(OpenLog { file, size, torn: false })
    }
}

impl<F: Write> OpenLog<F> {
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            append(&mut self.file, b"\n", &mut self.size)?;
            self.torn = false;
        }
        let before = self.size;
        let written = append(&mut self.file, line, &mut self.size);
        self.torn = written.is_err() && self.size > before;
        written
    }
}

/// Writes as much as the disk takes, and adds it to `size`.
fn append(file: &mut impl Write, mut bytes: &[u8], size: &mut u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                *size += count as u64;
            }
            Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(())
}

/// Frees a path: each file moves to the next number, and the last one that is kept is overwritten.
fn move_on(path: &Path, keep: u32) -> io::Result<()> {
    let free = (1..keep).find(|number| !numbered(path, *number).exists()).unwrap_or(keep);
    for number in (0..free).rev() {
        match std::fs::rename(numbered(path, number), numbered(path, number + 1)) {
            // Somebody moved it away already.
            Err(fault) if fault.kind() == ErrorKind::NotFound => {}
            moved => moved?,
        }
    }
    Ok(())
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    if number > 0 {
        name.push(format!(".{number}"));
    }
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path, max_size: u64, keep: u32) -> RotatingFile {
        RotatingFile::new(LogFile { path: path.to_owned(), max_size, keep })
    }

    fn texts(path: &Path) -> Vec<String> {
        (0..10).map_while(|number| std::fs::read_to_string(numbered(path, number)).ok()).collect()
    }

    #[test]
    fn a_full_file_is_moved_on_and_the_oldest_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/log");
        let mut log = file(&path, 6, 2);
        for (line, expected) in [
            ("1\n", vec!["1\n"]),
            ("2\n", vec!["1\n2\n"]),
            ("33\n", vec!["33\n", "1\n2\n"]),
            ("much longer\n", vec!["much longer\n", "33\n", "1\n2\n"]),
            ("5\n", vec!["5\n", "much longer\n", "33\n"]),
        ] {
            log.write_all(line.as_bytes()).unwrap();
            assert_eq!(texts(&path), expected, "{line}");
        }
        // A new process continues the file.
        let mut log = file(&path, 6, 2);
        log.write_all(b"6\n").unwrap();
        log.write_all(b"777\n").unwrap();
        assert_eq!(texts(&path), ["777\n", "5\n6\n", "much longer\n"]);
        std::fs::remove_file(&path).unwrap();
        log.write_all(b"888\n").unwrap();
        assert_eq!(texts(&path)[0], "888\n", "one that was taken away is begun anew when full");
    }

    #[test]
    fn a_file_that_cannot_be_moved_is_continued() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        // A directory that is not empty cannot be replaced by a file.
        std::fs::create_dir_all(numbered(&path, 1).join("inside")).unwrap();
        let mut log = file(&path, 4, 1);
        for line in ["1\n", "2\n", "3\n", "4\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n3\n4\n");
        std::fs::remove_dir_all(numbered(&path, 1)).unwrap();
        log.write_all(b"5\n").unwrap();
        assert_eq!(texts(&path), ["5\n", "1\n2\n3\n4\n"]);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::create_dir(&path).unwrap();
        let mut log = file(&path, 4, 1);
        assert!(log.write_all(b"1\n").is_err());
        std::fs::remove_dir(&path).unwrap();
        log.write_all(b"2\n").unwrap();
        assert_eq!(texts(&path), ["2\n"]);
    }

    /// A disk with so much room.
    struct Disk(Vec<u8>, usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.1 - self.0.len());
            self.0.extend_from_slice(&bytes[..count]);
            if count == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_a_full_disk_cut_is_ended_before_the_next_one() {
        let mut open = OpenLog { file: Disk(vec![], 5), size: 0, torn: false };
        open.write_line(b"one\n").unwrap();
        assert!(open.write_line(b"two\n").is_err());
        assert!(open.write_line(b"three\n").is_err());
        open.file.1 = 100;
        open.write_line(b"four\n").unwrap();
        open.file.1 = open.file.0.len();
        assert!(open.write_line(b"five\n").is_err());
        open.file.1 = 100;
        open.write_line(b"six\n").unwrap();
        assert_eq!(String::from_utf8_lossy(&open.file.0), "one\nt\nfour\nsix\n");
        assert_eq!(open.size, open.file.0.len() as u64);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/log");
        file(&path, 100, 1).write_all(b"1\n").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
    }
}
