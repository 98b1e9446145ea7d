//! What README and the reference pages print works as printed: their commands are run against a
//! gateway, and what they print is compared with the output that the page shows below them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::Gateway;
use crate::common::pages::{self, Block, Page};

/// Runs a program with a script, where `mt5-gateway` and the tests' Python and promtool are found first.
fn run(program: &str, script: &str, directory: &Path) -> String {
    let gateway = Path::new(env!("CARGO_BIN_EXE_mt5-gateway")).parent().unwrap().to_owned();
    let python = crate::tools::python().parent().unwrap().to_owned();
    let promtool =
        crate::tools::program("prometheus/usr/bin/promtool").parent().unwrap().to_owned();
    let inherited = std::env::var_os("PATH").unwrap();
    let folders = [gateway, python, promtool].into_iter().chain(std::env::split_paths(&inherited));
    let mut command = Command::new(program);
    if program == "bash" {
        command.args(["-euo", "pipefail"]);
    }
    let output = command
        .args(["-c", script])
        .current_dir(directory)
        .env("PATH", std::env::join_paths(folders).unwrap())
        .output()
        .unwrap();
    let fault = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {fault}");
    // The lines of a head that `curl -i` prints end in CRLF.
    String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n")
}

/// A page's code for this gateway's address.
fn addressed(text: &str, gateway: &Gateway) -> String {
    text.replace("localhost:8080", &gateway.address.to_string())
}

/// Whether a text is what a page shows, where `…` stands for any text.
fn is_shown(shown: &str, text: &str) -> bool {
    let (mut pieces, mut rest) = (shown.trim_end().split('…'), text.trim_end());
    let Some(tail) = pieces.next().and_then(|first| rest.strip_prefix(first)) else {
        return false;
    };
    rest = tail;
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else {
        return rest.is_empty();
    };
    for piece in middle {
        let Some((_, behind)) = rest.split_once(piece) else {
            return false;
        };
        rest = behind;
    }
    rest.ends_with(last)
}

/// Runs the code of blocks in their order, and compares the output of each with the text below it.
/// Gives the outputs.
fn follow(gateway: &Gateway, blocks: &[Block]) -> Vec<String> {
    let mut outputs = Vec::new();
    for block in blocks {
        match block.language.as_str() {
            "text" => {
                let output: &String = outputs.last().expect("output stands below commands");
                assert!(is_shown(&block.text, output), "{}\n!=\n{output}", block.text);
            }
            language => {
                let program = if language == "sh" { "bash" } else { language };
                let script = addressed(&block.text, gateway);
                outputs.push(run(program, &script, gateway.directory.path()));
            }
        }
    }
    outputs
}

#[test]
fn output_is_compared_with_what_is_shown() {
    for (shown, text, expected) in [
        ("a\n", "a", true),
        ("a", "ab", false),
        ("a…", "ab", true),
        ("a…c", "abc", true),
        ("a…c", "abd", false),
        ("…b…d", "abcd", true),
        ("a…b…c", "acb", false),
    ] {
        assert_eq!(is_shown(shown, text), expected, "{shown} {text}");
    }
}

#[test]
fn the_readmes_first_commands_print_what_is_shown() {
    let (readme, gateway) = (Page::read("README.md"), Gateway::ready(""));
    follow(&gateway, &readme.section("Read"));
    follow(&gateway, &readme.section("Trade"));
    assert_eq!(gateway.get("/api/v1/accounts/demo/positions/total").json(), 0);
    // Again: a reader may have done so before.
    follow(&gateway, &readme.section("Trade"));
}

#[test]
fn the_readmes_fault_demonstration_works_as_printed() {
    let blocks = Page::read("README.md").section("Watch it recover");
    let (start, rest) = blocks.split_first().unwrap();
    let (settings, command) =
        start.text.split_once("<<'EOF'\n").unwrap().1.split_once("EOF\n").unwrap();
    assert_eq!(command.trim(), "mt5-gateway --config faults.toml");
    follow(&Gateway::ready(settings), rest);
}

#[test]
fn the_settings_of_a_real_terminal_are_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let blocks = Page::read("README.md").section("A real terminal");
    let settings = blocks.iter().find(|block| block.language == "toml").unwrap();
    std::fs::write(directory.path().join("main.toml"), &settings.text).unwrap();
    std::fs::write(directory.path().join("main.password"), "S3cret\n").unwrap();
    let commands = blocks.iter().find(|block| block.text.contains("check-config")).unwrap();
    let printed = run("bash", commands.text.lines().next().unwrap(), directory.path());
    assert!(printed.contains("terminal64.exe") && !printed.contains("S3cret"), "{printed}");
}

/// README's loop, as printed.
fn the_loop() -> Vec<Block> {
    let mut blocks = Page::read("README.md").section("Trading");
    blocks.retain(|block| block.language == "python" || block.language == "text");
    blocks
}

/// Calls the function of README's loop for an order.
fn place(gateway: &Gateway, account: &str, key: &str, more: &str) -> String {
    let blocks = the_loop();
    let (definitions, _) = blocks[0].text.split_once("if __name__").unwrap();
    let url = gateway.url(&format!("/api/v1/accounts/{account}"));
    let order = json!({"symbol": "EURUSD", "type": "BUY", "volume": 0.1});
    let script = format!("{definitions}\nprint(place('{url}', {order}, '{key}'{more})[0])");
    run("python", &script, gateway.directory.path()).trim().to_owned()
}

#[test]
fn the_readmes_order_loop_runs_as_printed() {
    let gateway = Gateway::ready("");
    follow(&gateway, &the_loop());
    assert_eq!(gateway.get("/api/v1/accounts/demo/positions/total").json(), 1);
}

#[test]
fn the_readmes_order_loop_returns_the_outcome_of_every_order() {
    let settings = |order_send: &str, more: &str| {
        format!(
            "[server]\ntrade_timeout = '300ms'\n[restart]\nbackoff = '10ms'\n\
             [trading]\nnot_found_after = '400ms'\nsend_within = '700ms'\n\
             [accounts.demo]\nlogin = 1\nserver = 'S'\n[accounts.demo.terminal]\n\
             kind = 'simulator'\n{more}\nfaults = {{ order_send = {order_send} }}\n"
        )
    };
    for (order_send, more, expected) in [
        ("{ kind = 'retcode', code = 10019 }", "", "trade-refused"),
        ("{ kind = 'hang', when = 'after' }", "", "executed"),
        ("{ kind = 'exit', when = 'before' }", "", "not-found"),
        ("{ kind = 'hang' }", "latency = '300ms'", "trade-not-sent"),
    ] {
        let gateway = Gateway::ready(&settings(order_send, more));
        assert_eq!(place(&gateway, "demo", "k", ""), expected, "{order_send}");
        let positions = gateway.eventually("positions are read", || {
            let reply = gateway.get("/api/v1/accounts/demo/positions/total");
            (reply.status == 200).then(|| reply.json())
        });
        assert_eq!(positions, u64::from(expected == "executed"), "{order_send}");
    }
    let gateway = Gateway::ready("");
    assert_eq!(place(&gateway, "demo", "k", ""), "executed");
    assert_eq!(place(&gateway, "demo", "k", ""), "executed", "the same order");
    assert_eq!(gateway.get("/api/v1/accounts/demo/positions/total").json(), 1);
}

#[test]
fn a_key_is_created_and_used_as_documented() {
    let page = Page::read("docs/keys.md");
    let blocks = page.section("Create a key");
    let gateway = Gateway::ready("");
    let printed = follow(&gateway, &blocks[..2]).remove(0);
    let value = |name: &str| {
        let line = printed.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    let (key, digest) = (value("key:"), value("sha256:"));
    let gateway = Gateway::start(&format!("[auth.keys.robot]\nsha256 = '{digest}'\n"));
    assert_eq!(gateway.get("/api/v1/accounts").status, 401);
    for (name, value) in [("x-api-key", key.clone()), ("authorization", format!("Bearer {key}"))] {
        assert_eq!(gateway.get_with("/api/v1/accounts", &[(name, &value)]).status, 200, "{name}");
    }
}

#[test]
fn the_bulk_formats_are_read_as_documented() {
    let blocks = Page::read("docs/bulk-data.md").section("Bulk data");
    let [install, script, output] = blocks.as_slice() else { panic!("{blocks:?}") };
    // What the page installs is what the script imports, and what it needs beside that.
    let packages: Vec<&str> = install.text.trim().split(' ').skip(2).collect();
    assert_eq!(packages, ["pandas", "polars", "duckdb", "pyarrow"]);
    follow(&Gateway::ready(""), &[script.clone(), output.clone()]);
}

#[test]
fn a_stream_is_read_as_documented() {
    let blocks = Page::read("docs/streams.md").section("Streams");
    let [command, shown] = blocks.as_slice() else { panic!("{blocks:?}") };
    let gateway = Gateway::ready("");
    let lines = shown.text.lines().count();
    // The stream has no end of its own; curl notices that nobody reads with the next event.
    let script =
        format!("set +o pipefail; {} | head -n {lines}", addressed(command.text.trim(), &gateway));
    let printed = run("bash", &script, gateway.directory.path());
    assert!(is_shown(&shown.text, &printed), "{printed}");
}

#[test]
fn an_operator_checks_by_hand() {
    let blocks = Page::read("docs/operations/monitoring.md").section("Checking by hand");
    let [states, output, .., scrapes] = blocks.as_slice() else { panic!("{blocks:?}") };
    // A loop of `curl` on a loaded machine is slower than the default limit.
    let gateway = Gateway::ready("metrics.rate_limit_per_second = 1");
    follow(&gateway, &[states.clone(), output.clone()]);
    let counts = follow(&gateway, std::slice::from_ref(scrapes)).remove(0);
    assert!(counts.contains(" 200") && counts.contains(" 429"), "{counts}");
}

#[test]
fn every_command_is_valid_shell() {
    let directory = tempfile::tempdir().unwrap();
    for page in pages::all() {
        for block in page.blocks().iter().filter(|block| block.language == "sh") {
            std::fs::write(directory.path().join("block"), &block.text).unwrap();
            run("bash", "bash -n block", directory.path());
        }
    }
}

#[test]
fn the_pages_show_answers_that_are_json() {
    let page = Page::read("docs/errors.md");
    let block = page.blocks().into_iter().find(|block| block.language == "json").unwrap();
    let shown: Value = serde_json::from_str(&block.text).unwrap();
    let reply = Gateway::ready("").get("/api/v1/accounts/demo/symbols/NOPE/tick").json();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&shown), names(&reply));
    for name in names(&shown).iter().filter(|name| *name != "request_id") {
        assert_eq!(shown[name], reply[name], "{name}");
    }
}
