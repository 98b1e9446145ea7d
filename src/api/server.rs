//! The accept loop: it puts the layers together and serves every connection with them.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_layer::Layer;
use tracing::{debug, warn};

use super::connection::{self, Activity, ClientStream};
use super::context::Route;
use super::layers::admission::{Admission, AdmissionService};
use super::layers::cors;
use super::layers::request_log::{RequestLog, refuse_head};
use super::state::App;
use super::{openapi, routes};

/// How long to wait when no connection can be accepted, mostly for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections that a listener accepts.
pub fn connections(listener: TcpListener) -> impl Stream<Item = (TcpStream, IpAddr)> {
    futures_util::stream::unfold(listener, async |listener| {
        let (stream, peer) = accept(&listener).await;
        let _ = stream.set_nodelay(true);
        Some(((stream, peer.ip().to_canonical()), listener))
    })
}

/// Serves connections until `stop`. Then it accepts no new ones, lets requests that are under way
/// finish, and returns when the last connection has ended.
pub async fn serve<C>(
    connections: impl Stream<Item = (C, IpAddr)>,
    app: Arc<App>,
    stop: CancellationToken,
) where
    C: AsyncRead + AsyncWrite + Send + 'static,
{
    let admission = Arc::new(Admission::new(&app.options, sysinfo::System::host_name().ok()));
    let (chain, _) = routes::chain(&openapi::DOCUMENT);
    let admitted = AdmissionService { inner: warp::service(chain) };
    let cors = cors::layer(&app.options.cors_origins);
    let with_cors = cors.map(|cors| cors.layer(admitted.clone()));
    let unmatched = Arc::new(Route::new("none"));
    let open = TaskTracker::new();

    let mut connections = Box::pin(connections.take_until(stop.clone().cancelled_owned()));
    while let Some((stream, peer)) = connections.next().await {
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(app.options.write_timeout));
        let activity = Activity::new();
        let make_problem = {
            let (app, unmatched) = (app.clone(), unmatched.clone());
            Box::new(move |status| refuse_head(&app, &unmatched, peer, status))
        };
        let counted = app.instruments.as_ref().map(|http| http.connection());
        let stream = ClientStream::new(Box::pin(stream), activity.clone(), make_problem, counted);
        let service = RequestLog {
            app: app.clone(),
            unmatched: unmatched.clone(),
            peer,
            activity: activity.clone(),
            admission: admission.clone(),
            inner: admitted.clone(),
            with_cors: with_cors.clone(),
        };
        let connection =
            connection::serve(stream, service, activity, app.options.write_timeout, stop.clone());
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

async fn accept(listener: &TcpListener) -> (TcpStream, std::net::SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client left before it was accepted.
            Err(fault) if fault.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(fault) => {
                warn!(%fault, "connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
