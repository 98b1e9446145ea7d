//! The accept loop: connections, their time limits, and their end.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_layer::Layer;
use tracing::{debug, warn};

use super::edge::Edge;
use super::request::Route;
use super::{App, routes};

/// How long a connection may take to send a request's head, and stay idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

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
    let routes = warp::service(routes::all(&app));
    let unmatched = Arc::new(Route::new("none"));
    let worth_it = SizeAbove::new(SHORT).and(is_compressible);
    let compression =
        CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_it);
    let cors = cors(&app.options.cors_origins);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(HEADER_TIMEOUT);
    let graceful = GracefulShutdown::new();

    let mut connections = Box::pin(connections.take_until(stop.cancelled_owned()));
    while let Some((stream, peer)) = connections.next().await {
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(app.options.write_timeout));
        let stream = Box::pin(stream);
        let active = app.instruments.as_ref().map(|http| http.connection());
        let (app, unmatched) = (app.clone(), unmatched.clone());
        let inner = cors.layer(compression.layer(routes.clone()));
        let edge = Edge::new(app, unmatched, peer, inner);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), edge);
        let connection = graceful.watch(connection.into_owned());
        tokio::spawn(async move {
            if let Err(fault) = connection.await {
                debug!(%peer, fault, "connection ended");
            }
            drop(active);
        });
    }
    // New clients are refused from here on.
    drop(connections);
    graceful.shutdown().await;
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
    if origins.is_empty() {
        return tower::util::Either::Right(tower_layer::Identity::new());
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods(tower_http::cors::AllowMethods::mirror_request())
        .allow_headers(tower_http::cors::AllowHeaders::mirror_request());
    tower::util::Either::Left(layer)
}
