//! How the files of settings, `.env` and the password files are read.

use super::{account, run, write_private};
use crate::common::command;

/// The settings that a file of each kind makes: the kind, the file, and what it holds.
fn kinds() -> [(&'static str, &'static str, String); 4] {
    [
        ("default", "settings/default.toml", "[log]\nfilter = 'warn'\n".to_owned()),
        ("--config", "mine.toml", "[log]\nfilter = 'warn'\n".to_owned()),
        (".env", ".env", "MT5_GATEWAY__LOG__FILTER=warn\n".to_owned()),
        ("password", "p", "warn\n".to_owned()),
    ]
}

/// Checks settings of which one file has these bytes; `None`: it is a directory.
fn check_with(file: &str, bytes: Option<&[u8]>) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(file);
    let config = account("password_file = 'p'", "");
    std::fs::create_dir_all(directory.path().join("settings")).unwrap();
    std::fs::write(directory.path().join("mine.toml"), &config).unwrap();
    std::fs::write(directory.path().join("p"), "p").unwrap();
    if path.exists() {
        std::fs::remove_file(&path).unwrap();
    }
    match bytes {
        Some(bytes) => std::fs::write(&path, bytes).unwrap(),
        None => std::fs::create_dir(&path).unwrap(),
    }
    let output =
        command(directory.path()).args(["check-config", "--config", "mine.toml"]).output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn every_kind_of_file_is_utf_8_and_may_have_a_byte_order_mark() {
    for (kind, file, text) in kinds() {
        let marked = format!("\u{FEFF}{text}").replace('\n', "\r\n");
        let (code, shown) = check_with(file, Some(marked.as_bytes()));
        assert_eq!(code, Some(0), "{kind}: {shown}");
        let units = || std::iter::once(0xFEFF).chain(text.encode_utf16());
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        for wide in [&little, &big, &little[2..].to_vec()] {
            let (code, fault) = check_with(file, Some(wide));
            assert_eq!(code, Some(2), "{kind}");
            let expected = "is UTF-16 or no text, expected UTF-8: save it as UTF-8 (Notepad:";
            assert!(fault.contains(expected), "{kind}: {fault}");
            assert_eq!(fault.lines().count(), 2, "{kind}: {fault}");
        }
        let latin_1 = text.replace("warn", "w\u{1}").into_bytes();
        let latin_1: Vec<u8> =
            latin_1.into_iter().map(|byte| if byte == 1 { 0xE4 } else { byte }).collect();
        let (code, fault) = check_with(file, Some(&latin_1));
        assert_eq!(code, Some(2), "{kind}");
        assert!(
            fault.contains("is not UTF-8 at line ") && fault.contains("(byte offset "),
            "{fault}"
        );
        assert_eq!(fault.lines().count(), 2, "{kind}: {fault}");
        let (code, fault) = check_with(file, None);
        assert_eq!(code, Some(2), "{kind}");
        assert!(fault.contains("is a directory, expected a file"), "{kind}: {fault}");
        assert!(!fault.contains("not found") && fault.lines().count() == 2, "{kind}: {fault}");
    }
}

#[test]
fn no_fault_shows_a_secret() {
    let account = "[accounts.a]\nlogin = 1\nserver = 'S'\n";
    let cases = [
        (
            "mine.toml",
            format!("{account}password = \"S3cret\n"),
            "line 4, column 19, `password`: the closing double quote is missing",
        ),
        (
            "mine.toml",
            format!("{account}password = S3cret\n"),
            "line 4, column 12, `password`: a text must be in quotes",
        ),
        ("mine.toml", format!("{account}password = ['S3cret']\n"), "accounts.a.password: expected"),
        ("mine.toml", "[auth.keys.k]\nsha256 = 'S3cret'\n".to_owned(), "auth.keys.k.sha256: "),
        (
            ".env",
            "A=1\nMT5_GATEWAY__ACCOUNTS__A__PASSWORD=\"S3cret\n".to_owned(),
            "line 2, `MT5_GATEWAY__ACCOUNTS__A__PASSWORD`: the closing double quote is missing",
        ),
        (
            ".env",
            "MT5_GATEWAY__ACCOUNTS__A__PASSWORD='S3'cret\n".to_owned(),
            "line 1, `MT5_GATEWAY__ACCOUNTS__A__PASSWORD`: there is more after the closing quote",
        ),
        (
            ".env",
            "MT5_GATEWAY__ACCOUNTS__A__PASSWORD S3cret\n".to_owned(),
            "line 1: expected NAME=value",
        ),
        (".env", "S3cret\n".to_owned(), "line 1: expected NAME=value"),
        (".env", "S3cret='x\n".to_owned(), "line 1: the closing single quote is missing"),
        (
            ".env",
            "MT5_GATEWAY__SERVER__LISTEN=S3cret\n".to_owned(),
            "server.listen: expected an address with a port",
        ),
    ];
    for (name, text, expected) in cases {
        let files = [("mine.toml", ""), (name, text.as_str())];
        let output = run(&["check-config", "--config", "mine.toml"], &files, &[]);
        let shown = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(shown.contains(expected), "{expected}\n{shown}");
        assert!(shown.contains(&format!("(from {name})")), "{shown}");
        assert!(!shown.contains("S3") && !shown.contains("cret"), "{shown}");
    }
}

#[test]
fn values_are_not_checked_while_a_file_cannot_be_parsed() {
    let files = [
        ("mine.toml", "[auth.keys.k\nsha256 = 'x'\n[accounts.a]\nlogin = \n"),
        (".env", "MT5_GATEWAY__SERVER__LISTEN=0.0.0.0:80\nnonsense\n"),
    ];
    let output = run(&["check-config", "--config", "mine.toml"], &files, &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    let places: Vec<&str> =
        text.lines().map(|line| line.split(':').next().unwrap().trim()).collect();
    let expected =
        ["the settings have 3 faults", "line 1, column 13", "line 4, column 9, `login`", "line 2"];
    assert_eq!(places, expected, "{text}");
}

#[test]
fn values_of_dot_env_are_taken_as_its_example_documents() {
    let example = include_str!("../../../.env.example");
    let uncommented = example.replace("\n#MT5_GATEWAY__", "\nMT5_GATEWAY__");
    let directory = tempfile::tempdir().unwrap();
    write_private(&directory.path().join(".env"), &uncommented);
    let output = command(directory.path()).arg("check-config").output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let has = |key: &str, value: &str| {
        let line = text.lines().find(|line| line.starts_with(&format!("{key} ")));
        let line = line.unwrap_or_else(|| panic!("{key} is not in\n{text}"));
        assert!(line.ends_with(&format!(" = {value}  # .env")), "{line}");
    };
    has("accounts.main.terminal.path", r#""C:\\new\\5\\terminal64.exe""#);
    has("server.allowed_hosts", r#"["mt5.example", "desk"]"#);
    has("log.filter", r#""info,ractor=warn""#);
    has("accounts.main.password", "(hidden)");
}

#[test]
fn a_comment_behind_a_value_of_dot_env_belongs_to_it_and_is_a_warning() {
    let files = [(".env", "A=b # c\nMT5_GATEWAY__TRADING__JOURNAL=a #b\n")];
    let output = run(&["check-config"], &files, &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("warning: MT5_GATEWAY__TRADING__JOURNAL: line 2: the value includes"),
        "{text}"
    );
    assert!(String::from_utf8(output.stdout).unwrap().contains("= \"a #b\"  # .env"));
}

#[test]
fn a_variable_that_is_set_twice_is_a_fault() {
    let files = [(".env", "MT5_GATEWAY__LOG__FORMAT=text\nmt5_gateway__log__format=json\n")];
    let output = run(&["check-config"], &files, &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    let expected =
        "`mt5_gateway__log__format` is set twice as `MT5_GATEWAY__LOG__FORMAT` (from .env)";
    assert!(text.contains(expected), "{text}");
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_unicode_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let value = std::ffi::OsStr::from_bytes(b"S3cr\xE4t");
    let directory = tempfile::tempdir().unwrap();
    let name = "MT5_GATEWAY__ACCOUNTS__A__PASSWORD";
    let output = command(directory.path())
        .arg("check-config")
        .envs([(name, value), ("SOMEBODY_ELSES", value)])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!(
            "the settings have 1 fault:\n  the value of `{name}` is not Unicode (from environment)\n"
        )
    );
}

#[test]
fn paths_are_relative_to_the_file_that_names_them() {
    let bars = include_str!("../../data/EURUSD_H1.csv");
    let simulator = |name: &str, login: u32| {
        format!(
            "[accounts.{name}]\nlogin = {login}\nserver = 'S'\npassword_file = 'p'\n\
             [accounts.{name}.terminal]\nkind = 'simulator'\nbars = {{ EURUSD = 'bars.csv' }}\n"
        )
    };
    let files = [
        ("conf/mine.toml", &*simulator("a", 1)),
        ("conf/p", "a"),
        ("conf/bars.csv", bars),
        ("settings/default.toml", &simulator("b", 2)),
        ("settings/p", "b"),
        ("settings/bars.csv", bars),
        (
            ".env",
            "MT5_GATEWAY__ACCOUNTS__C__LOGIN=3\nMT5_GATEWAY__ACCOUNTS__C__SERVER=S\n\
             MT5_GATEWAY__ACCOUNTS__C__PASSWORD_FILE=c.password\n\
             MT5_GATEWAY__ACCOUNTS__C__TERMINAL__KIND=simulator\n",
        ),
        ("c.password", "c"),
        ("d.password", "d"),
    ];
    let environment = [
        ("MT5_GATEWAY__ACCOUNTS__D__LOGIN", "4"),
        ("MT5_GATEWAY__ACCOUNTS__D__SERVER", "S"),
        ("MT5_GATEWAY__ACCOUNTS__D__PASSWORD_FILE", "d.password"),
        ("MT5_GATEWAY__ACCOUNTS__D__TERMINAL__KIND", "simulator"),
    ];
    let output = run(&["check-config", "--config", "conf/mine.toml"], &files, &environment);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for (key, path) in [
        ("a.password_file", "conf/p"),
        ("a.terminal.bars.EURUSD", "conf/bars.csv"),
        ("b.password_file", "settings/p"),
        ("c.password_file", "c.password"),
        ("d.password_file", "d.password"),
    ] {
        let shown = text.lines().find(|line| line.starts_with(&format!("accounts.{key} ")));
        let shown = shown.unwrap_or_else(|| panic!("{key} is not in\n{text}"));
        assert!(shown.contains(&format!(" = {path:?}  # ")), "{shown}");
    }
}
