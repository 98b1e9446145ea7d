//! What differs between two readings of the settings, and what of it can be applied while the gateway
//! runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::{ChangeKind, Reloaded, SettingChange};

/// Every setting in force by its key, in a form in which equal values are equal. Of secrets this has
/// the digest.
pub type SettingValues = BTreeMap<String, String>;

/// The tables of accounts and of keys.
const ACCOUNTS: &str = "accounts.";
const KEYS: &str = "auth.keys.";

/// The tables of terminals that accounts name. A change of one shows at the accounts that do.
const PROFILES: &str = "terminal_profiles.";

/// Settings beside accounts and keys that are applied at once. Those of `[trading]` are defaults of
/// accounts, where a change of them shows; the others are asked for whenever they matter.
const APPLIED: [&str; 4] = [
    "trading.send_within",
    "trading.send_within_close",
    "auth.allow_anonymous",
    "accounts_store.anonymous",
];

/// What differs between the settings that run and those that were read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What happened to which account.
    pub accounts: BTreeMap<String, ChangeKind>,
    /// What happened to which key.
    pub keys: BTreeMap<String, ChangeKind>,
    /// Other settings that are applied at once.
    pub others: BTreeMap<String, ChangeKind>,
    /// Settings that only a restart applies.
    pub restart_required: Vec<String>,
}

/// Compares the settings that run with those that were read.
pub fn difference(running: &SettingValues, read: &SettingValues) -> Difference {
    let mut difference = Difference {
        accounts: tables(running, read, ACCOUNTS),
        keys: tables(running, read, KEYS),
        ..Difference::default()
    };
    for (account, change) in &mut difference.accounts {
        let paused = format!("{ACCOUNTS}{account}.paused");
        let table = format!("{ACCOUNTS}{account}.");
        let differs_otherwise =
            changed_keys(running, read).any(|key| key.starts_with(&table) && *key != paused);
        if *change == ChangeKind::Changed && !differs_otherwise {
            let is_paused = read.get(&paused).is_some_and(|value| value == "true");
            *change = if is_paused { ChangeKind::Paused } else { ChangeKind::Resumed };
        }
    }
    for key in changed_keys(running, read) {
        if APPLIED.contains(&key.as_str()) {
            difference.others.insert(key.clone(), ChangeKind::Changed);
        } else if !is_applied(key) {
            difference.restart_required.push(key.clone());
        }
    }
    difference
}

/// Removes accounts of which something has changed from the settings that run.
pub fn forget_accounts(running: &mut SettingValues, changed: &BTreeMap<String, ChangeKind>) {
    let account = |key: &str| Some(key.strip_prefix(ACCOUNTS)?.split('.').next()?.to_owned());
    running.retain(|key, _| account(key).is_none_or(|account| !changed.contains_key(&account)));
}

/// Gives an account that runs the settings that were read, or none if they have none.
pub fn apply_account(running: &mut SettingValues, read: &SettingValues, account: &str) {
    let table = format!("{ACCOUNTS}{account}.");
    running.retain(|key, _| !key.starts_with(&table));
    let read = read.iter().filter(|(key, _)| key.starts_with(&table));
    running.extend(read.map(|(key, value)| (key.clone(), value.clone())));
}

/// Notes that an account that runs is paused, or is not, while the rest of it stays.
pub fn apply_pause(running: &mut SettingValues, account: &str, paused: bool) {
    running.insert(format!("{ACCOUNTS}{account}.paused"), paused.to_string());
}

/// The settings that run once a difference was applied: the ones that were read, but for those that
/// only a restart applies.
pub fn applied(running: SettingValues, read: &SettingValues) -> SettingValues {
    let now_applied = |key: &str| is_applied(key) || APPLIED.contains(&key);
    let mut values: SettingValues =
        running.into_iter().filter(|(key, _)| !now_applied(key)).collect();
    let read = read.iter().filter(|(key, _)| now_applied(key));
    values.extend(read.map(|(key, value)| (key.clone(), value.clone())));
    values
}

fn is_applied(key: &str) -> bool {
    [ACCOUNTS, KEYS, PROFILES].iter().any(|table| key.starts_with(table))
}

/// The keys that only one of them has, or that have another value.
fn changed_keys<'a>(
    running: &'a SettingValues,
    read: &'a SettingValues,
) -> impl Iterator<Item = &'a String> {
    let keys: BTreeSet<&String> = running.keys().chain(read.keys()).collect();
    keys.into_iter().filter(|key| running.get(*key) != read.get(*key))
}

/// What happened to each of the tables below a key.
fn tables(
    running: &SettingValues,
    read: &SettingValues,
    above: &str,
) -> BTreeMap<String, ChangeKind> {
    let name = |key: &str| {
        let rest = key.strip_prefix(above)?;
        Some(rest.split('.').next().unwrap_or(rest).to_owned())
    };
    let names = |values: &SettingValues| -> BTreeSet<String> {
        values.keys().filter_map(|key| name(key)).collect()
    };
    let (before, after) = (names(running), names(read));
    let changed = changed_keys(running, read).filter_map(|key| name(key));
    let kind = |table: String| {
        let kind = match (before.contains(&table), after.contains(&table)) {
            (false, _) => ChangeKind::Added,
            (true, false) => ChangeKind::Removed,
            (true, true) => ChangeKind::Changed,
        };
        (table, kind)
    };
    changed.map(kind).collect()
}

impl Difference {
    /// Corrects what is to be done by the accounts that are there and by those that were read. They
    /// contradict the settings that run only after a change has failed half way.
    pub fn among(mut self, present: &BTreeSet<String>, read: &BTreeSet<String>) -> Difference {
        self.accounts.retain(|name, _| present.contains(name) || read.contains(name));
        for name in present.union(read) {
            let change = match (present.contains(name), read.contains(name)) {
                (true, false) => ChangeKind::Removed,
                (true, true) if self.accounts.get(name) != Some(&ChangeKind::Added) => continue,
                (true, true) => ChangeKind::Changed,
                (false, _) => ChangeKind::Added,
            };
            self.accounts.insert(name.clone(), change);
        }
        self
    }

    /// What a client is told once it was applied. `unknown`: how many trades whose outcome is unknown each
    /// account has left behind.
    pub fn report(self, unknown: &BTreeMap<String, usize>) -> Reloaded {
        let accounts = self.accounts.into_iter().map(|(name, change)| SettingChange {
            setting: format!("{ACCOUNTS}{name}"),
            change,
            unknown_trades: unknown.get(&name).copied().unwrap_or_default(),
        });
        let keys = self.keys.into_iter().map(|(name, change)| (KEYS.to_owned() + &name, change));
        let others = keys.chain(self.others);
        let others =
            others.map(|(setting, change)| SettingChange { setting, change, unknown_trades: 0 });
        let applied = accounts.chain(others).collect();
        Reloaded { applied, restart_required: self.restart_required }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> SettingValues {
        let lines = text.lines().filter_map(|line| line.split_once(" = "));
        lines.map(|(key, value)| (key.trim().to_owned(), value.to_owned())).collect()
    }

    const RUNNING: &str = "server.listen = a
        metrics.call_buckets = b
        trading.send_within = 5s
        auth.allow_anonymous = false
        auth.keys.robot.sha256 = 1
        auth.keys.robot.scopes = read
        accounts.main.login = 1
        accounts.main.paused = false
        accounts.main.terminal.bars.EUR.USD = x
        accounts.other.login = 2";

    /// The difference after lines were changed, added, or removed by an empty value, as
    /// `setting change` and `setting restart`.
    fn changes(changed: &str) -> Vec<String> {
        let running = values(RUNNING);
        let mut read = running.clone();
        for (key, value) in values(changed) {
            match value.as_str() {
                "-" => _ = read.remove(&key),
                _ => _ = read.insert(key, value),
            }
        }
        let Reloaded { applied: changes, restart_required } =
            difference(&running, &read).report(&BTreeMap::new());
        // Applying leaves what needs a restart, and nothing else.
        let left = difference(&applied(running, &read), &read).report(&BTreeMap::new());
        assert_eq!(left, Reloaded { applied: vec![], restart_required: restart_required.clone() });
        let changes = changes.into_iter().map(|change| {
            let kind = serde_json::to_value(change.change).unwrap();
            format!("{} {}", change.setting, kind.as_str().unwrap())
        });
        changes.chain(restart_required.into_iter().map(|key| key + " restart")).collect()
    }

    #[test]
    fn a_change_that_failed_half_way_is_made_good_by_what_is_there() {
        use ChangeKind::{Added, Changed, Paused, Removed};
        for (there, read, found, expected) in [
            // Nothing has failed.
            (true, true, None, None),
            (true, true, Some(Changed), Some(Changed)),
            (true, true, Some(Paused), Some(Paused)),
            (true, false, Some(Removed), Some(Removed)),
            (false, true, Some(Added), Some(Added)),
            // It is there, in whatever state.
            (true, true, Some(Added), Some(Changed)),
            (true, false, None, Some(Removed)),
            // It is not there.
            (false, true, None, Some(Added)),
            (false, true, Some(Changed), Some(Added)),
            (false, true, Some(Paused), Some(Added)),
            (false, false, Some(Removed), None),
        ] {
            let set = |is_in: bool| is_in.then(|| "a".to_owned()).into_iter().collect();
            let accounts = found.map(|change| ("a".to_owned(), change)).into_iter().collect();
            let found = Difference { accounts, ..Difference::default() };
            let case = format!("{there} {read} {:?}", found.accounts);
            let right = found.among(&set(there), &set(read)).accounts;
            assert_eq!(right.get("a").copied(), expected, "{case}");
        }
    }

    #[test]
    fn one_account_is_forgotten_or_applied_and_no_other() {
        let mut running = values(RUNNING);
        let read = values("accounts.other.login = 3\naccounts.others.login = 4");
        apply_account(&mut running, &read, "other");
        assert_eq!(running.len(), values(RUNNING).len());
        assert_eq!(running["accounts.other.login"], "3");
        apply_account(&mut running, &values(""), "other");
        assert!(!running.contains_key("accounts.other.login"));
        let changed = BTreeMap::from([("main".to_owned(), ChangeKind::Removed)]);
        forget_accounts(&mut running, &changed);
        assert!(running.keys().all(|key| !key.starts_with("accounts.")));
        assert!(running.contains_key("server.listen"));
    }

    #[test]
    fn difference_is_by_account_and_by_key_and_by_setting_for_the_rest() {
        for (changed, expected) in [
            ("", vec![]),
            ("accounts.main.login = 3", vec!["accounts.main changed"]),
            ("accounts.main.terminal.bars.EUR.USD = y", vec!["accounts.main changed"]),
            ("accounts.main.queue = 1", vec!["accounts.main changed"]),
            ("accounts.other.login = -", vec!["accounts.other removed"]),
            ("accounts.mai.login = 3", vec!["accounts.mai added"]),
            ("accounts.main.paused = true", vec!["accounts.main paused"]),
            ("accounts.main.paused = -", vec!["accounts.main resumed"]),
            ("accounts.main.paused = true\naccounts.main.login = 3", vec!["accounts.main changed"]),
            ("auth.keys.robot.sha256 = 2", vec!["auth.keys.robot changed"]),
            (
                "auth.keys.robot.sha256 = -\nauth.keys.robot.scopes = -\nauth.keys.new.sha256 = 1",
                vec!["auth.keys.new added", "auth.keys.robot removed"],
            ),
            ("auth.allow_anonymous = true", vec!["auth.allow_anonymous changed"]),
            ("trading.send_within = 6s", vec!["trading.send_within changed"]),
            ("terminal_profiles.lab.seed = 2", vec![]),
            ("server.listen = b", vec!["server.listen restart"]),
            ("metrics.call_buckets = -", vec!["metrics.call_buckets restart"]),
            ("log.file.path = x", vec!["log.file.path restart"]),
            (
                "server.listen = b\naccounts.other.login = 3\nlog.filter = x",
                vec!["accounts.other changed", "log.filter restart", "server.listen restart"],
            ),
        ] {
            assert_eq!(changes(changed), expected, "{changed}");
        }
    }
}
