//! Who may do what: API keys with scopes.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::HeaderName;
use http::header::AUTHORIZATION;
use ipnet::IpNet;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tracing::warn;

use super::problem::{Problem, ProblemType};
use super::request_headers::RequestHeaders;
use crate::mt5::wildcard;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a client is told whose key is not configured.
const UNKNOWN: &str = "the key is unknown";

/// What a client is told whose key is no longer valid.
pub const EXPIRED: &str = "the key has expired";

/// What a key may be used for. Each scope includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Reads everything of its accounts.
    Read,
    /// Trades, checks orders, and chooses what Market Watch shows.
    Trade,
    /// Restarts terminals and settles trades.
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

/// A configured key in use.
#[derive(Debug)]
pub struct ApiKey {
    key: Key,
    limiter: Option<DefaultDirectRateLimiter>,
}

impl ApiKey {
    /// Its name in the settings.
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// Whether it may see an account.
    pub fn covers(&self, account: &str) -> bool {
        self.key.covers(account)
    }

    /// Whether it may see every account.
    pub fn covers_all(&self) -> bool {
        self.key.accounts.iter().any(|pattern| pattern == "*")
    }

    /// How long it is still valid; `None`: without an end.
    pub fn valid_for(&self, now: Timestamp) -> Option<Duration> {
        let left = self.key.expires?.duration_since(now);
        Some(Duration::try_from(left).unwrap_or_default())
    }

    /// Counts a request.
    ///
    /// # Errors
    /// 429 if its rate limit allows no further one now.
    pub fn count_request(&self) -> Result<(), Problem> {
        let Some(Err(until)) = self.limiter.as_ref().map(|limiter| limiter.check()) else {
            return Ok(());
        };
        let delay = until.wait_time_from(DefaultClock::default().now());
        let detail = format!(
            "the key {} makes more requests than `rate_limit_per_second` allows",
            self.key.name
        );
        Err(Problem::new(ProblemType::TooManyRequests, detail).retry_after(delay))
    }

    /// Whether it may be used now, and from a client's address.
    ///
    /// # Errors
    /// 401 if it has expired, or the address is in none of its networks.
    pub fn check(&self, client: IpAddr, now: Timestamp) -> Result<(), Problem> {
        let networks = &self.key.cidr;
        if !networks.is_empty() && !networks.iter().any(|network| network.contains(&client)) {
            warn!(api_key = self.name(), %client, "key used from outside its cidr");
            // The same as for an unknown key, so that the answer does not confirm a stolen one.
            return Err(Problem::unauthorized(UNKNOWN));
        }
        if self.valid_for(now).is_some_and(|left| left.is_zero()) {
            return Err(Problem::unauthorized(EXPIRED));
        }
        Ok(())
    }

    /// Whether it may be used for what needs a scope. A scope includes those before it.
    ///
    /// # Errors
    /// 403 if not.
    pub fn authorize(&self, needed: Scope) -> Result<(), Problem> {
        if self.key.scopes.last().is_some_and(|scope| *scope >= needed) {
            return Ok(());
        }
        let detail = format!("the key lacks the scope `{}`", needed.name());
        Err(Problem::new(ProblemType::Forbidden, detail))
    }
}

/// The configured keys. None: everybody may do everything.
#[derive(Debug, Clone, Default)]
pub struct Keys(HashMap<[u8; 32], Arc<ApiKey>>);

impl Keys {
    /// These keys.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Keys {
        let in_use = |key: Key| {
            let limiter = key.rate_limit.map(RateLimiter::direct);
            (key.sha256, Arc::new(ApiKey { key, limiter }))
        };
        Keys(keys.into_iter().map(in_use).collect())
    }

    /// Finds the key that a client presents; `None` where no keys are configured.
    ///
    /// # Errors
    /// 401 without a key that is known.
    pub fn identify(&self, headers: &RequestHeaders) -> Result<Option<Arc<ApiKey>>, Problem> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let presented = presented(headers).ok_or_else(|| {
            Problem::unauthorized("send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        })?;
        // The digest is looked up, not the key, so the time that takes tells nothing.
        let digest: [u8; 32] = Sha256::digest(presented).into();
        self.0.get(&digest).cloned().map(Some).ok_or_else(|| Problem::unauthorized(UNKNOWN))
    }
}

fn presented(headers: &RequestHeaders) -> Option<&[u8]> {
    let bearer = headers.get(&AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    let presented = bearer.or_else(|| headers.get(&API_KEY).map(http::HeaderValue::as_bytes));
    presented.filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn key(change: impl FnOnce(&mut Key)) -> Keys {
        let mut key = Key {
            name: "robot".to_owned(),
            sha256: Sha256::digest("secret").into(),
            scopes: BTreeSet::from([Scope::Read]),
            accounts: vec!["*".to_owned()],
            expires: None,
            rate_limit: None,
            cidr: vec![],
        };
        change(&mut key);
        Keys::new([key])
    }

    fn identify(keys: &Keys) -> Arc<ApiKey> {
        let headers =
            HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer secret"))]);
        keys.identify(&RequestHeaders::new(headers)).unwrap().unwrap()
    }

    #[test]
    fn a_scope_includes_those_before_it() {
        use Scope::{Admin, Read, Trade};
        for (given, needed, allowed) in [
            (Read, Read, true),
            (Read, Trade, false),
            (Read, Admin, false),
            (Trade, Read, true),
            (Trade, Trade, true),
            (Trade, Admin, false),
            (Admin, Read, true),
            (Admin, Trade, true),
            (Admin, Admin, true),
        ] {
            let keys = key(|key| key.scopes = BTreeSet::from([given]));
            let key = identify(&keys);
            assert_eq!(key.authorize(needed).is_ok(), allowed, "{given:?} for {needed:?}");
        }
        let none = key(|key| key.scopes.clear());
        let key = identify(&none);
        assert!(key.authorize(Read).is_err());
    }

    #[test]
    fn a_key_is_valid_until_it_expires_and_only_from_its_networks() {
        let keys = key(|key| {
            key.expires = Some("2027-02-01T00:00:00Z".parse().unwrap());
            key.cidr = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        });
        for (client, now, valid) in [
            ("10.1.2.3", "2027-01-31T23:59:59Z", true),
            ("2001:db8::1", "2027-01-31T23:59:59Z", true),
            ("10.1.2.3", "2027-02-01T00:00:00Z", false),
            ("11.1.2.3", "2027-01-31T23:59:59Z", false),
            ("127.0.0.1", "2027-01-31T23:59:59Z", false),
        ] {
            let checked = identify(&keys).check(client.parse().unwrap(), now.parse().unwrap());
            assert_eq!(checked.is_ok(), valid, "{client} {now}");
        }
    }

    #[test]
    fn a_key_has_its_own_rate() {
        let one = std::num::NonZeroU32::MIN;
        let keys = key(|key| key.rate_limit = Some(Quota::per_second(one).allow_burst(one)));
        let key = identify(&keys);
        assert!(key.count_request().is_ok());
        let refused = key.count_request().unwrap_err().into_response();
        assert_eq!(refused.status(), 429);
    }
}
