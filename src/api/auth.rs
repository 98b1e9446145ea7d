//! Who may do what: API keys with scopes.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::HeaderName;
use http::header::AUTHORIZATION;
use ipnet::IpNet;
use jiff::Timestamp;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::problem::{Problem, ProblemType};
use super::request_headers::RequestHeaders;
use crate::mt5::wildcard;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a client is told whose key is not configured.
const UNKNOWN: &str = "the key is unknown";

/// What a client is told whose key is no longer valid.
pub const EXPIRED: &str = "the key has expired";

/// What a client is told whose key was removed or changed while it was in use, or that had none on a
/// gateway that needs one now.
pub const REVOKED: &str = "the key is not valid any more";

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Cancelled when the key is removed or changed.
    revoked: CancellationToken,
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

    /// Cancelled when it is removed or changed, and with it whatever it has opened.
    pub fn revoked(&self) -> &CancellationToken {
        &self.revoked
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
            (key.sha256, Arc::new(ApiKey { key, revoked: CancellationToken::new(), limiter }))
        };
        Keys(keys.into_iter().map(in_use).collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names in the settings, in order.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.values().map(|key| key.name().to_owned()).collect();
        names.sort_unstable();
        names
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

/// The keys in force, which change while the gateway runs.
#[derive(Debug, Default)]
pub struct LiveKeys {
    keys: ArcSwap<Keys>,
    /// Cancelled, and replaced, when the first keys come.
    anonymity: Mutex<CancellationToken>,
}

impl LiveKeys {
    /// These keys.
    pub fn new(keys: Keys) -> LiveKeys {
        LiveKeys { keys: ArcSwap::from_pointee(keys), anonymity: Mutex::default() }
    }

    /// The keys in force.
    pub fn load(&self) -> Guard<Arc<Keys>> {
        self.keys.load()
    }

    /// Puts these keys into force. Keys that stay keep their rate limits and streams.
    pub fn replace(&self, mut keys: Keys) {
        let before = self.keys.load_full();
        for (digest, present) in &before.0 {
            if let Some(same) = keys.0.get_mut(digest).filter(|new| new.key == present.key) {
                *same = present.clone();
            }
        }
        let keys = Arc::new(keys);
        self.keys.store(keys.clone());
        for (digest, present) in &before.0 {
            if keys.0.get(digest).is_none_or(|new| !Arc::ptr_eq(new, present)) {
                present.revoked.cancel();
            }
        }
        if before.is_empty() && !keys.is_empty() {
            std::mem::take(&mut *self.anonymity.lock()).cancel();
        }
    }

    /// Returns when a key is needed.
    pub async fn anonymity_ended(&self) {
        // Taken first: keys that come after the look cancel it.
        let anonymity = self.anonymity.lock().clone();
        if self.keys.load().is_empty() {
            anonymity.cancelled().await;
        }
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
    fn keys_that_stay_keep_their_rates_and_streams_and_the_others_are_revoked() {
        let one = std::num::NonZeroU32::MIN;
        let limited = |key: &mut Key| {
            key.rate_limit = Some(Quota::per_second(one).allow_burst(one));
        };
        let live = LiveKeys::new(key(limited));
        let used = identify(&live.load());
        assert!(used.count_request().is_ok());
        live.replace(key(limited));
        assert!(identify(&live.load()).count_request().is_err(), "the rate goes on");
        assert!(!used.revoked().is_cancelled());
        live.replace(key(|key| key.scopes = BTreeSet::from([Scope::Admin])));
        assert!(used.revoked().is_cancelled());
        assert!(identify(&live.load()).authorize(Scope::Admin).is_ok());
        let used = identify(&live.load());
        live.replace(Keys::default());
        assert!(used.revoked().is_cancelled() && live.load().is_empty());
    }

    #[tokio::test]
    async fn anonymity_ends_with_the_first_key() {
        let live = LiveKeys::default();
        let mut ended = std::pin::pin!(live.anonymity_ended());
        assert!(futures_util::poll!(&mut ended).is_pending());
        live.replace(key(|_| {}));
        ended.await;
        live.anonymity_ended().await;
        live.replace(Keys::default());
        assert!(futures_util::poll!(std::pin::pin!(live.anonymity_ended())).is_pending());
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
