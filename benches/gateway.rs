//! Measures the parts of a request, and all of it, without a network.
//!
//! ```sh
//! cargo bench                    # all of them
//! cargo bench -- bars            # those whose name has `bars` in it
//! ```
//!
//! The benchmarks through a worker need the Python packages that `benches/end_to_end` installs.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mt5_gateway::api::export::{Encoder, Format};
use mt5_gateway::app::LABEL_SETS;
use mt5_gateway::app::{Service, signals};
use mt5_gateway::metrics::{self, Catalog, StatusLabels, Watchlist, render::render};
use mt5_gateway::mt5::{Method, Rate, Request, Rows, SymbolName, calls};
use mt5_gateway::pool::{Accounts, CallContext};
use mt5_gateway::sampler::sensors;
use mt5_gateway::settings::Settings;
use mt5_gateway::telemetry::Events;
use mt5_gateway::terminal::worker::protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Runtime;
use tokio::time::Instant;

const TICK: &str = "/api/v1/accounts/demo/symbols/EURUSD/tick";
const SIMULATOR: &str =
    "[accounts.demo]\nlogin = 5001\nserver = 'S'\ntrade = false\nterminal.kind = 'simulator'\n";

/// A gateway in this process, and one connection to it.
struct Gateway {
    runtime: Runtime,
    accounts: Arc<Accounts>,
    client: DuplexStream,
    _files: tempfile::TempDir,
}

impl Gateway {
    fn start(accounts: &str) -> Gateway {
        let files = tempfile::tempdir().expect("a accounts for the settings");
        let file = files.path().join("gateway.toml");
        let quiet = "log.access = false\nreads.share = false\nreads.cache = '0'\n\
                     metrics.rate_limit_per_second = 1000000\nmetrics.rate_limit_burst = 1000000\n";
        std::fs::write(&file, format!("{quiet}{accounts}")).expect("the settings are written");
        let settings = Settings::load(files.path(), Some(&file), Settings::environment(), &[])
            .expect("the settings are right");
        let runtime = Runtime::new().expect("a runtime");
        let service = runtime.block_on(Service::start(settings, Events::default()));
        let service = service.expect("the service starts");
        let accounts = service.accounts.clone();
        let (client, server) = tokio::io::duplex(256 << 10);
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let one = futures_util::stream::iter([(server, peer)]);
        let connections = futures_util::StreamExt::chain(one, futures_util::stream::pending());
        runtime.spawn(async move { service.serve(connections, signals()).await });
        let mut gateway = Gateway { runtime, accounts, client, _files: files };
        while !gateway.get("/readyz").starts_with(b"HTTP/1.1 200") {
            std::thread::sleep(Duration::from_millis(20));
        }
        gateway
    }

    /// The head of an answer, and its body if that has a length.
    fn get(&mut self, path: &str) -> Vec<u8> {
        let client = &mut self.client;
        self.runtime.block_on(async {
            let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            client.write_all(request.as_bytes()).await.expect("the gateway reads");
            let mut answer = Vec::with_capacity(4096);
            loop {
                let read = client.read_buf(&mut answer).await.expect("the gateway answers");
                assert_ne!(read, 0, "the gateway has stopped");
                if is_complete(&answer) {
                    return answer;
                }
            }
        })
    }
}

fn is_complete(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or_default();
    answer.len() >= head + 4 + length
}

/// A request that ends before it reaches a terminal: found, admitted, refused.
fn routing_and_admission(criterion: &mut Criterion) {
    let mut gateway = Gateway::start(SIMULATOR);
    let path = TICK.replace("demo", "nobody");
    criterion.bench_function("routing and admission", |bencher| {
        bencher.iter(|| gateway.get(&path));
    });
}

/// A call to a simulated terminal and back, without HTTP.
fn session_round_trip(criterion: &mut Criterion) {
    let gateway = Gateway::start(SIMULATOR);
    let account = gateway.accounts.get("demo").expect("it is configured");
    criterion.bench_function("session round trip", |bencher| {
        bencher.iter(|| {
            let deadline = Instant::now() + Duration::from_secs(30);
            let context = CallContext::new("bench".into(), deadline);
            let call = calls::SymbolInfoTick { symbol: SymbolName::from_trusted("EURUSD") };
            gateway.runtime.block_on(account.call(call, &context)).expect("it answers")
        });
    });
}

/// A request from the client through the gateway to the terminal, and back.
fn whole_way(criterion: &mut Criterion) {
    let mut gateway = Gateway::start(SIMULATOR);
    criterion.bench_function("tick through the simulator", |bencher| {
        bencher.iter(|| gateway.get(TICK));
    });
    drop(gateway);

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/bench/venv/bin/python");
    if !python.exists() {
        return println!("tick through a worker: skipped, benches/end_to_end installs its Python");
    }
    let (module, python) = (root.join("tests/python"), python.display());
    let command = format!("['env', 'PYTHONPATH={}', '{python}']", module.display());
    let terminal = format!("password = 'p'\nterminal = {{ kind = 'worker', python = {command} }}");
    let account = SIMULATOR.replace("terminal.kind = 'simulator'", &terminal);
    let mut gateway = Gateway::start(&account);
    criterion.bench_function("tick through a worker", |bencher| {
        bencher.iter(|| gateway.get(TICK));
    });
}

/// A frame to a worker and one from it.
fn frames(criterion: &mut Criterion) {
    let request = Request::SymbolInfoTick { symbol: SymbolName::from_trusted("EURUSD") };
    let mut buffer = BytesMut::new();
    criterion.bench_function("call written", |bencher| {
        bencher.iter(|| {
            buffer.clear();
            protocol::put_call(&mut buffer, 1, &request, None);
        });
    });
    let tick = (1, 0, (1_700_000_000, 1.1, 1.2, 0.0, 0, 1_700_000_000_000_i64, 6, 0.0));
    let frame = Bytes::from(rmp_serde::to_vec(&tick).expect("it is plain data"));
    let expected = Some((1, Method::SymbolInfoTick));
    criterion.bench_function("answer decoded, a tick", |bencher| {
        bencher.iter(|| protocol::read_answer(&frame, expected).expect("it is well-formed"));
    });
    let mut frame = vec![0x93, 1, 0, 0xc6];
    frame.extend_from_slice(&6_000_000_u32.to_be_bytes());
    frame.resize(frame.len() + 6_000_000, 0);
    let (frame, expected) = (Bytes::from(frame), Some((1, Method::CopyRatesRange)));
    criterion.bench_function("answer decoded, 100,000 bars", |bencher| {
        bencher.iter(|| protocol::read_answer(&frame, expected).expect("it is well-formed"));
    });
}

/// 100,000 bars as bytes of an answer.
fn bars(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let rows = (0..100_000).map(|minute| Rate {
        time: 1_700_000_040 + 60 * minute,
        open: 1.05 + minute as f64 / 1e5,
        high: 1.06 + minute as f64 / 1e5,
        low: 1.04 + minute as f64 / 1e5,
        close: 1.055 + minute as f64 / 1e5,
        tick_volume: 100 + minute as u64 % 1000,
        spread: 10,
        real_volume: 0,
    });
    let rows = Rows::pack(rows);
    let mut group = criterion.benchmark_group("100,000 bars");
    group.throughput(Throughput::Elements(100_000)).sample_size(20);
    let formats = [Format::Json, Format::Csv, Format::Arrow, Format::Parquet];
    for format in formats {
        group.bench_function(format.name(), |bencher| {
            // Parquet gives way to other tasks while it compresses.
            bencher.iter(|| runtime.block_on(async { write(format, &rows) }));
        });
    }
    group.finish();
}

fn write(format: Format, rows: &Rows<Rate>) -> usize {
    let mut encoder = Encoder::<Rows<Rate>>::new(format, true).expect("bars have columns");
    let mut length = 0;
    for start in (0..rows.len()).step_by(4_096) {
        let end = rows.len().min(start + 4_096);
        length += encoder.write(rows, start..end).expect("bars can be written").len();
    }
    length + encoder.finish().expect("bars can be written").len()
}

/// What `/metrics` takes to write, by its number of series.
fn metrics(criterion: &mut Criterion) {
    let options = metrics::Options {
        enabled: true,
        account_values: false,
        status_labels: StatusLabels::Exact,
        duration_buckets: vec![0.001, 0.01, 0.1, 1.0],
        call_buckets: vec![0.001, 0.01, 0.1, 1.0],
    };
    for series in [1_000, 10_000, 50_000] {
        let mut accounts = 0;
        let catalog = loop {
            accounts += 1 + accounts / 8;
            let names: Vec<_> = (0..accounts).map(|number| (format!("a{number}"), 1)).collect();
            let catalog = Catalog::new(&options, &names, &LABEL_SETS).expect("the buckets ascend");
            for account in (0..accounts).map(metrics::AccountId) {
                for method in [Method::SymbolInfoTick, Method::AccountInfo, Method::PositionsGet] {
                    let calls = catalog.calls(account, method, "success");
                    calls.expect("the account is there").inc();
                }
            }
            let text = render(&catalog);
            let lines = text.split(|byte| *byte == b'\n');
            if lines.filter(|line| line.first() != Some(&b'#')).count() >= series {
                break catalog;
            }
        };
        criterion.bench_function(&format!("/metrics with {series} series"), |bencher| {
            bencher.iter(|| render(&catalog));
        });
    }
}

/// A measurement of the machine.
fn sampler(criterion: &mut Criterion) {
    let mut sensors = sensors(&[], &Watchlist::default());
    criterion.bench_function("sampler tick", |bencher| {
        bencher.iter(|| sensors.iter_mut().filter_map(|sensor| sensor.measure().ok()).count());
    });
}

criterion_group!(
    benches,
    routing_and_admission,
    session_round_trip,
    frames,
    bars,
    metrics,
    sampler,
    whole_way
);
criterion_main!(benches);
