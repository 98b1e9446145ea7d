//! API keys: `[auth.keys.NAME]`.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU32;

use config::Value;
use governor::Quota;
use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use secrecy::ExposeSecret;

use super::limits::number;
use super::reader::Reader;
use super::types::{Setting, text};
use crate::api::{Key, Scope};
use crate::mt5::wildcard;

/// The highest rate and burst that a key may have.
const MOST_REQUESTS: u32 = 1_000_000;

/// The digests that the documented command prints if no key was put into it.
const EMPTY: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];
const WORD: [u8; 32] = [
    0x5c, 0xa2, 0x40, 0x05, 0xb7, 0x40, 0x71, 0x7b, 0xa4, 0xf3, 0xf6, 0xbc, 0x48, 0xa2, 0x30, 0x70,
    0x0e, 0x68, 0xc2, 0xa4, 0xb1, 0x1e, 0xce, 0xdb, 0x96, 0xf1, 0x69, 0xf4, 0xef, 0xaf, 0x1f, 0x21,
];

/// Takes every configured key.
pub fn take(reader: &mut Reader) -> Vec<Key> {
    let names = reader.names("auth.keys");
    let keys: Vec<Key> = names.iter().map(|name| key(reader, name)).collect();
    refuse_same_key(reader, &keys);
    keys
}

/// Warns of keys that nobody can use, because they have expired or name no account that exists.
pub fn warn(reader: &mut Reader, keys: &[Key], accounts: &[&str], now: Timestamp) {
    for key in keys {
        let field = |field: &str| format!("auth.keys.{}.{field}", key.name);
        if let Some(expires) = key.expires
            && expires <= now
        {
            let message = format!("the key has been invalid since {expires}: renew or remove it");
            reader.warn(&field("expires"), message);
        }
        let matches = |pattern: &str| accounts.iter().any(|account| wildcard(pattern, account));
        let known = accounts.join(", ");
        if !key.accounts.is_empty() && !key.accounts.iter().any(|pattern| matches(pattern)) {
            let message =
                format!("no configured account matches, so the key sees nothing: there is {known}");
            reader.warn(&field("accounts"), message);
        } else if let Some(pattern) = key.accounts.iter().find(|pattern| !matches(pattern)) {
            let message = format!("{pattern:?} matches no configured account: there is {known}");
            reader.warn(&field("accounts"), message);
        }
    }
}

fn key(reader: &mut Reader, name: &str) -> Key {
    let field = |field: &str| format!("auth.keys.{name}.{field}");
    Key {
        name: name.to_owned(),
        sha256: sha256(reader, &field("sha256")).unwrap_or_default(),
        scopes: scopes(reader, &field("scopes")),
        accounts: accounts(reader, &field("accounts")),
        expires: reader.optional(&field("expires")).map(|Expiry(expires)| expires),
        rate_limit: rate_limit(reader, name),
        cidr: cidr(reader, &field("cidr")),
    }
}

/// `None`: a fault was noted.
fn sha256(reader: &mut Reader, key: &str) -> Option<[u8; 32]> {
    let expected = "the SHA-256 of the key, 64 hexadecimal digits: `printf %s KEY | sha256sum`";
    if !reader.has(key) {
        reader.missing(key, expected);
    }
    let digest = parse_digest(reader.secret(key)?.expose_secret());
    match digest {
        None => reader.fault(key, format!("expected {expected}")),
        Some(EMPTY) => reader.fault(key, "it is the digest of an empty text: make a key first"),
        Some(WORD) => reader.fault(key, "it is the digest of the word KEY: put your key there"),
        Some(_) => {}
    }
    digest
}

fn scopes(reader: &mut Reader, key: &str) -> BTreeSet<Scope> {
    let words = reader.value(key, vec![Scope::Read.name().to_owned()]);
    if words.is_empty() {
        reader.fault(key, "expected at least one of read, trade, admin");
    }
    let mut scopes = BTreeSet::new();
    for word in words {
        match Scope::parse(&word) {
            Some(scope) => _ = scopes.insert(scope),
            None => {
                reader.fault(key, format!("{word:?} is no scope: expected read, trade or admin"));
            }
        }
    }
    scopes
}

fn accounts(reader: &mut Reader, key: &str) -> Vec<String> {
    let patterns = reader.value(key, vec!["*".to_owned()]);
    if patterns.is_empty() {
        reader.fault(key, "expected at least one account, or `[\"*\"]` for all");
    }
    for pattern in &patterns {
        let is_expected = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'*'
        };
        if pattern.is_empty() || !pattern.bytes().all(is_expected) {
            let message = format!(
                "{pattern:?} matches no account: expected a name such as \"main\", in which `*` \
                 stands for any characters"
            );
            reader.fault(key, message);
        }
    }
    patterns
}

fn rate_limit(reader: &mut Reader, name: &str) -> Option<Quota> {
    let rate_key = format!("auth.keys.{name}.rate_limit_per_second");
    let burst_key = format!("auth.keys.{name}.rate_limit_burst");
    let limit = 1..=MOST_REQUESTS;
    if !reader.has(&rate_key) {
        if reader.has(&burst_key) {
            number(reader, &burst_key, 1, limit);
            reader.fault(&burst_key, format!("expected `{rate_key}` beside it"));
        }
        return None;
    }
    let rate = number(reader, &rate_key, 1, limit.clone());
    let burst = number(reader, &burst_key, rate, limit);
    let least = NonZeroU32::MIN;
    let quota = Quota::per_second(NonZeroU32::new(rate).unwrap_or(least));
    Some(quota.allow_burst(NonZeroU32::new(burst).unwrap_or(least)))
}

fn cidr(reader: &mut Reader, key: &str) -> Vec<IpNet> {
    let networks: Option<Vec<IpNet>> = reader.optional(key);
    if networks.as_ref().is_some_and(Vec::is_empty) {
        reader.fault(key, "expected at least one address or network: leave it out to allow all");
    }
    networks.unwrap_or_default()
}

/// Refuses two entries for one key: only one of them could give it its scopes.
fn refuse_same_key(reader: &mut Reader, keys: &[Key]) {
    let mut seen = HashMap::new();
    for key in keys.iter().filter(|key| key.sha256 != [0; 32]) {
        if let Some(other) = seen.insert(key.sha256, &key.name) {
            let message = format!(
                "`auth.keys.{other}` has the same key: give each its own, or merge their scopes"
            );
            reader.fault(&format!("auth.keys.{}.sha256", key.name), message);
        }
    }
}

/// The first moment at which a key is no longer valid.
#[derive(Debug, PartialEq)]
struct Expiry(Timestamp);

impl Setting for Expiry {
    const EXPECTED: &'static str = "a last day (UTC) such as \"2027-01-31\", or a moment such as \
                                    \"2027-01-31T12:00:00Z\"";

    fn read(value: &Value) -> Option<Self> {
        let text = text(value)?;
        if let Ok(moment) = text.parse() {
            return Some(Expiry(moment));
        }
        // jiff would also parse a date at the beginning of a longer text.
        let day: Date = (text.len() == "2027-01-31".len()).then(|| text.parse().ok())??;
        let midnight = day.tomorrow().ok()?.at(0, 0, 0, 0);
        TimeZone::UTC.to_timestamp(midnight).ok().map(Expiry)
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let text = text.trim();
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_of_a_day_is_the_end_of_that_day_in_utc() {
        let cases = [
            ("2027-01-31", Some("2027-02-01T00:00:00Z")),
            (" 2027-12-31 ", Some("2028-01-01T00:00:00Z")),
            ("2027-01-31T12:00:00Z", Some("2027-01-31T12:00:00Z")),
            ("2027-01-31T12:00:00+02:00", Some("2027-01-31T10:00:00Z")),
            ("2027-01-31T12:00:00", None),
            ("2027-02-29", None),
            ("31.01.2027", None),
            ("2027-01", None),
            ("never", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|expected| Expiry(expected.parse().unwrap()));
            assert_eq!(Expiry::read(&Value::from(text)), expected, "{text}");
        }
    }
}
