//! `[terminal_profiles]`: terminals that accounts name by `terminal.profile`.

use std::collections::BTreeSet;

use secrecy::SecretString;

use super::kind::{KINDS, TerminalKind};
use super::{recycle, simulator, worker};
use crate::settings::limits::required_choice;
use crate::settings::reader::{DEFAULT, Reader};
use crate::settings::sections::KeptTerminals;

const PROFILES: &str = "terminal_profiles";

/// Lets an account's terminal have what the profile says that it names. Gives that name.
///
/// # Errors
/// If there is no such profile, which was noted. What is expected of the terminal is not known then.
pub fn inherit(
    reader: &mut Reader,
    terminal: &str,
    used: &mut BTreeSet<String>,
) -> Result<Option<String>, ()> {
    let key = format!("{terminal}.profile");
    if !reader.has(&key) {
        return Ok(None);
    }
    let profile: String = reader.optional(&key).ok_or(())?;
    let profiles = reader.names(PROFILES);
    if profiles.contains(&profile) {
        reader.inherit(&format!("{PROFILES}.{profile}"), terminal);
        used.insert(profile.clone());
        return Ok(Some(profile));
    }
    let message = match profiles.len() {
        0 => format!("there is no such profile: expected a section [{PROFILES}.NAME]"),
        _ => {
            let names: Vec<String> = profiles.into_iter().collect();
            format!("there is no such profile: expected one of {}", names.join(", "))
        }
    };
    reader.fault(&key, message);
    Err(())
}

/// Takes every profile, to show it. Faults of one that accounts use are theirs, because they may have other
/// settings in its place.
pub fn take(reader: &mut Reader, used: &BTreeSet<String>, terminals: &KeptTerminals) {
    for name in reader.names(PROFILES) {
        let section = format!("{PROFILES}.{name}");
        let earlier = reader.faults.len();
        profile(reader, &section, terminals);
        let mut faults = reader.faults.split_off(earlier);
        if used.contains(&name) {
            reader.skip(&section);
        } else {
            // What a profile lacks, the account that uses it may have.
            faults.retain(|fault| !fault.origin.is_empty());
            reader.faults.append(&mut faults);
        }
        // Defaults are those of accounts.
        let below = format!("{section}.");
        reader.effective.retain(|one| one.source != DEFAULT || !one.key.starts_with(&below));
    }
}

fn profile(reader: &mut Reader, section: &str, terminals: &KeptTerminals) {
    reader.has_section(section);
    let kind_key = format!("{section}.kind");
    let kind = if reader.has(&kind_key) {
        let kind = required_choice(reader, &kind_key, &KINDS);
        if kind.is_none() {
            // The kind decides which settings are allowed there.
            reader.skip(section);
            return;
        }
        kind
    } else {
        // That of the account: both are possible.
        None
    };
    if kind != Some(TerminalKind::Simulator) {
        let nobody = (String::new(), 0, String::new(), SecretString::default());
        worker::options(reader, section, nobody, terminals);
        recycle::take(reader, &format!("{section}.recycle"));
    }
    if kind != Some(TerminalKind::Worker) {
        simulator::options(reader, section, 0, String::new());
    }
}
