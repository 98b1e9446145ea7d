use std::cell::Cell;

use tempfile::TempDir;

use super::*;

/// A template and a place for copies.
struct Stage {
    folder: TempDir,
    terminals: Terminals,
}

const FILES: [&str; 8] = [
    "terminal64.exe",
    "Config/servers.dat",
    "Config/accounts.dat",
    "Config/common.ini",
    "Bases/Default/history.hcc",
    "logs/20260101.log",
    "MQL5/Logs/20260101.log",
    "MQL5/Experts/robot.ex5",
];

impl Stage {
    fn new() -> Stage {
        Stage::with(0, u64::MAX)
    }

    fn with(keep_free: u64, copy_limit: u64) -> Stage {
        let folder = tempfile::tempdir().unwrap();
        for file in FILES {
            write(&folder.path().join("template").join(file), file);
        }
        let directory = folder.path().join("data/terminals");
        let terminals = Terminals::new(Options { directory, keep_free, copy_limit });
        Stage { folder, terminals }
    }

    fn template(&self) -> PathBuf {
        self.folder.path().join("template")
    }

    fn copy(&self, account: &str, session: usize) -> PathBuf {
        self.folder.path().join("data/terminals").join(account).join(session.to_string())
    }

    fn wanted(&self, account: &str, session: usize) -> Wanted {
        let server = "Broker-Live".to_owned();
        Wanted {
            account: account.to_owned(),
            session,
            template: self.template(),
            configuration: StartConfiguration { login: 5001, server, max_bars: 100_000 },
        }
    }

    fn provide(&self, account: &str, session: usize) -> Result<Provided, String> {
        self.terminals.provide(&self.wanted(account, session), || true)
    }
}

fn write(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

/// Every file below a folder, with what is in it.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = WalkDir::new(folder).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = files.filter(|entry| entry.file_type().is_file());
    files
        .map(|file| {
            let path = file.path().strip_prefix(folder).unwrap().to_owned();
            (path, fs::read(file.path()).unwrap())
        })
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_session_that_overwrites_every_file_in_place_changes_no_other() {
    let stage = Stage::new();
    let first = stage.provide("main", 0).unwrap();
    assert_eq!(first.program, stage.copy("main", 0).join("terminal64.exe"));
    stage.provide("main", 1).unwrap();
    stage.provide("other", 0).unwrap();
    let others = [stage.template(), stage.copy("main", 1), stage.copy("other", 0)];
    let before: Vec<_> = others.iter().map(|folder| contents(folder)).collect();
    for (file, _) in contents(&stage.copy("main", 0)) {
        use std::io::{Seek, Write};
        let file = stage.copy("main", 0).join(file);
        let mut file = OpenOptions::new().write(true).open(file).unwrap();
        file.seek(io::SeekFrom::Start(0)).unwrap();
        file.write_all(b"overwritten").unwrap();
    }
    let after: Vec<_> = others.iter().map(|folder| contents(folder)).collect();
    assert_eq!(before, after);
}

#[test]
fn a_copy_has_no_passwords_no_history_and_no_logs() {
    let stage = Stage::new();
    stage.provide("main", 0).unwrap();
    let copy = contents(&stage.copy("main", 0));
    let files: Vec<String> =
        copy.iter().map(|(path, _)| path.display().to_string().replace('\\', "/")).collect();
    let expected = [
        "Config/common.ini",
        "Config/servers.dat",
        "MQL5/Experts/robot.ex5",
        "mt5-gateway.json",
        "terminal64.exe",
    ];
    assert_eq!(files, expected);
    // Nor does one that the terminal has kept outlive a start.
    write(&stage.copy("main", 0).join("Config/Accounts.dat"), "secret");
    stage.provide("main", 0).unwrap();
    assert!(!stage.copy("main", 0).join("Config/Accounts.dat").exists());
}

#[cfg(unix)]
#[test]
fn a_copy_can_be_written_although_its_template_cannot() {
    use std::os::unix::fs::PermissionsExt;
    let stage = Stage::new();
    let read_only = stage.template().join("Config/servers.dat");
    fs::set_permissions(&read_only, fs::Permissions::from_mode(0o444)).unwrap();
    std::os::unix::fs::symlink(&read_only, stage.template().join("linked.dat")).unwrap();
    stage.provide("main", 0).unwrap();
    for file in ["Config/servers.dat", "linked.dat"] {
        let copy = stage.copy("main", 0).join(file);
        let metadata = copy.symlink_metadata().unwrap();
        assert!(metadata.is_file() && metadata.permissions().mode() & 0o200 != 0, "{file}");
    }
}

#[test]
fn a_copy_is_kept_until_its_template_changes() {
    let stage = Stage::new();
    let first = stage.provide("main", 0).unwrap();
    let own = stage.copy("main", 0).join("Bases/Default/history.hcc");
    write(&own, "its own");
    assert_eq!(stage.provide("main", 0).unwrap(), first);
    assert!(own.exists());
    assert!(!Terminals::differs(&stage.template(), &first.fingerprint));
    // What is not copied does not matter.
    write(&stage.template().join("logs/20260102.log"), "new");
    assert!(!Terminals::differs(&stage.template(), &first.fingerprint));
    write(&stage.template().join("MQL5/Experts/robot.ex5"), "new");
    assert!(Terminals::differs(&stage.template(), &first.fingerprint));
    let second = stage.provide("main", 0).unwrap();
    assert_ne!(second, first);
    assert!(!own.exists());
    let robot = fs::read(stage.copy("main", 0).join("MQL5/Experts/robot.ex5")).unwrap();
    assert_eq!(robot, b"new");
    assert_eq!(names(&stage.folder.path().join("data/terminals")), [".lock", "main"]);
}

#[test]
fn a_template_that_changes_while_it_is_copied_is_copied_again() {
    let stage = Stage::new();
    let changes = Cell::new(1);
    let change = || {
        if changes.get() > 0 {
            changes.set(changes.get() - 1);
            write(&stage.template().join("later.dat"), &"x".repeat(1 + changes.get()));
        }
        true
    };
    let provided = stage.terminals.provide(&stage.wanted("main", 0), change).unwrap();
    assert!(stage.copy("main", 0).join("later.dat").exists());
    assert!(!Terminals::differs(&stage.template(), &provided.fingerprint));
    // One that does not come to rest is not copied, and the copy of before is taken.
    changes.set(1_000_000);
    let fault = stage.terminals.provide(&stage.wanted("main", 1), change).unwrap_err();
    assert!(fault.contains("changes while it is copied"), "{fault}");
    let again = stage.terminals.provide(&stage.wanted("main", 0), change).unwrap();
    assert_eq!(again.program, provided.program);
    assert_eq!(names(&stage.folder.path().join("data/terminals")), [".lock", "main"]);
    assert_eq!(names(&stage.folder.path().join("data/terminals/main")), ["0"]);
}

#[test]
fn a_template_without_a_terminal_is_refused_unless_it_was_copied_before() {
    let stage = Stage::new();
    let first = stage.provide("main", 0).unwrap();
    fs::remove_dir_all(stage.template()).unwrap();
    let fault = stage.provide("main", 1).unwrap_err();
    assert!(
        fault.contains("has no terminal64.exe") && fault.contains("terminal.template"),
        "{fault}"
    );
    assert_eq!(stage.provide("main", 0).unwrap(), first);
    assert!(!Terminals::differs(&stage.template(), &first.fingerprint));
}

#[test]
fn a_copy_that_would_fill_the_disk_is_not_made() {
    let mut stage = Stage::new();
    let first = stage.provide("main", 0).unwrap();
    let directory = stage.folder.path().join("data/terminals");
    let options = Options { directory, keep_free: 1 << 60, copy_limit: u64::MAX };
    stage.terminals = Terminals::new(options);
    let fault = stage.provide("main", 1).unwrap_err();
    assert!(fault.contains("terminals.keep_free") && fault.contains("make room"), "{fault}");
    write(&stage.template().join("new.dat"), "new");
    let again = stage.provide("main", 0).unwrap();
    assert_eq!(again.program, first.program, "it starts as it was copied before");
    assert!(!stage.copy("main", 0).join("new.dat").exists());
    // Which must not end it a minute later.
    assert!(!Terminals::differs(&stage.template(), &again.fingerprint));
    write(&stage.template().join("newer.dat"), "newer");
    assert!(Terminals::differs(&stage.template(), &again.fingerprint));
}

#[test]
fn a_copy_that_was_cut_is_no_copy() {
    let stage = Stage::new();
    let directory = stage.folder.path().join("data/terminals");
    let files = Cell::new(0);
    let ends = || {
        files.set(files.get() + 1);
        // After the template was read, and some of it copied.
        files.get() < 14
    };
    let fault = stage.terminals.provide(&stage.wanted("main", 0), ends).unwrap_err();
    assert!(fault.contains("not needed any more"), "{fault}");
    assert_eq!(names(&directory), [".lock"]);
    // As a kill leaves it: by half, and just before it would have got its place.
    for fingerprint in [None, Some("whole")] {
        let half = directory.join(waste_name());
        write(&half.join("terminal64.exe"), "half");
        write_mark(&half, fingerprint).unwrap();
    }
    fs::create_dir(directory.join(waste_name())).unwrap();
    stage.provide("main", 0).unwrap();
    assert_eq!(fs::read(stage.copy("main", 0).join("terminal64.exe")).unwrap(), b"terminal64.exe");
    stage.terminals.clear(|_, _| true);
    assert_eq!(names(&directory), [".lock", "main"]);
}

#[test]
fn a_session_is_being_provided_until_it_has_its_terminal_or_none() {
    let stage = Stage::new();
    let is_providing = || ["main", "other"].map(|name| stage.terminals.is_providing(name, 0));
    let seen = Cell::new([true; 2]);
    let look = || {
        seen.set(is_providing());
        true
    };
    stage.terminals.provide(&stage.wanted("main", 0), look).unwrap();
    assert_eq!((seen.get(), is_providing()), ([true, false], [false; 2]));
    fs::remove_dir_all(stage.template()).unwrap();
    stage.terminals.provide(&stage.wanted("other", 0), || true).unwrap_err();
    assert_eq!(is_providing(), [false; 2]);
}

#[test]
fn a_copy_that_is_being_made_is_not_taken_for_waste() {
    let stage = Stage::new();
    let clears = || {
        stage.terminals.clear(|account, _| account == "main");
        true
    };
    stage.terminals.provide(&stage.wanted("main", 0), clears).unwrap();
    assert!(stage.copy("main", 0).join("Config/servers.dat").exists());
}

#[test]
fn only_what_the_gateway_made_and_nobody_wants_is_deleted() {
    let stage = Stage::new();
    for (account, session) in [("main", 0), ("main", 1), ("gone", 0)] {
        stage.provide(account, session).unwrap();
    }
    let directory = stage.folder.path().join("data/terminals");
    for other in ["gone/1/terminal64.exe", "gone/notes.txt", "by_hand/0/terminal64.exe"] {
        write(&directory.join(other), "by hand");
    }
    write(&directory.join(format!("{WASTE}by-hand/x")), "by hand");
    #[cfg(unix)]
    std::os::unix::fs::symlink(stage.copy("main", 0), directory.join("main/7")).unwrap();
    stage.terminals.clear(|account, session| account == "main" && session == 0);
    assert!(stage.copy("main", 0).join("terminal64.exe").exists());
    assert!(!stage.copy("main", 1).exists());
    assert_eq!(names(&directory.join("gone")), ["1", "notes.txt"]);
    assert!(directory.join("by_hand/0/terminal64.exe").exists());
    assert!(directory.join(format!("{WASTE}by-hand/x")).exists());
}

#[test]
fn a_copy_that_grew_too_large_loses_history_and_logs() {
    let stage = Stage::with(0, 2_000);
    stage.provide("main", 0).unwrap();
    let copy = stage.copy("main", 0);
    write(&copy.join("bases/history.hcc"), "small");
    stage.provide("main", 0).unwrap();
    assert!(copy.join("bases/history.hcc").exists());
    write(&copy.join("bases/history.hcc"), &"x".repeat(2_000));
    write(&copy.join("MQL5/Logs/a.log"), "x");
    assert!(stage.terminals.size("main", 0) > 2_000);
    stage.provide("main", 0).unwrap();
    assert!(!copy.join("bases").exists() && !copy.join("MQL5/Logs").exists());
    assert!(stage.terminals.size("main", 0) < 2_000);
}

#[test]
fn a_directory_has_one_gateway() {
    let stage = Stage::new();
    stage.provide("main", 0).unwrap();
    let other = Terminals::new(stage.terminals.options.clone());
    let fault = other.provide(&stage.wanted("main", 0), || true).unwrap_err();
    assert!(fault.contains("another gateway uses"), "{fault}");
    other.clear(|_, _| false);
    assert!(stage.copy("main", 0).exists());
    drop(stage.terminals);
    // What was another gateway's is this one's now.
    other.clear(|_, _| false);
    assert!(!stage.folder.path().join("data/terminals/main").exists());
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let stage = Stage::new();
    write(&stage.folder.path().join("data"), "a file");
    let fault = stage.provide("main", 0).unwrap_err();
    assert!(fault.contains("data/terminals cannot be used"), "{fault}");
}

#[test]
fn what_others_have_put_into_the_directory_is_neither_moved_nor_deleted() {
    let stage = Stage::new();
    let directory = stage.folder.path().join("data/terminals");
    write(&stage.copy("main", 0).join("terminal64.exe"), "by hand");
    fs::create_dir_all(directory.join("empty")).unwrap();
    let fault = stage.provide("main", 0).unwrap_err();
    assert!(fault.contains("was not made by the gateway"), "{fault}");
    stage.terminals.clear(|_, _| false);
    assert_eq!(fs::read(stage.copy("main", 0).join("terminal64.exe")).unwrap(), b"by hand");
    assert_eq!(names(&directory), [".lock", "empty", "main"]);
}

#[test]
fn copies_that_are_made_at_once_are_counted_together() {
    let stage = Stage::with(1, u64::MAX);
    stage.terminals.lock().unwrap();
    let first = Making::begin(&stage.terminals, 1 << 10).unwrap();
    // As if another copy were being made that needs all there is.
    stage.terminals.making.lock().insert("other".into(), u64::MAX >> 1);
    let fault = Making::begin(&stage.terminals, 1 << 10).map(|_| ()).unwrap_err();
    assert!(fault.contains("terminals.keep_free"), "{fault}");
    drop(first);
    stage.terminals.making.lock().remove(Path::new("other"));
    assert!(Making::begin(&stage.terminals, 1 << 10).is_ok());
}

#[cfg(unix)]
#[test]
fn a_template_that_a_link_leads_to_the_copies_is_refused_and_nothing_of_it_is_deleted() {
    let stage = Stage::new();
    stage.provide("old", 0).unwrap();
    for target in [stage.copy("old", 0), stage.folder.path().to_owned()] {
        let alias = stage.folder.path().join("alias");
        std::os::unix::fs::symlink(&target, &alias).unwrap();
        let wanted = Wanted { template: alias.clone(), ..stage.wanted("main", 0) };
        let fault = stage.terminals.provide(&wanted, || true).unwrap_err();
        assert!(fault.contains("keep it beside"), "{fault}");
        fs::remove_file(alias).unwrap();
    }
    assert!(stage.copy("old", 0).join("terminal64.exe").exists());
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let stage = Stage::new();
    let pipe = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    };
    fs::create_dir_all(stage.copy("main", 9)).unwrap();
    pipe(&stage.copy("main", 9).join(MARK));
    stage.terminals.clear(|_, _| false);
    let robot = stage.template().join("MQL5/Experts/robot.ex5");
    let becomes_pipe = || {
        if fs::symlink_metadata(&robot).is_ok_and(|metadata| metadata.is_file())
            && stage.terminals.making.lock().len() == 1
        {
            fs::remove_file(&robot).unwrap();
            pipe(&robot);
        }
        true
    };
    let fault = stage.terminals.provide(&stage.wanted("main", 0), becomes_pipe).unwrap_err();
    assert!(fault.contains("robot.ex5 cannot be copied: it is no regular file"), "{fault}");
}

#[test]
fn a_copy_that_is_given_up_leaves_nothing_whenever_that_is() {
    let given_up = |asked: usize| {
        let stage = Stage::new();
        let left = Cell::new(asked);
        let goes_on = || left.replace(left.get().saturating_sub(1)) > 0;
        let provided = stage.terminals.provide(&stage.wanted("main", 0), goes_on);
        let left = names(&stage.folder.path().join("data/terminals"));
        (provided.is_err(), left)
    };
    let outcomes: Vec<_> = (0..).map(given_up).take_while(|(is_err, _)| *is_err).collect();
    // After the last look before the copy gets its place, it is whole.
    let (last, before) = outcomes.split_last().unwrap();
    assert_eq!(last.1, [LOCK, "main"]);
    assert!(before.len() > FILES.len());
    assert!(before.iter().all(|(_, left)| left == &[LOCK]), "{before:?}");
}
