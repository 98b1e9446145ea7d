//! Who may do what: API keys with scopes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use governor::Quota;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use ipnet::IpNet;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::problem::{Kind, Problem};
use crate::mt5::wildcard;

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Reading, and choosing what Market Watch shows.
    Read,
    /// Trading.
    Trade,
    /// Restarting terminals.
    Admin,
}

impl Scope {
    /// The name in the settings.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Trade => "trade",
            Scope::Admin => "admin",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Scope> {
        [Scope::Read, Scope::Trade, Scope::Admin].into_iter().find(|scope| scope.name() == name)
    }
}

/// A configured key.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its name in the settings.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// What it may be used for.
    pub scopes: BTreeSet<Scope>,
    /// Patterns of account names, in which `*` stands for any number of characters. `["*"]`: all
    /// accounts.
    pub accounts: Vec<String>,
    /// The first moment at which it is no longer valid.
    pub expires: Option<Timestamp>,
    /// How many requests it may make.
    pub rate_limit: Option<Quota>,
    /// The networks that its clients must be in. Empty: any.
    pub cidr: Vec<IpNet>,
}

impl Key {
    /// Whether the key may see an account.
    pub fn covers(&self, account: &str) -> bool {
        self.accounts.iter().any(|pattern| wildcard(pattern, account))
    }
}

/// The configured keys. None: everybody may do everything.
#[derive(Debug, Clone, Default)]
pub struct Keys(HashMap<[u8; 32], Known>);

#[derive(Debug, Clone)]
struct Known {
    name: Arc<str>,
    scopes: BTreeSet<Scope>,
}

impl Keys {
    /// These keys.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Keys {
        let known = |key: Key| (key.sha256, Known { name: key.name.into(), scopes: key.scopes });
        Keys(keys.into_iter().map(known).collect())
    }

    /// Whether the credentials of a request suffice. Gives the name of the key; without keys there is
    /// none.
    ///
    /// # Errors
    /// 401 without a known key, 403 without the scope.
    pub fn check(&self, headers: &HeaderMap, scope: Scope) -> Result<Option<Arc<str>>, Problem> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let presented = presented(headers).ok_or_else(|| {
            Problem::unauthorized("send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        })?;
        // The digest is looked up, not the key, so the time that takes tells nothing.
        let digest: [u8; 32] = Sha256::digest(presented).into();
        let known =
            self.0.get(&digest).ok_or_else(|| Problem::unauthorized("the key is unknown"))?;
        if known.scopes.contains(&scope) {
            return Ok(Some(known.name.clone()));
        }
        let detail = format!("the key lacks the scope `{}`", scope.name());
        Err(Problem::new(Kind::Forbidden, detail))
    }
}

fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    bearer.or_else(|| headers.get("x-api-key").map(http::HeaderValue::as_bytes))
}
