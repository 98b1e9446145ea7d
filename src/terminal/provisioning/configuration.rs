//! What a terminal starts with: its `config/common.ini`.
//!
//! The terminal reads this file at its start and writes it at its end, so it is written anew before each
//! start. Settings of the template that are not ours stay. The terminal's documented start file
//! (`/config:FILE`) is not used: users report that a terminal started with one does not open the pipe
//! on which the package looks for it, and that it ignores there whether experts may trade.

/// What a session's terminal starts with.
#[derive(Debug, Clone)]
pub struct StartConfiguration {
    /// The account's number.
    pub login: u64,
    /// The broker's server, without control characters.
    pub server: String,
    /// The most bars that a chart and an answer have.
    pub max_bars: u32,
}

/// The profile whose charts are opened: ours has none.
pub const PROFILE: &str = "mt5-gateway";

impl StartConfiguration {
    /// The settings by section and key. No value: the key must not be there.
    ///
    /// `Api` is the option "Disable automatic trading via external Python API", and the next three are
    /// "Disable automatic trading when" the account, the profile or a chart has changed: each login
    /// changes the account.
    fn settings(&self) -> [(&str, &str, Option<String>); 13] {
        let (on, off) = (|| Some("1".to_owned()), || Some("0".to_owned()));
        [
            ("Common", "Login", Some(self.login.to_string())),
            ("Common", "Server", Some(self.server.clone())),
            // The package passes it on, so that it is in no file. Nor does the terminal keep it.
            ("Common", "Password", None),
            ("Common", "KeepPrivate", off()),
            ("Common", "NewsEnable", off()),
            ("Charts", "ProfileLast", Some(PROFILE.to_owned())),
            ("Charts", "MaxBars", Some(self.max_bars.to_string())),
            ("Experts", "Enabled", on()),
            ("Experts", "AllowLiveTrading", on()),
            ("Experts", "Api", off()),
            ("Experts", "Account", off()),
            ("Experts", "Profile", off()),
            ("Experts", "Chart", off()),
        ]
    }

    /// The file that the terminal starts with, from what is there.
    pub fn file(&self, present: &[u8]) -> Vec<u8> {
        let mut sections = sections(&decoded(present));
        for (name, key, value) in self.settings() {
            let is_setting = |line: &str| {
                let other = line.split_once('=').map(|(other, _)| other.trim());
                other.is_some_and(|other| other.eq_ignore_ascii_case(key))
            };
            let mut of_name =
                sections.iter_mut().filter(|section| section.0.eq_ignore_ascii_case(name));
            let mut first = None;
            for (_, lines) in &mut of_name {
                lines.retain(|line| !is_setting(line));
                first = first.or(Some(lines));
            }
            let Some(line) = value.map(|value| format!("{key}={value}")) else {
                continue;
            };
            match first {
                Some(lines) => lines.push(line),
                None => sections.push((name.to_owned(), vec![line])),
            }
        }
        let mut text = String::new();
        for (name, lines) in sections {
            // What stands before the first section has no name.
            if !name.is_empty() {
                text.push_str(&format!("[{name}]\r\n"));
            }
            lines.iter().for_each(|line| text.push_str(&format!("{line}\r\n")));
        }
        // As the terminal writes it: UTF-16, little-endian, with a byte order mark.
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    }
}

/// The text of a file of the terminal, or of one that people wrote.
fn decoded(bytes: &[u8]) -> String {
    if let Some(utf16) = bytes.strip_prefix(&[0xff, 0xfe]) {
        let units: Vec<u16> =
            utf16.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
        return String::from_utf16_lossy(&units);
    }
    String::from_utf8_lossy(bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes)).into_owned()
}

/// The lines of each section, without empty ones.
fn sections(text: &str) -> Vec<(String, Vec<String>)> {
    let mut sections = vec![(String::new(), vec![])];
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => sections.push((name.to_owned(), vec![])),
            None => {
                let (_, lines) = sections.last_mut().expect("there is one from the beginning");
                lines.push(line.to_owned());
            }
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn configuration() -> StartConfiguration {
        StartConfiguration { login: 5001, server: "Börse-Live = 1".to_owned(), max_bars: 100_000 }
    }

    #[test]
    fn the_file_has_what_the_session_needs_and_no_password() {
        let expected = "[Common]\r\nLogin=5001\r\nServer=Börse-Live = 1\r\nKeepPrivate=0\r\nNewsEnable=0\r\n\
                        [Charts]\r\nProfileLast=mt5-gateway\r\nMaxBars=100000\r\n\
                        [Experts]\r\nEnabled=1\r\nAllowLiveTrading=1\r\nApi=0\r\nAccount=0\r\nProfile=0\r\n\
                        Chart=0\r\n";
        let file = configuration().file(b"");
        assert_eq!(file[..2], [0xff, 0xfe]);
        assert_eq!(decoded(&file), expected);
        // The terminal has written it, and nothing is there twice.
        assert_eq!(configuration().file(&file), file);
    }

    #[test]
    fn what_a_terminal_or_a_person_wrote_is_corrected_and_the_rest_stays() {
        let present = "; by hand\n[Common]\nLogin=1\nPassword=secret\npassword = secret\nProxyEnable=1\n\
                       [experts]\nENABLED=0\nApi=1\nWebRequestUrl=https://a.example/?x=[1]\n[News]\nEnabled=0\n[Experts]\nEnabled=0\n";
        let utf16: Vec<u8> = "\u{feff}"
            .encode_utf16()
            .chain(present.encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        let with_mark = ["\u{feff}".as_bytes(), present.as_bytes()].concat();
        for present in [present.as_bytes(), &utf16, &with_mark] {
            let text = decoded(&configuration().file(present));
            for line in [
                "; by hand",
                "ProxyEnable=1",
                "WebRequestUrl=https://a.example/?x=[1]",
                "Login=5001",
            ] {
                assert!(text.lines().any(|other| other == line), "{line} is not in {text}");
            }
            assert!(!text.contains("secret") && !text.contains("Login=1\r"), "{text}");
            let experts = text.split("[experts]").nth(1).unwrap();
            assert!(experts.contains("Enabled=1\r\n") && !experts.contains("ENABLED=0"), "{text}");
            assert!(text.contains("[News]\r\nEnabled=0\r\n"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_a_second_time_changes_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let once = configuration().file(&bytes);
            prop_assert_eq!(configuration().file(&once), once);
        }
    }
}
