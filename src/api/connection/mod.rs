//! One connection: its time limits and its end.
//!
//! A connection is limited by what happens on it, not by its age. [`Activity`] knows what is under
//! way; [`serve`] ends the connection when nothing is for [`QUIET`], or when the client stops
//! reading for `write_timeout`. [`ClientStream`] carries the bytes, and gives a body to the
//! refusals that hyper writes by itself.

mod activity;
mod client_stream;
mod refusal;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

pub use self::activity::{Activity, ActivityGuard, BlockedStream, BodyChunk};
pub use self::client_stream::ClientStream;

/// How long a connection may be without a request: before its first one has arrived whole, and
/// between two.
const QUIET: Duration = Duration::from_secs(30);

/// How often an HTTP/2 client that has streams open must answer a ping.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long a connection without a request may take to end by itself, once it was asked to.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a client may read nothing of a response once the gateway stops.
const STUCK_AT_STOP: Duration = Duration::from_secs(5);

/// Bytes of headers that hyper reads in HTTP/2, about as many as in HTTP/1. `Admission` refuses
/// what is beyond its own, lower limit with a problem; hyper refuses what is beyond this one by
/// itself.
const HEADER_LIST_LIMIT: u32 = 400 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves a connection to its end. The gateway ends it after [`QUIET`] without a request, after
/// `write_timeout` in which the client read nothing of a response, and after `stop` as soon as the
/// requests that have arrived are answered.
pub async fn serve<C, S, B>(
    stream: C,
    service: S,
    activity: Arc<Activity>,
    write_timeout: Duration,
    stop: CancellationToken,
) -> Result<(), BoxError>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + Sync + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // `QUIET` limits how long a head may take, of every version of HTTP.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .max_header_list_size(HEADER_LIST_LIMIT);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let open = async || {
        tokio::select! {
            () = activity.quiet(QUIET, activity.opened) => debug!("connection without a request"),
            () = activity.stuck(write_timeout) => return Err("the client reads nothing".into()),
            () = stop.cancelled() => {}
        }
        Ok(())
    };
    tokio::select! {
        ended = connection.as_mut() => return ended,
        limit = by_its_own_wakes(open()) => limit?,
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection => ended,
        () = activity.quiet(FAREWELL, Instant::now()) => Ok(()),
        () = activity.stuck(write_timeout.min(STUCK_AT_STOP)) => {
            Err("the client reads nothing".into())
        }
    }
}

/// Polls a future only when it was woken itself, and not whenever its task is: a connection wakes for
/// each request, its limits hardly ever.
async fn by_its_own_wakes<T>(
    future: impl Future<Output = Result<T, BoxError>>,
) -> Result<T, BoxError> {
    let mut only = FuturesUnordered::from_iter([future]);
    only.next().await.unwrap_or_else(|| Err("nothing limits the connection".into()))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::StatusCode;
    use http_body_util::Full;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinHandle;

    use super::*;

    const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

    struct Connection {
        client: DuplexStream,
        served: JoinHandle<Result<(), BoxError>>,
        stop: CancellationToken,
    }

    /// A connection to a service that takes a minute to answer `/slow`.
    fn connect() -> Connection {
        let (client, server) = tokio::io::duplex(1 << 16);
        let (activity, stop) = (Activity::new(), CancellationToken::new());
        let refuse = Box::new(|status: StatusCode| ("id".into(), status.as_str().into()));
        let stream = ClientStream::new(server, activity.clone(), refuse, ());
        let requests = activity.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let under_way = requests.begin();
            async move {
                if request.uri().path() == "/slow" {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                drop(under_way);
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
            }
        });
        let served = tokio::spawn(serve(stream, service, activity, WRITE_TIMEOUT, stop.clone()));
        Connection { client, served, stop }
    }

    impl Connection {
        async fn send(&mut self, bytes: &str) {
            self.client.write_all(bytes.as_bytes()).await.unwrap();
        }

        /// What the gateway sends until it closes, and when that was.
        async fn rest(mut self) -> (String, Duration) {
            let begun = Instant::now();
            let mut rest = vec![];
            let _ = self.client.read_to_end(&mut rest).await;
            let _ = self.served.await;
            (String::from_utf8_lossy(&rest).into_owned(), begun.elapsed())
        }
    }

    const FARTHEST: Duration = QUIET.saturating_add(FAREWELL).saturating_add(FAREWELL);

    /// How long a dropped stream reads on, at most, with some room.
    const LINGER: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_does_not_arrive_is_not_waited_for() {
        for begun in ["", "P", "PRI * HT", "GET / HTTP/1.1\r\nhost: a", "GET / HTTP/1.1\r\nho"] {
            let mut connection = connect();
            connection.send(begun).await;
            let (rest, took) = connection.rest().await;
            assert!(!rest.starts_with("HTTP/1.1 2"), "{begun:?}: {rest}");
            assert!((QUIET..FARTHEST).contains(&took), "{begun:?} took {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_has_the_same_limit() {
        let mut connection = connect();
        let begun = Instant::now();
        connection.send("GET / HTTP/1.1\r\nx-long: ").await;
        while connection.client.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let took = begun.elapsed();
        assert!((QUIET..FARTHEST + LINGER * 2).contains(&took), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_closed_when_it_was_quiet_and_not_while_a_request_is_under_way() {
        let mut connection = connect();
        connection.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let (rest, took) = connection.rest().await;
        assert!(rest.ends_with("hello"), "{rest}");
        let quiet = took - Duration::from_secs(60);
        assert!((QUIET..FARTHEST).contains(&quiet), "{quiet:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_waits_for_requests_that_have_arrived_and_for_no_others() {
        for (begun, answered) in [
            ("", false),
            ("GET / HTTP/1.1\r\nhost", false),
            ("PRI * HT", false),
            ("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n", true),
        ] {
            let mut connection = connect();
            connection.send(begun).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
            connection.stop.cancel();
            let (rest, took) = connection.rest().await;
            assert_eq!(rest.ends_with("hello"), answered, "{begun:?}: {rest}");
            assert_eq!(took > FAREWELL * 2, answered, "{begun:?} took {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_cannot_be_read_is_answered_with_a_body() {
        let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(70_000));
        let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(200));
        for (head, status) in [
            ("NONSENSE\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nbad header\r\n\r\n", "400"),
            ("GET / HTTP/9.9\r\nhost: a\r\n\r\n", "400"),
            (long.as_str(), "414"),
            (many.as_str(), "431"),
        ] {
            let mut connection = connect();
            let client = &mut connection.client;
            // The gateway need not read all of it.
            let sent = client.write_all(head.as_bytes());
            let _ = tokio::time::timeout(Duration::from_secs(1), sent).await;
            let (rest, _) = connection.rest().await;
            let start = format!("HTTP/1.1 {status} ");
            assert!(rest.starts_with(&start), "{head:.40?}: {rest}");
            assert!(rest.ends_with(&format!("\r\n\r\n{status}")), "{rest}");
            for line in
                ["content-type: application/problem+json", "content-length: 3", "x-request-id: id"]
            {
                assert_eq!(rest.matches(line).count(), 1, "{line} in {rest}");
            }
        }
    }
}
