//! `[server]`: the address, the time limits, and who may call from where.

use std::net::SocketAddr;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;

use super::hosts;
use super::limits::{DAY, GIB, HOUR, KIB, duration, positive, size};
use super::reader::Reader;

/// The section `[server]`.
pub struct Server {
    pub listen: SocketAddr,
    pub request_timeout: Duration,
    pub call_timeout: Duration,
    pub trade_timeout: Duration,
    pub probe_interval: Duration,
    pub write_timeout: Duration,
    pub max_body: u64,
    pub shutdown_grace: Duration,
    pub allowed_hosts: Vec<String>,
    pub cors_origins: Vec<String>,
    pub trusted_proxies: Vec<IpNet>,
}

pub fn take(reader: &mut Reader) -> Server {
    let seconds = Duration::from_secs;
    let listen = reader.value("server.listen", SocketAddr::from(([127, 0, 0, 1], 8080)));
    if listen.port() == 0 {
        reader.warn("server.listen", "another free port is taken at each start");
    }
    let request_timeout = positive(reader, "server.request_timeout", seconds(30), HOUR);
    let call_timeout = positive(reader, "server.call_timeout", request_timeout, HOUR);
    let trade_timeout = positive(reader, "server.trade_timeout", seconds(60), HOUR);
    let probe_interval = positive(reader, "server.probe_interval", seconds(10), HOUR);
    let write_timeout = positive(reader, "server.write_timeout", seconds(60), HOUR);
    let max_body = size(reader, "server.max_body", ByteSize::mib(1), KIB..=GIB);
    let shutdown_grace = duration(reader, "server.shutdown_grace", seconds(65), DAY);
    if shutdown_grace < trade_timeout {
        reader.warn(
            "server.shutdown_grace",
            "it is below `server.trade_timeout`: a trade that is under way may be cut at the \
             end, and what became of it is then unknown",
        );
    }
    let allowed_hosts = hosts::allowed_hosts(reader);
    let cors_origins = hosts::cors_origins(reader);
    let trusted_proxies: Vec<IpNet> = reader.value("server.trusted_proxies", vec![]);
    if trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
        reader.warn(
            "server.trusted_proxies",
            "every client is believed about its own address: name the proxies",
        );
    }
    Server {
        listen,
        request_timeout,
        call_timeout,
        trade_timeout,
        probe_interval,
        write_timeout,
        max_body,
        shutdown_grace,
        allowed_hosts,
        cors_origins,
        trusted_proxies,
    }
}
