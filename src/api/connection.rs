//! One connection: its time limits, its end, and the answers that hyper gives by itself.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// How long a connection may be without a request: to send its first one whole, and between two.
pub const QUIET: Duration = Duration::from_secs(30);

/// How often an HTTP/2 client that has streams open has to show that it is there.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// How long a connection without a request may take to end by itself, once it was asked to.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long a client may take nothing of an answer once the gateway stops.
const STUCK_AT_STOP: Duration = Duration::from_secs(5);

/// Bytes of headers that are read in HTTP/2, about as many as in HTTP/1. What is beyond `Admission`'s
/// limit is refused there as a problem; what is beyond this one hyper refuses by itself.
const HEADER_LIST_LIMIT: u32 = 400 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The activity of one connection, shared by its stream, its requests, their bodies and its limits.
#[derive(Debug)]
pub struct Activity {
    opened: Instant,
    /// Requests whose responses have not been taken by the connection yet, and parts of bodies that
    /// it has taken but not written.
    under_way: AtomicUsize,
    /// When the client began not to take what is written to it, milliseconds after `opened`, or
    /// [`TAKING`].
    blocked_since: AtomicU64,
    /// When the last of these ended, milliseconds after `opened`.
    last: AtomicU64,
    /// HTTP/2 streams that wait for the client to open their windows, in the order of their
    /// beginnings, each with its last progress. A stream that waits does not block the connection.
    waiting: Mutex<BTreeMap<u64, Instant>>,
    next_stream: AtomicU64,
}

/// The client takes what is written to it.
const TAKING: u64 = u64::MAX;

impl Activity {
    pub fn new() -> Arc<Activity> {
        Arc::new(Activity {
            opened: Instant::now(),
            under_way: AtomicUsize::new(0),
            blocked_since: AtomicU64::new(TAKING),
            last: AtomicU64::new(0),
            waiting: Mutex::default(),
            next_stream: AtomicU64::new(0),
        })
    }

    /// Counts a request as under way until the guard is dropped.
    pub fn begin(self: &Arc<Activity>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_idle(&self) -> bool {
        // Pairs with the end of a request, which notes when that was.
        self.under_way.load(Ordering::Acquire) == 0
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(TAKING - 1)
    }

    fn note(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// Notes whether the client took what was written to it.
    fn wrote(&self, blocked: bool) {
        let since = self.blocked_since.load(Ordering::Relaxed);
        if blocked && since == TAKING {
            self.blocked_since.store(self.now(), Ordering::Relaxed);
        } else if !blocked && since != TAKING {
            self.note();
            self.blocked_since.store(TAKING, Ordering::Relaxed);
        }
    }

    /// How long nothing has been under way.
    fn quiet_for(&self) -> Duration {
        if !self.is_idle() || self.blocked_since.load(Ordering::Relaxed) != TAKING {
            return Duration::ZERO;
        }
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(last)
    }

    /// How long the client has taken nothing of what waits for it.
    fn stuck_for(&self) -> Duration {
        let connection = match self.blocked_since.load(Ordering::Relaxed) {
            TAKING => Duration::ZERO,
            since => self.opened.elapsed().saturating_sub(Duration::from_millis(since)),
        };
        let stream = self.waiting().values().min().map_or(Duration::ZERO, Instant::elapsed);
        connection.max(stream)
    }

    /// Returns once nothing has been under way for this long, counted from `since` at the earliest.
    async fn settled(&self, limit: Duration, since: Instant) {
        loop {
            let quiet = self.quiet_for().min(since.elapsed());
            if quiet >= limit {
                return;
            }
            tokio::time::sleep(limit - quiet).await;
        }
    }

    /// Returns once the client has taken nothing for this long of what waits for it.
    async fn stuck(&self, limit: Duration) {
        loop {
            let stuck = self.stuck_for();
            if stuck >= limit {
                return;
            }
            tokio::time::sleep(limit - stuck).await;
        }
    }
}

/// A request, or a part of a body, that is under way.
#[derive(Debug)]
pub struct UnderWay(Arc<Activity>);

impl UnderWay {
    /// Notes that an HTTP/2 stream waits for its client, until that is dropped.
    pub fn wait(&self) -> Arc<Waiting> {
        let id = self.0.next_stream.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting { activity: self.0.clone(), id };
        waiting.progress();
        Arc::new(waiting)
    }

    /// Counts a part of the response's body as under way, too, until it is written.
    pub fn part<B>(&self, data: B, waiting: Option<Arc<Waiting>>) -> Part<B> {
        Part { data, waiting, _under_way: self.0.begin() }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.note();
        self.0.under_way.fetch_sub(1, Ordering::Release);
    }
}

/// An HTTP/2 stream that waits for its client.
#[derive(Debug)]
pub struct Waiting {
    activity: Arc<Activity>,
    id: u64,
}

impl Waiting {
    fn progress(&self) {
        self.activity.waiting().insert(self.id, Instant::now());
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.activity.waiting().remove(&self.id);
    }
}

/// A part of a body on its way to the client.
#[derive(Debug)]
pub struct Part<B> {
    data: B,
    waiting: Option<Arc<Waiting>>,
    _under_way: UnderWay,
}

impl<B: Buf> Buf for Part<B> {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.data.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.data.advance(count);
        if let Some(waiting) = &self.waiting {
            waiting.progress();
        }
    }
}

/// Serves a connection to its end. It ends when the client ends it, when it was without a request
/// for [`QUIET`], when the client has taken nothing of an answer for `write_timeout`, and after `stop`
/// as soon as the requests that have arrived are answered.
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
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = activity.settled(QUIET, activity.opened) => debug!("connection without a request"),
        () = activity.stuck(write_timeout) => return Err("the client takes nothing".into()),
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    tokio::select! {
        ended = connection => ended,
        () = activity.settled(FAREWELL, Instant::now()) => Ok(()),
        () = activity.stuck(write_timeout.min(STUCK_AT_STOP)) => {
            Err("the client takes nothing".into())
        }
    }
}

/// Writes the body of a refusal that hyper answers by itself. Gives its request id, and the body.
pub type Refuse = Box<dyn Fn(StatusCode) -> (Arc<str>, Vec<u8>) + Send + Sync>;

/// A connection's bytes. Notes whether the client takes them, and gives a body to the answers that
/// hyper writes to heads that it cannot read, which have none.
pub struct Stream<C, G>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    /// `None`: it was dropped.
    inner: Option<C>,
    /// Whether the client has sent all that it will send.
    at_end: bool,
    activity: Arc<Activity>,
    refuse: Refuse,
    /// A refusal that is being written, and how many of hyper's bytes it stands for.
    refusal: Option<(Bytes, usize)>,
    /// Counts the connection, also after it was upgraded.
    _active: G,
}

impl<C, G> Stream<C, G>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    pub fn new(inner: C, activity: Arc<Activity>, refuse: Refuse, active: G) -> Stream<C, G> {
        let (inner, at_end) = (Some(inner), false);
        Stream { inner, at_end, activity, refuse, refusal: None, _active: active }
    }

    fn noted<T>(&self, written: Poll<T>) -> Poll<T> {
        self.activity.wrote(written.is_pending());
        written
    }

    fn inner(&mut self) -> io::Result<Pin<&mut C>> {
        self.inner.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Writes what is left of a refusal.
    fn poll_refusal(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some((mut left, stands_for)) = self.refusal.take() {
            if left.is_empty() {
                return Poll::Ready(Ok(stands_for));
            }
            let written = self.inner()?.poll_write(context, &left);
            if let Poll::Ready(Ok(written)) = written {
                left.advance(written);
            }
            self.refusal = Some((left, stands_for));
            if ready!(written)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(0))
    }
}

/// How long a connection that the gateway ends is read from, without looking at what comes.
const LINGER: Duration = Duration::from_secs(1);

impl<C, G> Drop for Stream<C, G>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    /// Closing a socket while something lies unread in it resets the connection, and the client may
    /// never read the last answer: that its body or its message is too large, for example.
    fn drop(&mut self) {
        if let (Some(mut inner), false) = (self.inner.take(), self.at_end)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(tokio::time::timeout(LINGER, async move {
                let _ = inner.shutdown().await;
                let _ = tokio::io::copy(&mut inner, &mut tokio::io::sink()).await;
            }));
        }
    }
}

/// The status of an answer that hyper has written by itself. A service's answers have an id.
fn own_refusal(written: &[u8]) -> Option<StatusCode> {
    let after_version =
        written.strip_prefix(b"HTTP/1.1 ").or_else(|| written.strip_prefix(b"HTTP/1.0 "))?;
    let status = StatusCode::from_bytes(after_version.get(..3)?).ok()?;
    if !status.is_client_error() || !written.ends_with(b"\r\n\r\n") {
        return None;
    }
    let head = std::str::from_utf8(written).ok()?;
    let is_bare = head.contains("\r\ncontent-length: 0\r\n") && !head.contains("\r\nx-request-id:");
    is_bare.then_some(status)
}

/// The same answer with a body.
fn with_body(head: &[u8], request_id: &str, body: &[u8]) -> Bytes {
    let head = String::from_utf8_lossy(head);
    let lines = head.trim_end().split("\r\n");
    let kept = lines.filter(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
    let head: Vec<&str> = kept.collect();
    let mut answer = format!(
        "{}\r\ncontent-type: application/problem+json\r\nx-request-id: {request_id}\r\n\
         content-length: {}\r\n\r\n",
        head.join("\r\n"),
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer.into()
}

impl<C, G: Unpin> AsyncRead for Stream<C, G>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.inner()?.poll_read(context, buffer);
        self.at_end = match &read {
            Poll::Ready(Ok(())) => buffer.filled().len() == before && buffer.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        read
    }
}

impl<C, G: Unpin> AsyncWrite for Stream<C, G>
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.refusal.is_none()
            && self.activity.is_idle()
            && let Some(status) = own_refusal(bytes)
        {
            let (request_id, body) = (self.refuse)(status);
            self.refusal = Some((with_body(bytes, &request_id, &body), bytes.len()));
        }
        let written = if self.refusal.is_some() {
            self.poll_refusal(context)
        } else {
            self.inner()?.poll_write(context, bytes)
        };
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        match (filled.next(), filled.next()) {
            (Some(only), None) => self.poll_write(context, only),
            _ => {
                let written = self.inner()?.poll_write_vectored(context, slices);
                self.noted(written)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Full;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, DuplexStream};
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
        let stream = Stream::new(server, activity.clone(), refuse, ());
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

    #[test]
    fn only_answers_that_hyper_writes_by_itself_are_taken_for_such() {
        let own =
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(own_refusal(own.as_bytes()), Some(StatusCode::BAD_REQUEST));
        for other in [
            own.replace("date: x", "x-request-id: 1"),
            own.replace("400", "200"),
            own.replace("content-length: 0", "content-length: 1"),
            format!("{own}more"),
            format!("x{own}"),
            String::new(),
        ] {
            assert_eq!(own_refusal(other.as_bytes()), None, "{other}");
        }
    }
}
