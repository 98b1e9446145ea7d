//! The red button: nothing is opened any more, closing goes on, and nobody forgets.

use serde_json::{Value, json};

use super::{ACCOUNT, buy, simulated};
use crate::common::{Gateway, Reply, command};

impl Gateway {
    fn halt(&self, path: &str) -> Value {
        let reply = self.send("PUT", path, None);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    fn lift(&self, path: &str) -> Value {
        let reply = self.send("DELETE", path, None);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply.json()
    }

    fn bought(&self, volume: f64) -> Value {
        self.eventually("the account trades", || {
            let reply = self.trade("POST", "/orders", buy(volume));
            (reply.status == 201).then(|| reply.json())
        })
    }

    fn is_open(&self, action: &str) -> bool {
        let series = format!("mt5_account_trade_allowed{{account=\"demo\",action=\"{action}\"}}");
        self.metric(&series) == 1.0
    }
}

fn is_halted(reply: &Reply) -> bool {
    let refused = (403, "trading-not-allowed".to_owned());
    reply.problem() == refused && reply.json()["reasons"] == json!(["halted"])
}

const HALT: &str = "/api/v1/accounts/demo/halt";

#[test]
fn a_halted_account_opens_nothing_and_closes_everything() {
    let gateway = Gateway::ready("");
    let position = gateway.bought(0.3)["position"].clone();
    let limit =
        json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.9, "sl": 0.8});
    let order = gateway.trade("POST", "/orders", limit.clone()).json()["order"].clone();
    let stops = json!({"sl": 0.9, "tp": 1.9});
    assert_eq!(gateway.trade("PUT", &format!("/positions/{position}"), stops).status, 200);
    let second = gateway.trade("POST", "/orders", limit.clone()).json()["order"].clone();

    assert_eq!(gateway.get(HALT).json()["halted"], false);
    let halted = gateway.halt(HALT);
    assert_eq!(
        (&halted["halted"], &halted["halt_of_all"], &halted["sent"]),
        (&json!(true), &Value::Null, &json!([]))
    );
    let tickets: Vec<&Value> =
        halted["orders"].as_array().unwrap().iter().map(|order| &order["ticket"]).collect();
    assert_eq!(tickets, [&order, &second]);
    // A second time it is the same halt.
    assert_eq!(gateway.halt(HALT)["halt"], halted["halt"]);
    assert_eq!(gateway.get(HALT).json()["halt"], halted["halt"]);

    let permission = &gateway.get(ACCOUNT).json()["trading"];
    assert_eq!(permission["open"], json!({"allowed": false, "reasons": ["halted"]}));
    assert_eq!(permission["close"], json!({"allowed": true, "reasons": []}));
    assert!(!gateway.is_open("open") && gateway.is_open("close"));
    gateway.logs("opening is halted");

    let change = |path: &str, what: Value| gateway.trade("PUT", path, what);
    let (position, order) = (format!("/positions/{position}"), format!("/orders/{order}"));
    for (what, refused) in [
        ("an order", gateway.trade("POST", "/orders", buy(0.1))),
        ("a resting order", gateway.trade("POST", "/orders", limit)),
        ("a moved order", change(&order, json!({"price": 0.91}))),
        ("a removed stop", change(&position, json!({"sl": 0}))),
        ("a wider stop", change(&position, json!({"sl": 0.85}))),
        ("a farther profit", change(&position, json!({"tp": 2.0}))),
        ("a removed stop of an order", change(&order, json!({"sl": 0}))),
    ] {
        assert!(is_halted(&refused), "{what}: {}", refused.text());
    }
    for (what, done) in [
        ("a tighter stop", change(&position, json!({"sl": 0.95, "tp": 1.8}))),
        ("a tighter stop of an order", change(&order, json!({"sl": 0.85}))),
        ("a part", gateway.trade("POST", &format!("{position}/close"), json!({"volume": 0.1}))),
        ("a cancellation", gateway.trade("DELETE", &order, Value::Null)),
        ("the rest", gateway.trade("DELETE", &position, Value::Null)),
    ] {
        assert_eq!(done.status, 200, "{what}: {}", done.text());
    }

    let halted = gateway.halt(&format!("{HALT}?cancel_orders=true"));
    let cancelled = &halted["cancelled"][0];
    assert_eq!((&cancelled["ticket"], &cancelled["cancelled"]), (&second, &json!(true)));
    assert_eq!(gateway.read("/orders"), json!([]));

    assert_eq!(gateway.lift(HALT)["halted"], false);
    assert_eq!(gateway.lift(HALT)["halted"], false);
    assert_eq!(gateway.trade("POST", "/orders", buy(0.1)).status, 201);
    assert!(gateway.is_open("open"));
}

#[test]
fn on_a_netting_account_an_order_against_the_position_closes() {
    let gateway = Gateway::ready(&simulated("", "margin_mode = 'netting'"));
    gateway.bought(0.3);
    gateway.halt(HALT);
    let sell = |volume: f64| {
        let order = json!({"symbol": "EURUSD", "type": "SELL", "volume": volume});
        gateway.trade("POST", "/orders", order)
    };
    assert!(is_halted(&sell(0.4)));
    assert!(is_halted(&gateway.trade("POST", "/orders", buy(0.1))));
    assert_eq!(sell(0.2).status, 201);
    assert!(is_halted(&sell(0.2)), "more than is left");
    assert_eq!(sell(0.1).status, 201);
    assert_eq!(gateway.read("/positions"), json!([]));
    assert!(is_halted(&sell(0.1)), "nothing is left");
}

#[test]
fn a_halt_outlives_the_gateway_and_follows_the_login() {
    let settings = |name: &str| {
        format!("[accounts.{name}]\nlogin = 7\nserver = 'Demo-Server'\nterminal.kind = 'simulator'")
    };
    let mut gateway = Gateway::ready(&settings("demo"));
    gateway.bought(0.1);
    let halt = gateway.halt(HALT)["halt"].clone();
    gateway.kill_and_start(&[]);
    gateway.wait_ready();
    gateway.eventually("it is known to be halted", || {
        is_halted(&gateway.trade("POST", "/orders", buy(0.1))).then_some(())
    });
    assert_eq!(gateway.get(HALT).json()["halt"], halt);

    let file = gateway.directory.path().join("gateway.toml");
    std::fs::write(file, settings("renamed").replace("Demo", "DEMO")).unwrap();
    gateway.kill_and_start(&[]);
    gateway.wait_ready();
    assert_eq!(gateway.get("/api/v1/accounts/renamed/halt").json()["halt"], halt);
    assert_eq!(gateway.lift("/api/v1/accounts/renamed/halt")["halted"], false);
    gateway.kill_and_start(&[]);
    assert_eq!(gateway.get("/api/v1/accounts/renamed/halt").json()["halted"], false);
}

#[test]
fn all_accounts_are_halted_with_those_that_come_later() {
    let account = |name: &str, login: u32| {
        format!("[accounts.{name}]\nlogin = {login}\nserver = 'S'\nterminal.kind = 'simulator'\n")
    };
    let open = "[accounts_store]\nanonymous = true\n";
    let gateway = Gateway::ready(&format!("{open}{}", account("demo", 1)));
    gateway.bought(0.1);
    let halted = gateway.halt("/api/v1/halt");
    assert_eq!(halted["accounts"].as_array().unwrap().len(), 1);
    assert!(is_halted(&gateway.trade("POST", "/orders", buy(0.1))));
    // The halt of one account is another one.
    assert!(gateway.lift(HALT)["halt_of_all"].is_object());

    let later =
        json!({"login": 2, "server": "S", "trade": true, "terminal": {"kind": "simulator"}});
    assert_eq!(gateway.send("PUT", "/api/v1/accounts/later", Some(&later)).status, 201);
    gateway.eventually("it is known to be halted", || {
        is_halted(&gateway.send("POST", "/api/v1/accounts/later/orders", Some(&buy(0.1))))
            .then_some(())
    });
    assert_eq!(gateway.halt("/api/v1/accounts/later/halt")["halted"], true);

    let statuses = gateway.lift("/api/v1/halt");
    assert_eq!(statuses["halt_of_all"], Value::Null);
    let halted: Vec<bool> =
        statuses["accounts"].as_array().unwrap().iter().map(|of| of["halted"] == true).collect();
    assert_eq!(halted, [false, true]);
    assert_eq!(gateway.trade("POST", "/orders", buy(0.1)).status, 201);
}

#[test]
fn a_terminal_that_hangs_holds_no_halt_up() {
    let head = "[server]\ntrade_timeout = '30s'\ncall_timeout = '30s'";
    let gateway = Gateway::ready(&simulated(head, "faults.orders_get = { kind = 'hang' }"));
    let halted = gateway.halt("/api/v1/halt");
    let account = &halted["accounts"][0];
    assert_eq!((&account["halted"], &account["orders"]), (&json!(true), &Value::Null));
    assert!(account["problem"].as_str().unwrap().contains("resting orders"), "{account}");
}

#[test]
fn halting_needs_the_right_key() {
    let sha = |key: &str| {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(key);
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let key =
        |name: &str, more: &str| format!("[auth.keys.{name}]\nsha256 = '{}'\n{more}\n", sha(name));
    let settings = [
        key("reader", "scopes = ['read']"),
        key("trader", "scopes = ['trade']"),
        key("boss", "scopes = ['admin']"),
        key("other", "scopes = ['admin']\naccounts = ['demo']"),
        simulated("", ""),
    ];
    let gateway = Gateway::start(&settings.concat());
    let ask = |method: &str, path: &str, key: &str| {
        gateway.send_with(method, path, None, &[("x-api-key", key)])
    };
    for method in ["PUT", "DELETE"] {
        for (key, one, all) in
            [("reader", 403, 403), ("trader", 200, 403), ("boss", 200, 200), ("other", 200, 403)]
        {
            assert_eq!(ask(method, HALT, key).status, one, "{method} {key}");
            assert_eq!(ask(method, "/api/v1/halt", key).status, all, "{method} {key}");
        }
    }
    ask("PUT", "/api/v1/halt", "boss");
    let of_all = |key: &str| ask("GET", "/api/v1/halt", key).json()["halt_of_all"].clone();
    assert_eq!(of_all("reader")["api_key"], "boss");
    // Another account's key learns that it is halted, and not by whom.
    assert_eq!(
        (&of_all("other")["api_key"], of_all("other")["since"].is_string()),
        (&Value::Null, true)
    );
}

#[test]
fn the_command_halts_and_lifts() {
    let gateway = Gateway::ready("");
    let limit = json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.9});
    let order = gateway.eventually("the account trades", || {
        let reply = gateway.trade("POST", "/orders", limit.clone());
        (reply.status == 201).then(|| reply.json()["order"].clone())
    });
    let run = |arguments: &[&str]| {
        let mut command = command(gateway.directory.path());
        let output = command.arg("halt").args(arguments).args(["--url", &gateway.url("")]).output();
        let output = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, told, _) = run(&["--account", "demo"]);
    assert_eq!(code, Some(0));
    assert!(told.starts_with("demo is halted since "), "{told}");
    assert!(
        told.contains(&format!("order {order}, 0.1 EURUSD, rests and may be filled")),
        "{told}"
    );
    let (code, told, _) = run(&["--account", "demo", "--lift"]);
    assert_eq!((code, told.as_str()), (Some(0), "demo is not halted\n"));
    let (code, told, _) = run(&["--cancel-orders"]);
    assert_eq!(code, Some(0));
    assert!(told.starts_with("all accounts are halted since "), "{told}");
    assert!(told.contains("is cancelled"), "{told}");
    assert_eq!(run(&["--lift"]).1, "demo is not halted\n");
    // A fault of the settings does not keep anybody from the button.
    std::fs::create_dir_all(gateway.directory.path().join("data/accounts")).unwrap();
    std::fs::write(gateway.directory.path().join("data/accounts/main.toml"), "nonsense ===")
        .unwrap();
    assert_eq!(run(&["--account", "demo"]).0, Some(0));
    let (code, _, fault) = run(&["--account", "none"]);
    assert_eq!(code, Some(1));
    assert!(fault.contains("404"), "{fault}");
}

#[test]
fn a_halt_that_cannot_be_written_is_in_force_and_says_so() {
    let gateway = Gateway::ready("[trading]\njournal = '/proc/journal.sqlite'");
    let halted = gateway.halt(HALT);
    assert_eq!((&halted["halted"], &halted["kept"]), (&json!(true), &json!(false)));
    let problem = halted["problem"].as_str().unwrap();
    assert!(problem.contains("would end with the gateway"), "{problem}");
    assert_eq!(gateway.get(HALT).json()["halted"], true);
    let reasons = &gateway.get(ACCOUNT).json()["trading"]["open"]["reasons"];
    assert_eq!(*reasons, json!(["journal", "halted"]));
    let mut command = command(gateway.directory.path());
    let output = command.args(["halt", "--url", &gateway.url("")]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("the halt is not on disk"), "{told}");
}
