//! Changes that wait, hang, fail half way or come while the gateway stops.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::*;

/// A gateway, and an administrator of it whose inside a test reaches.
struct Administered {
    service: Service,
    administrator: Administrator,
    stop: CancellationToken,
    directory: tempfile::TempDir,
}

const ONE: Configured = Configured { sessions: 1, paused: false };
const TWO: Configured = Configured { sessions: 2, paused: false };

impl Administered {
    async fn start(accounts: &Configuration) -> Administered {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), accounts);
        let file = directory.path().join("gateway.toml");
        let settings = Settings::load(directory.path(), Some(&file), [], &[]);
        let settings = settings.unwrap_or_else(|faults| panic!("{faults:?}"));
        let administered = settings.administered();
        let (grace, terminals) = (settings.shutdown_grace, settings.terminals.clone());
        let service = Service::start(settings, Events::default()).await.unwrap();
        let app = service.app();
        let lifecycle = Lifecycle {
            accounts: app.accounts.clone(),
            pool: app.pool.clone(),
            trading: app.trading.clone(),
            streams: app.streams.clone(),
            terminals,
            grace,
        };
        let stop = CancellationToken::new();
        let administrator =
            Administrator::new(administered, lifecycle, app.keys.clone(), stop.clone());
        Administered { service, administrator, stop, directory }
    }

    fn write(&self, accounts: &Configuration) {
        write(self.directory.path(), accounts);
    }

    /// Adds a key of this name.
    fn add_key(&self, name: &str) {
        use std::io::Write;
        let digest = Sha256::digest(name);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let file = self.directory.path().join("gateway.toml");
        let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
        writeln!(file, "[auth.keys.{name}]\nsha256 = '{digest}'").unwrap();
    }

    async fn reload(&self) -> Result<Vec<String>, Refusal> {
        let reloaded = self.administrator.reload().await?;
        Ok(reloaded.applied.iter().map(|change| format!("{change:?}")).collect())
    }

    fn account(&self, name: &str) -> Option<Arc<Account>> {
        self.service.accounts.get(name)
    }

    async fn pool_size(&self, name: &str) -> Option<String> {
        let text = self.service.app().metrics.render().await.unwrap();
        let text = String::from_utf8_lossy(&text);
        let series = format!("mt5_pool_size{{account=\"{name}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series)).map(str::to_owned)
    }
}

fn accounts(configured: &[(usize, Configured)]) -> Configuration {
    configured.iter().copied().collect()
}

#[tokio::test]
async fn a_change_that_fails_half_way_is_made_good_by_the_next() {
    let gateway = Administered::start(&accounts(&[(0, ONE), (1, ONE)])).await;
    // a is to change, b to go, c to come.
    gateway.write(&accounts(&[(0, TWO), (2, ONE)]));
    gateway.administrator.0.fails.store(true, Ordering::Relaxed);
    assert_eq!(gateway.reload().await, Err(Refusal::Failed));
    let closed = gateway.account("a").unwrap();
    assert!(closed.door.is_ending() && gateway.account("c").is_none());
    let changes = gateway.reload().await.unwrap();
    assert_eq!(changes.len(), 2, "{changes:?}");
    let opened = gateway.account("a").unwrap();
    assert_eq!((opened.status().sessions.len(), opened.door.is_open()), (2, true));
    eventually("a and c are ready", async || {
        ["a", "c"].iter().all(|name| gateway.account(name).is_some_and(|one| one.is_ready()))
    })
    .await;
    assert_eq!(gateway.pool_size("a").await.as_deref(), Some("2"));
    assert_eq!((gateway.account("b").is_none(), gateway.pool_size("b").await), (true, None));
    assert_eq!(gateway.reload().await, Ok(vec![]));
}

#[tokio::test]
async fn an_account_that_is_there_already_is_not_opened_beside_itself() {
    let gateway = Administered::start(&accounts(&[(0, ONE), (1, ONE)])).await;
    let (a, b) = (gateway.account("a").unwrap(), gateway.account("b").unwrap());
    {
        // As if a change had failed after it opened them.
        let added = |name: &str| (name.to_owned(), ChangeKind::Added);
        let added = BTreeMap::from([added("a"), added("b")]);
        let mut running = gateway.administrator.0.running.lock().await;
        settings::forget_accounts(&mut running, &added);
    }
    gateway.write(&accounts(&[(0, ONE)]));
    let changes = gateway.reload().await.unwrap();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(a.door.is_ending() && b.door.is_ending());
    assert!(gateway.account("a").unwrap().door.is_open() && gateway.account("b").is_none());
    assert_eq!(gateway.pool_size("a").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn keys_do_not_wait_for_an_earlier_change_and_reloads_that_wait_are_one() {
    let gateway = Administered::start(&Configuration::new()).await;
    let keys = gateway.service.app().keys.clone();
    let earlier = gateway.administrator.0.running.clone().lock_owned().await;
    gateway.write(&accounts(&[(0, ONE)]));
    gateway.add_key("first");
    let abandoned = gateway.administrator.reload();
    eventually("the key is in force", async || !keys.load().is_empty()).await;
    drop(abandoned);
    let waiting = [(); 3].map(|()| tokio::spawn(gateway.administrator.reload()));
    // Each of them has read the settings, and waits for the earlier change.
    let reloads = gateway.administrator.0.reloads.clone();
    eventually("they wait", async || reloads.waiting() == 1 + waiting.len()).await;
    assert!(gateway.account("a").is_none() && waiting.iter().all(|one| !one.is_finished()));
    drop(earlier);
    for reloaded in waiting {
        let reloaded = reloaded.await.unwrap().unwrap();
        // What one of several would have found, and the others not any more.
        assert_eq!(reloaded.applied.len(), 2, "{reloaded:?}");
    }
    assert_eq!(gateway.reload().await, Ok(vec![]));
}

#[tokio::test]
async fn a_gateway_that_stops_opens_no_account() {
    let gateway = Administered::start(&Configuration::new()).await;
    gateway.write(&accounts(&[(0, ONE)]));
    gateway.stop.cancel();
    assert_eq!(gateway.reload().await, Err(Refusal::Stopping));
    let settings = serde_json::json!({
        "login": 1, "server": "S", "terminal": { "kind": "simulator" },
    });
    let settings = settings.as_object().unwrap().clone();
    let account = AccountName::from_trusted("a");
    let set = gateway.administrator.set_account(account, settings, Box::new(|| true));
    assert_eq!(set.await, Err(Refusal::Stopping));
    assert!(gateway.account("a").is_none());
    assert!(!gateway.directory.path().join("data/accounts").exists());
}

#[tokio::test]
async fn a_reading_that_hangs_is_given_up_and_the_next_does_not_hang_beside_it() {
    let gateway = Administered::start(&Configuration::new()).await;
    let hangs = gateway.administrator.0.reading.clone().lock_owned().await;
    tokio::time::pause();
    for _ in 0..2 {
        match gateway.reload().await {
            Err(Refusal::Unavailable(reason)) => assert!(reason.contains("within 10s"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    tokio::time::resume();
    drop(hangs);
    assert_eq!(gateway.reload().await, Ok(vec![]));
}

#[tokio::test]
async fn a_change_whose_key_was_revoked_while_it_waited_is_refused() {
    let gateway = Administered::start(&accounts(&[(0, ONE)])).await;
    let account = || AccountName::from_trusted("a");
    let paused = gateway.administrator.pause_account(account(), true, Box::new(|| false));
    assert_eq!(paused.await, Err(Refusal::KeyEnded));
    let removed = gateway.administrator.remove_account(account(), true, Box::new(|| false));
    assert_eq!(removed.await, Err(Refusal::KeyEnded));
    assert!(gateway.account("a").unwrap().door.is_open());
}
