//! The accept loop: connections, their time limits, and their end.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use http::header::{AGE, ALLOW, CONTENT_TYPE, ETAG, LOCATION, RETRY_AFTER};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_layer::Layer;
use tracing::{debug, warn};

use super::admission::{Admission, AdmissionService};
use super::connection::{self, Activity};
use super::context::Route;
use super::request_log::{REQUEST_ID, RequestLog, refuse_head};
use super::routes::{HISTORY_WINDOW, REPLAYED};
use super::{App, routes};

/// How long to wait when no connection can be accepted, for lack of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a body that are not worth compressing: they fit into a packet as they are.
const SHORT: u64 = 1_024;

/// The connections that a listener accepts.
pub fn connections(listener: TcpListener) -> impl Stream<Item = (TcpStream, IpAddr)> {
    futures_util::stream::unfold(listener, async |listener| {
        let (stream, peer) = accept(&listener).await;
        let _ = stream.set_nodelay(true);
        Some(((stream, peer.ip().to_canonical()), listener))
    })
}

/// Serves connections until `stop`, then takes no new ones and lets the requests that
/// are under way finish. Returns when the last connection has ended.
pub async fn serve<C>(
    connections: impl Stream<Item = (C, IpAddr)>,
    app: Arc<App>,
    stop: CancellationToken,
) where
    C: AsyncRead + AsyncWrite + Send + 'static,
{
    let worth_it = SizeAbove::new(SHORT).and(is_compressible);
    let compression =
        CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_it);
    let admission = Arc::new(Admission::new(&app.options, sysinfo::System::host_name().ok()));
    let inner = compression.layer(warp::service(routes::all(&app)));
    let admitted = AdmissionService { admission: admission.clone(), inner };
    let with_cors = cors(&app.options.cors_origins).layer(admitted.clone());
    let unmatched = Arc::new(Route::new("none"));
    let open = TaskTracker::new();

    let mut connections = Box::pin(connections.take_until(stop.clone().cancelled_owned()));
    while let Some((stream, peer)) = connections.next().await {
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(app.options.write_timeout));
        let activity = Activity::new();
        let refuse = {
            let (app, unmatched) = (app.clone(), unmatched.clone());
            Box::new(move |status| refuse_head(&app, &unmatched, peer, status))
        };
        let counted = app.instruments.as_ref().map(|http| http.connection());
        let stream = connection::Stream::new(Box::pin(stream), activity.clone(), refuse, counted);
        let edge = RequestLog {
            app: app.clone(),
            unmatched: unmatched.clone(),
            peer,
            activity: activity.clone(),
            admission: admission.clone(),
            inner: admitted.clone(),
            with_cors: with_cors.clone(),
        };
        let connection =
            connection::serve(stream, edge, activity, app.options.write_timeout, stop.clone());
        open.spawn(async move {
            if let Err(fault) = connection.await {
                debug!(%peer, fault, "connection ended");
            }
        });
    }
    // New clients are refused from here on.
    drop(connections);
    open.close();
    open.wait().await;
}

/// Whether compressing makes an answer shorter without keeping a part of it back: Parquet is
/// compressed by itself, and events are sent one by one.
fn is_compressible(_: StatusCode, _: Version, headers: &HeaderMap, _: &Extensions) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is = |beginning: &str| content_type.starts_with(beginning.as_bytes());
    !is("text/event-stream") && !is("application/vnd.apache.parquet")
}

async fn accept(listener: &TcpListener) -> (TcpStream, std::net::SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client left again before it was accepted.
            Err(fault) if fault.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(fault) => {
                warn!(%fault, "connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn cors(origins: &[String]) -> tower::util::Either<CorsLayer, tower_layer::Identity> {
    let exposed = [RETRY_AFTER, REQUEST_ID, ETAG, REPLAYED, LOCATION, ALLOW, AGE, HISTORY_WINDOW];
    if origins.is_empty() {
        return tower::util::Either::Right(tower_layer::Identity::new());
    }
    // `*` stands for every origin that has a name.
    let any = origins.iter().any(|origin| origin == "*");
    let listed: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    let allowed = AllowOrigin::predicate(move |origin, _| {
        listed.contains(origin) || (any && origin.as_bytes() != b"null")
    });
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods(tower_http::cors::AllowMethods::mirror_request())
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
        .expose_headers(exposed);
    tower::util::Either::Left(layer)
}
