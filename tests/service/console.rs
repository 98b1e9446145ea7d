//! The console's data: `/api/v1/console`.

use serde_json::Value;

use crate::common::Gateway;

#[test]
fn a_session_that_keeps_failing_pushes_no_other_event_out_of_the_list() {
    let gateway = Gateway::start(
        "[restart]\nbackoff = '1ms'\nbackoff_max = '1ms'\nbudget = 1000000\n\
         [accounts.calm]\nlogin = 1\nserver = 'S'\n[accounts.calm.terminal]\nkind = 'simulator'\n\
         [accounts.wild]\nlogin = 2\nserver = 'S'\n[accounts.wild.terminal]\nkind = 'simulator'\n\
         faults.initialize = { kind = 'exit' }",
    );
    let restarts = "mt5_session_restarts_total{account=\"wild\",reason=\"exit\"}";
    gateway.eventually("it has failed often", || (gateway.metric(restarts) > 500.0).then_some(()));
    let console = gateway.get("/api/v1/console").json();
    let events = console["events"].as_array().unwrap();
    let of = |account: Value, text: &str| {
        let of = |event: &&Value| {
            event["account"] == account && event["text"].as_str().unwrap().starts_with(text)
        };
        events.iter().filter(of).count()
    };
    let warnings = |event: &&Value| event["account"] == "wild" && event["level"] == "WARN";
    assert_eq!(events.iter().filter(warnings).count(), 200);
    assert_eq!(of("calm".into(), "session ready"), 1);
    assert!(of(Value::Null, "actor started") > 0);
    let ids: Vec<u64> = events.iter().map(|event| event["id"].as_u64().unwrap()).collect();
    assert!(ids.is_sorted_by(|later, earlier| later > earlier), "newest first, each once");
    let states: Vec<&Value> = console["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|account| &account["health"]["state"])
        .collect();
    assert_eq!(states, ["up", "down"]);
    // Since the account is down, not since its session does what it does just now.
    let (health, session) =
        (&console["accounts"][1]["health"], &console["accounts"][1]["sessions"][0]);
    assert!(health["since"].as_str() < session["since"].as_str(), "{health} {session}");
}
