//! A gateway as a process of its own, and a client for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running gateway. Dropping it kills it.
pub struct Gateway {
    process: Child,
    pub address: SocketAddr,
    pub directory: tempfile::TempDir,
    log: Arc<Mutex<Vec<String>>>,
    agent: ureq::Agent,
}

/// What a client got.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Vec<u8>,
    pub took: Duration,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The status and the last part of the problem's type.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], self.status, "{body}");
        assert_eq!(body["request_id"], self.header("x-request-id"), "{body}");
        let kind = body["type"].as_str().unwrap().strip_prefix("/problems/").unwrap().to_owned();
        (self.status, kind)
    }

    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap().to_owned()
    }
}

/// A body that is read as it arrives.
pub type Body = BufReader<ureq::BodyReader<'static>>;

/// The gateway's command in a directory of its own, without this machine's settings.
///
/// `GATEWAY_COMMAND` is another one than Cargo's, such as the Windows program under Wine; its words are
/// separated by spaces.
pub fn command(directory: &Path) -> Command {
    let given = std::env::var("GATEWAY_COMMAND");
    let text = given.unwrap_or_else(|_| env!("CARGO_BIN_EXE_mt5-gateway").to_owned());
    let mut words = text.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("MT5_GATEWAY__") {
            command.env_remove(name);
        }
    }
    command
}

type Launched = (Child, Arc<Mutex<Vec<String>>>, SocketAddr);

/// Starts the gateway in a directory and waits until it listens.
fn launch(directory: &Path, environment: &[(&str, &str)]) -> Launched {
    let mut process = command(directory)
        .args(["--config", "gateway.toml"])
        .env("MT5_GATEWAY__SERVER__LISTEN", "127.0.0.1:0")
        .envs(environment.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let (sender, listening) = mpsc::channel();
    let stderr = BufReader::new(process.stderr.take().unwrap());
    let lines = log.clone();
    std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let listens = line.split_once("metrics=http://");
            if let Some((_, rest)) = listens.or(line.split_once("\"metrics\":\"http://")) {
                let address = rest.split('/').next().unwrap_or_default();
                let _ = sender.send(address.parse().unwrap());
            }
            lines.lock().unwrap().push(line);
        }
    });
    match listening.recv_timeout(PATIENCE) {
        Ok(address) => (process, log, address),
        Err(_) => {
            let _ = process.kill();
            panic!("the gateway does not listen: {:#?}", log.lock().unwrap())
        }
    }
}

impl Gateway {
    /// Starts a gateway with these settings (TOML) and waits until it listens.
    pub fn start(settings: &str) -> Gateway {
        Self::start_with(settings, &[])
    }

    pub fn start_with(settings: &str, environment: &[(&str, &str)]) -> Gateway {
        Self::start_in(tempfile::tempdir().unwrap(), settings, environment)
    }

    /// Starts a gateway whose working directory is this one.
    pub fn start_in(
        directory: tempfile::TempDir,
        settings: &str,
        environment: &[(&str, &str)],
    ) -> Gateway {
        std::fs::write(directory.path().join("gateway.toml"), settings).unwrap();
        let (process, log, address) = launch(directory.path(), environment);
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .allow_non_standard_methods(true);
        Gateway { process, address, directory, log, agent: config.build().into() }
    }

    /// Kills the process and starts another in the same directory.
    pub fn kill_and_start(&mut self, environment: &[(&str, &str)]) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        (self.process, self.log, self.address) = launch(self.directory.path(), environment);
    }

    /// Starts a gateway and waits until every session is ready.
    pub fn ready(settings: &str) -> Gateway {
        let gateway = Gateway::start(settings);
        gateway.wait_ready();
        gateway
    }

    pub fn wait_ready(&self) {
        self.eventually("every session is ready", || {
            let accounts = self.get("/api/v1/accounts").json();
            let all_ready = accounts.as_array().unwrap().iter().all(|account| {
                let sessions = account["sessions"].as_array().unwrap();
                sessions.iter().all(|session| session["state"] == "ready")
            });
            (all_ready && self.get("/readyz").status == 200).then_some(())
        });
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn get(&self, path: &str) -> Reply {
        self.get_with(path, &[])
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.agent.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        receive(|| request.call())
    }

    /// The head of an answer, and its body as it arrives. A stream may last as long as what the test
    /// does meanwhile, which is long on a loaded machine.
    pub fn open(&self, path: &str, headers: &[(&str, &str)]) -> (ureq::http::HeaderMap, Body) {
        let config = self.agent.get(self.url(path)).config();
        let mut request = config.timeout_global(Some(PATIENCE * 10)).build();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, body) = request.call().unwrap().into_parts();
        assert_eq!(parts.status, 200);
        (parts.headers, BufReader::new(body.into_reader()))
    }

    pub fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Reply {
        let request = self.agent.post(self.url(path)).header("content-type", content_type);
        receive(|| request.send(body))
    }

    /// Sends a request of any method, with a JSON body if there is one.
    pub fn send(&self, method: &str, path: &str, body: Option<&serde_json::Value>) -> Reply {
        self.send_with(method, path, body, &[])
    }

    pub fn send_with(
        &self,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
        headers: &[(&str, &str)],
    ) -> Reply {
        self.try_send_with(method, path, body, headers).unwrap()
    }

    /// `None`: nobody answers.
    pub fn try_send_with(
        &self,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
        headers: &[(&str, &str)],
    ) -> Option<Reply> {
        let method = method.to_uppercase();
        let mut request =
            ureq::http::Request::builder().method(method.as_str()).uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        try_receive(|| match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.agent.run(request.body(body.to_string()).unwrap())
            }
            None => self.agent.run(request.body(()).unwrap()),
        })
        .ok()
    }

    pub fn post_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.agent.post(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        receive(|| request.send_empty())
    }

    /// Sends bytes and reads until the gateway closes or a response is whole.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = vec![0; 65_536];
        let length = stream.read(&mut answer).unwrap_or(0);
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    /// The value of a series, written as in `/metrics`; 0 if it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        metric(&self.metrics(), series)
    }

    pub fn metrics(&self) -> String {
        self.eventually("a scrape is let through", || {
            let reply = self.get("/metrics");
            assert!(matches!(reply.status, 200 | 429), "{reply:?}");
            (reply.status == 200).then(|| reply.text())
        })
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits until the log says something; it may arrive after the answer it belongs to.
    pub fn logs(&self, what: &str) {
        self.eventually(&format!("the log says {what}"), || {
            self.log().contains(what).then_some(())
        });
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the process's own end.
    pub fn wait(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the gateway does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Tries until there is a value; panics with the log after [`PATIENCE`].
    pub fn eventually<T>(&self, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = probe() {
                return value;
            }
            assert!(begun.elapsed() < PATIENCE, "never: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(status.unwrap().success(), "kill -{name} {pid}");
}

pub fn metric(text: &str, series: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
        .map_or(0.0, |value| value.parse().unwrap())
}

type Called = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

fn receive(call: impl FnOnce() -> Called) -> Reply {
    try_receive(call).unwrap()
}

fn try_receive(call: impl FnOnce() -> Called) -> Result<Reply, ureq::Error> {
    let begun = Instant::now();
    let (parts, mut body) = call()?.into_parts();
    let body = body.with_config().limit(1 << 30).read_to_vec()?;
    let (status, headers) = (parts.status.as_u16(), parts.headers);
    Ok(Reply { status, headers, body, took: begun.elapsed() })
}
