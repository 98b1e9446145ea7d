//! The nginx of `docs/operations/nginx.conf`, with the real program.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::Gateway;
use crate::tools::{Server, free_port, program, python};

/// A running nginx, and where it listens for TLS.
struct Nginx {
    _server: Server,
    directory: tempfile::TempDir,
    plain: u16,
    tls: u16,
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned() + &said
}

/// The documented configuration with this test's ports and paths.
fn configuration(directory: &Path, upstream: u16, plain: u16, tls: u16) -> String {
    let at = |name: &str| directory.join(name).display().to_string();
    let mut text = include_str!("../../docs/operations/nginx.conf").to_owned();
    let replacements = [
        ("server 127.0.0.1:8080;", format!("server 127.0.0.1:{upstream};")),
        ("listen 80;", format!("listen 127.0.0.1:{plain};")),
        ("listen 443 ssl http2;", format!("listen 127.0.0.1:{tls} ssl http2;")),
        ("/etc/nginx/mt5-gateway.crt", at("crt")),
        ("/etc/nginx/mt5-gateway.key", at("key")),
        ("/run/nginx.pid", at("pid")),
        ("/var/log/nginx/error.log", at("error.log")),
        ("/var/log/nginx/access.log", at("access.log")),
        (
            "server_tokens off;",
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|name| format!("{name}_temp_path {};", at(name)))
                .join(" "),
        ),
    ];
    for (documented, here) in replacements {
        assert!(text.contains(documented), "nginx.conf lacks {documented}");
        text = text.replace(documented, &here);
    }
    text
}

impl Nginx {
    fn start(upstream: u16) -> Nginx {
        let directory = tempfile::tempdir().unwrap();
        let (plain, tls) = (free_port(), free_port());
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, configuration(directory.path(), upstream, plain, tls)).unwrap();
        run(Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout"])
            .arg(directory.path().join("key"))
            .arg("-out")
            .arg(directory.path().join("crt")));
        let nginx = program("nginx/usr/sbin/nginx");
        let checked = run(Command::new(&nginx).args(["-t", "-c"]).arg(&file));
        assert!(checked.contains("test is successful") && !checked.contains("[warn]"), "{checked}");
        let mut command = Command::new(&nginx);
        command.arg("-c").arg(&file).args(["-g", "daemon off; master_process off;"]);
        let server = Server::start(&mut command, tls);
        Nginx { _server: server, directory, plain, tls }
    }

    /// The answer's status and body, asked from an address of this machine.
    fn get(&self, from: &str, path: &str, arguments: &[&str]) -> (String, String) {
        let url = format!("https://127.0.0.1:{}{path}", self.tls);
        let output = Command::new("curl")
            .args(["-sk", "--interface", from, "-w", "\n%{http_code}"])
            .args(arguments)
            .arg(url)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.to_owned(), body.to_owned())
    }
}

#[test]
fn nginx_ends_tls_applies_the_allow_list_and_passes_the_client_address() {
    let gateway = Gateway::ready("[server]\ntrusted_proxies = ['127.0.0.1']");
    let nginx = Nginx::start(gateway.address.port());
    assert_eq!(nginx.get("127.0.0.1", "/metrics", &[]).0, "200");
    assert_eq!(nginx.get("127.0.0.2", "/metrics", &[]).0, "403");
    // Another spelling of the path is no way around the list.
    for path in ["/metrics/", "//metrics", "/%6Detrics", "/metrics?x=1", "/x/../metrics"] {
        let (status, body) = nginx.get("127.0.0.2", path, &["--path-as-is"]);
        assert!(!body.contains("# HELP"), "{path}: {status} {body}");
    }
    let tick = "/api/v1/accounts/demo/symbols/EURUSD/tick";
    let forged = ["-H", "X-Forwarded-For: 203.0.113.9"];
    assert_eq!(nginx.get("127.0.0.2", tick, &forged).0, "200");
    gateway.logs("client=127.0.0.2");
    assert!(!gateway.log().contains("203.0.113.9"), "a forged address is not believed");
    let plain = format!("http://127.0.0.1:{}/livez", nginx.plain);
    let redirected =
        run(Command::new("curl").args(["-s", "-w", "%{http_code}", "-o", "/dev/null", &plain]));
    assert_eq!(redirected.trim(), "301");
    // Without the proxy nobody is believed who is not on the list.
    let direct = format!("http://{}{tick}", gateway.address);
    run(Command::new("curl").args(["-sf", "--interface", "127.0.0.3"]).args(forged).arg(&direct));
    gateway.logs("client=127.0.0.3");
    let errors = std::fs::read_to_string(nginx.directory.path().join("error.log")).unwrap();
    assert!(!errors.contains("[crit]") && !errors.contains("[alert]"), "{errors}");
}

/// The gateway sees what a browser wrote, as without nginx; otherwise it would refuse its own
/// console's requests, or believe a page of another site.
#[test]
fn nginx_passes_host_and_origin_to_the_gateway() {
    let gateway = Gateway::ready(
        "[server]\ntrusted_proxies = ['127.0.0.1']\nallowed_hosts = ['trading.example.com']",
    );
    let nginx = Nginx::start(gateway.address.port());
    let own = format!("Origin: https://127.0.0.1:{}", nginx.tls);
    let named = "Host: trading.example.com";
    for (headers, expected) in [
        ([own.as_str(), ""], "201"),
        ([named, "Origin: https://trading.example.com"], "201"),
        ([named, "Forwarded: for=203.0.113.9"], "201"),
        ([named, "Origin: https://evil.example"], "403"),
        (["Host: evil.example", "Origin: https://evil.example"], "421"),
    ] {
        let order = r#"{"symbol":"EURUSD","type":"BUY","volume":0.1}"#;
        let body = ["-d", order, "-H", "Content-Type: application/json"];
        let arguments = [body.as_slice(), &["-H", headers[0], "-H", headers[1]]].concat();
        let path = "/api/v1/accounts/demo/orders";
        let (status, body) = nginx.get("127.0.0.1", path, &arguments);
        assert_eq!(status, expected, "{headers:?}: {body}");
    }
    assert!(!gateway.log().contains("203.0.113.9"), "a forged address is not believed");
}

#[test]
fn nginx_limits_the_requests_of_one_client() {
    let gateway = Gateway::ready("[server]\ntrusted_proxies = ['127.0.0.1']");
    let nginx = Nginx::start(gateway.address.port());
    let url = format!("https://127.0.0.1:{}/livez?[1-400]", nginx.tls);
    let codes = run(Command::new("curl")
        .args([
            "-sk",
            "--parallel",
            "--parallel-max",
            "20",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}\n",
        ])
        .arg(&url));
    let refused = codes.lines().filter(|code| *code == "429").count();
    assert!((1..300).contains(&refused), "{refused} of 400 were refused");
    assert_eq!(nginx.get("127.0.0.4", "/livez", &[]).0, "200", "others are served");
}

#[test]
fn streams_are_not_buffered() {
    let gateway =
        Gateway::ready("[accounts.demo]\nlogin = 1\nserver = 'S'\nterminal.kind = 'simulator'\n");
    let nginx = Nginx::start(gateway.address.port());
    let path = "api/v1/accounts/demo/stream?events=orders";
    let mut client = Command::new("curl")
        .args(["-skN", &format!("https://127.0.0.1:{}/{path}", nginx.tls)])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(client.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut data = lines.filter(|line| line.starts_with("data: "));
    assert_eq!(data.next().unwrap(), "data: []");
    // The second event does not happen before the first has come through.
    let order =
        serde_json::json!({"symbol": "EURUSD", "type": "BUY_LIMIT", "volume": 0.1, "price": 0.5});
    gateway.send("POST", "/api/v1/accounts/demo/orders", Some(&order));
    assert!(data.next().unwrap().contains("EURUSD"));
    client.kill().unwrap();
    client.wait().unwrap();
    let script = "import sys; from websockets.sync.client import connect; import ssl\n\
                  context = ssl._create_unverified_context()\n\
                  with connect(sys.argv[1], ssl=context) as socket: print(socket.recv())";
    let url = format!("wss://127.0.0.1:{}/{path}", nginx.tls);
    assert!(run(Command::new(python()).args(["-c", script, &url])).contains("EURUSD"));
}
