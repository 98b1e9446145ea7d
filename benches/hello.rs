//! The least that warp can do, as a base of comparison for `benches/end_to_end`: an accept loop around
//! a filter that answers with a word.
//!
//! Serves on the address that is its argument, until it is killed.

use std::net::SocketAddr;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use warp::Filter;

#[tokio::main]
async fn main() {
    let address = std::env::args().nth(1).expect("an address, such as 127.0.0.1:8081");
    let address: SocketAddr = address.parse().expect("an address, such as 127.0.0.1:8081");
    let hello = warp::path!("hello").map(|| "hello").map(warp::Reply::into_response).boxed();
    let listener = tokio::net::TcpListener::bind(address).await.expect("the address is free");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let service = TowerToHyperService::new(warp::service(hello.clone()));
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}
