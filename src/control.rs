//! Commands to a gateway that runs, over its own API. They work on every system alike.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::either::Either;

use crate::account_name::AccountName;
use crate::settings::read_password_file;

mod halts;

/// How long a command waits for the gateway at most. A change waits for trades that are under way, which
/// have limits of their own.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long a halt waits for the gateway, which answers within `server.request_timeout` (30 s).
const HALT_WITHIN: Duration = Duration::from_secs(45);

/// The largest answer that is taken, bytes. What answers may be no gateway.
const LARGEST_ANSWER: usize = 64 << 20;

/// How long a gateway may take to accept the connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How much a connection within this process holds.
const DUPLEX_BUFFER: usize = 64 << 10;

/// Where a gateway is reached, and with which key.
pub struct Remote {
    authority: String,
    /// In front of every path; empty unless a proxy adds one.
    prefix: String,
    key: Option<SecretString>,
    /// Takes the connections of a gateway in this process, which listens nowhere.
    within: Option<mpsc::UnboundedSender<DuplexStream>>,
}

/// What is to be halted, or is not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaltCommand {
    /// `None`: all accounts.
    pub account: Option<String>,
    /// Whether a halt is lifted.
    pub lift: bool,
    /// Whether resting orders are cancelled, too.
    pub cancel_orders: bool,
}

/// Why a gateway gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Nobody listens there, or the way there is cut.
    #[error("the gateway at http://{authority} does not answer ({fault}): is it running?")]
    NotListening {
        /// Where it was looked for.
        authority: String,
        /// What the system says.
        fault: String,
    },
    /// Somebody listens, and did not answer as HTTP does.
    #[error("the gateway at http://{authority} does not answer ({fault}): is it running?")]
    NoHttp {
        /// Where it was looked for.
        authority: String,
        /// What was wrong.
        fault: String,
    },
    /// The request cannot be sent.
    #[error("{0}")]
    NoRequest(String),
}

impl Remote {
    /// The gateway at a URL, such as `http://127.0.0.1:8080`, and the key that a file holds.
    ///
    /// # Errors
    /// What is wrong with the URL or the file.
    pub fn new(url: &str, key_file: Option<&Path>) -> Result<Remote, String> {
        let expected = "expected a URL such as \"http://127.0.0.1:8080\"";
        let uri: Uri = url.parse().map_err(|_| format!("{url:?} is no URL: {expected}"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "{url:?}: this command does not speak TLS; {expected}, the gateway's own address"
                ));
            }
            _ => return Err(format!("{url:?} does not begin with http://: {expected}")),
        }
        let authority =
            uri.authority().ok_or_else(|| format!("{url:?} has no host: {expected}"))?;
        let key =
            key_file.map(|file| read_password_file(file).map(SecretString::from)).transpose()?;
        Ok(Remote {
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            key,
            within: None,
        })
    }

    /// A gateway in this process that serves the connections which this channel carries, and asks for no
    /// key.
    pub fn within(connections: mpsc::UnboundedSender<DuplexStream>) -> Remote {
        let authority = "localhost".to_owned();
        Remote { authority, prefix: String::new(), key: None, within: Some(connections) }
    }

    /// Whether requests carry a key.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The URL under which this machine reaches a gateway that listens on an address.
    ///
    /// # Errors
    /// If the port is not known.
    pub fn url_of(listen: SocketAddr) -> Result<String, String> {
        if listen.port() == 0 {
            return Err("`server.listen` takes any free port: give the gateway's --url".to_owned());
        }
        let ip = match listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        Ok(format!("http://{}", SocketAddr::new(ip, listen.port())))
    }

    /// Lets the gateway read its settings again. Gives what has changed, a line for each, once the
    /// gateway has said that it has.
    ///
    /// # Errors
    /// Why it has not, or why that is not known; a line for each fault of the settings.
    pub async fn reload(&self) -> Result<String, String> {
        let reloaded = async {
            let mut is_late = false;
            loop {
                let asked = self.ask(Method::POST, "/api/v1/reload").await;
                let (status, body) = asked.map_err(|unanswered| unanswered.to_string())?;
                let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
                match status {
                    StatusCode::OK if is_late => {
                        // What the first one changed is not in this answer.
                        let more = changes(&answer);
                        return Ok(format!(
                            "the settings are in force; the gateway's log says what has changed\n{more}"
                        ));
                    }
                    StatusCode::OK => return Ok(changes(&answer)),
                    // An account finishes what is under way. The next reload waits for this one.
                    StatusCode::GATEWAY_TIMEOUT => is_late = true,
                    _ => return Err(refusal(status, &answer)),
                }
            }
        };
        let too_late =
            |_| Err(format!("the gateway did not finish within {PATIENCE:?}, and goes on"));
        tokio::time::timeout(PATIENCE, reloaded).await.unwrap_or_else(too_late)
    }

    /// Halts an account, or all of them, or lifts that. Gives what the gateway has confirmed, a line for each thing
    /// that there is to say.
    ///
    /// # Errors
    /// Why it is not confirmed, or what of it has to be done again.
    pub async fn halt(&self, halt: &HaltCommand) -> Result<String, String> {
        let HaltCommand { account, lift, cancel_orders } = halt;
        let method = if *lift { Method::DELETE } else { Method::PUT };
        let query = if *cancel_orders { "?cancel_orders=true" } else { "" };
        let path = match account {
            Some(account) if AccountName::parse(account).is_none() => {
                let expected = AccountName::EXPECTED;
                return Err(format!("no account is called {account:?}: expected {expected}"));
            }
            Some(account) => format!("/api/v1/accounts/{account}/halt{query}"),
            None => format!("/api/v1/halt{query}"),
        };
        let asked = tokio::time::timeout(HALT_WITHIN, self.ask(method, &path)).await;
        let asked = asked.map_err(|_| {
            format!(
                "the gateway did not answer within {HALT_WITHIN:?}, and it is not known what is halted: repeat \
                 the command, and see docs/operations/red-button.md"
            )
        })?;
        let (status, body) = asked.map_err(|unanswered| unanswered.to_string())?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status != StatusCode::OK {
            return Err(refusal(status, &answer));
        }
        let told = halts::told(&answer, *lift)
            .ok_or("something that is no mt5-gateway answered, or the halt was lifted meanwhile")?;
        if told.is_done { Ok(told.text) } else { Err(told.text.trim_end().to_owned()) }
    }

    /// Sends a request without a body, and gives the status and the body of its answer.
    ///
    /// # Errors
    /// Why there is none. It is waited for without an end.
    pub async fn ask(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), Unanswered> {
        let Remote { authority, prefix, key, .. } = self;
        let no_http = |fault: hyper::Error| Unanswered::NoHttp {
            authority: authority.clone(),
            fault: fault.to_string(),
        };
        let stream = self.connect().await?;
        let begun = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = begun.map_err(no_http)?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = key {
            let value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()));
            let no_key = "the key has characters that no key has";
            let mut value = value.map_err(|_| Unanswered::NoRequest(no_key.to_owned()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|fault| Unanswered::NoRequest(fault.to_string()))?;
        let answered = async {
            let answer = sender.send_request(request).await.map_err(|fault| fault.to_string())?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LARGEST_ANSWER).collect().await;
            let body = body.map_err(|fault| fault.to_string())?.to_bytes();
            Ok((status, body))
        };
        let answered: Result<_, String> = tokio::select! {
            biased;
            answered = answered => answered,
            never = async {
                let _ = connection.await;
                std::future::pending().await
            } => never,
        };
        let authority = self.authority.clone();
        answered.map_err(|fault| Unanswered::NoHttp { authority, fault })
    }

    async fn connect(&self) -> Result<Either<TcpStream, DuplexStream>, Unanswered> {
        let authority = &self.authority;
        let not_listening = |fault: String| {
            let authority = authority.clone();
            Unanswered::NotListening { authority, fault }
        };
        if let Some(connections) = &self.within {
            let (ours, theirs) = tokio::io::duplex(DUPLEX_BUFFER);
            let sent = connections.send(theirs);
            sent.map_err(|_| not_listening("it has ended".to_owned()))?;
            return Ok(Either::Right(ours));
        }
        let address = match authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => authority.clone(),
            _ => format!("{authority}:80"),
        };
        let connecting = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await;
        let connected = connecting.map_err(|_| not_listening("no connection".to_owned()))?;
        connected.map(Either::Left).map_err(|fault| not_listening(fault.to_string()))
    }
}

/// What a reload has changed, a line for each setting.
fn changes(answer: &Value) -> String {
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let applied = list("applied").into_iter();
    let applied = applied.map(|change| {
        let unknown = change["unknown_trades"].as_u64().filter(|unknown| *unknown > 0);
        let unknown = unknown.map(|unknown| format!(", {unknown} trades of unknown outcome left"));
        let (setting, kind) = (word(&change["setting"]), word(&change["change"]));
        format!("{setting}: {kind}{}\n", unknown.unwrap_or_default())
    });
    let waiting = list("restart_required").into_iter();
    let waiting = waiting.map(|key| format!("{}: needs a restart\n", word(&key)));
    let lines: String = applied.chain(waiting).collect();
    if lines.is_empty() { "nothing has changed\n".to_owned() } else { lines }
}

/// Why the gateway refused, with every fault of its settings.
fn refusal(status: StatusCode, answer: &Value) -> String {
    if let Some(faults) = answer["faults"].as_array() {
        let faults = faults.iter().filter_map(Value::as_str);
        let mut text =
            "the gateway keeps its settings, because the new ones have faults:".to_owned();
        faults.for_each(|fault| text.push_str(&format!("\n  {fault}")));
        return text;
    }
    let detail = answer["detail"].as_str().unwrap_or("something that is no mt5-gateway answered");
    format!("the gateway refused with {}: {detail}", status.as_u16())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn url_of_is_where_this_machine_reaches_the_address() {
        for (listen, expected) in [
            ("127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("0.0.0.0:9090", Some("http://127.0.0.1:9090")),
            ("[::]:80", Some("http://[::1]:80")),
            ("10.1.2.3:1", Some("http://10.1.2.3:1")),
            ("127.0.0.1:0", None),
        ] {
            assert_eq!(Remote::url_of(listen.parse().unwrap()).ok().as_deref(), expected);
        }
    }

    #[test]
    fn a_url_is_plain_http_with_a_host() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", Some(("127.0.0.1:8080", ""))),
            ("http://gateway/", Some(("gateway", ""))),
            ("http://[::1]:80/mt5/", Some(("[::1]:80", "/mt5"))),
            ("https://gateway", None),
            ("gateway:8080", None),
            ("/api", None),
            ("", None),
        ] {
            let remote = Remote::new(url, None).ok();
            let read = remote.as_ref().map(|to| (to.authority.as_str(), to.prefix.as_str()));
            assert_eq!(read, expected, "{url}");
        }
    }

    #[test]
    fn changes_and_faults_are_told_line_by_line() {
        let answer = json!({
            "applied": [{ "setting": "accounts.main", "change": "added" }],
            "restart_required": ["server.listen"],
        });
        assert_eq!(changes(&answer), "accounts.main: added\nserver.listen: needs a restart\n");
        assert_eq!(changes(&json!({})), "nothing has changed\n");
        let faults = refusal(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "faults": ["a", "b"] }));
        assert!(faults.ends_with(":\n  a\n  b"), "{faults}");
        let other = refusal(StatusCode::FORBIDDEN, &json!({ "detail": "no" }));
        assert_eq!(other, "the gateway refused with 403: no");
    }
}
