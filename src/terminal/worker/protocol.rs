//! The frames between gateway and worker: a 4-byte big-endian length and
//! MessagePack. The worker's own documentation, at the top of `worker.py`,
//! describes their content.

mod lenient;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Options;
use super::process::BESIDE_PACKAGE;
use crate::clock::BootInstant;
use crate::mt5::{
    Answer, AnswerKind, Argument, Error, LoginCheck, Method, ParameterKind, Request, Row, Rows,
    SymbolUse, Version,
};
use crate::terminal::{Answered, Event, Failure};

/// Where a terminal is that is reached over the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Address {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { host, port } = self;
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}")
        } else {
            write!(formatter, "{host}:{port}")
        }
    }
}

/// How a terminal is reached over the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connect {
    /// The attribute that `module` names is called with the address.
    Attribute(Address),
    /// An RPyC classic server imports `module`.
    Rpyc(Address),
}

/// Appends a frame whose body `put` writes.
pub fn put_frame(buffer: &mut BytesMut, put: impl FnOnce(&mut BytesMut)) {
    let start = buffer.len();
    buffer.put_u32(0);
    put(buffer);
    let length = u32::try_from(buffer.len() - start - 4).expect("a call is far below 4 GiB");
    buffer[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_message(buffer: &mut BytesMut, message: &impl Serialize) {
    put_frame(buffer, |body| {
        message
            .serialize(&mut rmp_serde::Serializer::new(body.writer()).with_struct_map())
            .expect("these types always serialise, and a buffer takes what it is given");
    });
}

#[derive(Serialize)]
struct Hello<'a> {
    module: &'a str,
    connect: Option<&'a Address>,
    rpyc: Option<RpycServer<'a>>,
    login: u64,
    password: &'a str,
    server: &'a str,
    path: Option<&'a str>,
    portable: bool,
    /// Whether the gateway made the terminal's files. Then `path` is one of the gateway's system, and the
    /// terminal ends with the worker.
    provided: bool,
    /// Milliseconds.
    timeout: u64,
    methods: BTreeMap<&'static str, MethodRules>,
}

/// An RPyC server, and what it is to run.
#[derive(Serialize)]
struct RpycServer<'a> {
    host: &'a str,
    port: u16,
    /// How people write both.
    address: String,
    script: &'static str,
}

/// What the worker has to know of a method. It refuses to call any other.
#[derive(Serialize)]
struct MethodRules {
    /// Which positional arguments are times.
    times: Vec<usize>,
    /// The positional argument that is a symbol to be selected first.
    symbol: Option<usize>,
    /// Whether the account has to be compared afterwards.
    compares_account: bool,
    /// What the answer is.
    gives: &'static str,
}

impl RpycServer<'_> {
    fn of(address: &Address) -> RpycServer<'_> {
        RpycServer {
            host: &address.host,
            port: address.port,
            address: address.to_string(),
            script: BESIDE_PACKAGE,
        }
    }
}

impl MethodRules {
    fn of(method: Method) -> MethodRules {
        let kinds = || method.parameters().iter().enumerate();
        let is = |wanted| move |(_, kind): &(usize, &ParameterKind)| **kind == wanted;
        let rules = method.rules();
        let symbol = kinds().find(is(ParameterKind::Symbol)).map(|(index, _)| index);
        let gives = match method.reply() {
            AnswerKind::Done => "flag",
            AnswerKind::Total => "total",
            AnswerKind::Rates => "rates",
            AnswerKind::Ticks => "ticks",
            _ => "value",
        };
        MethodRules {
            times: kinds().filter(is(ParameterKind::Time)).map(|(index, _)| index).collect(),
            symbol: symbol.filter(|_| rules.symbol == SymbolUse::Selected),
            compares_account: rules.login == LoginCheck::Compared,
            gives,
        }
    }
}

/// Appends the first frame.
pub fn put_hello(buffer: &mut BytesMut, options: &Options) {
    let (connect, rpyc) = match &options.connect {
        None => (None, None),
        Some(Connect::Attribute(address)) => (Some(address), None),
        Some(Connect::Rpyc(address)) => (None, Some(RpycServer::of(address))),
    };
    let hello = Hello {
        module: &options.module,
        connect,
        rpyc,
        login: options.login,
        password: options.password.expose_secret(),
        server: &options.server,
        path: options.path.as_ref().and_then(|path| path.to_str()),
        portable: options.portable,
        provided: options.template.is_some(),
        timeout: u64::try_from(options.init_timeout.as_millis()).unwrap_or(u64::MAX),
        methods: Method::called().map(|method| (method.name(), MethodRules::of(method))).collect(),
    };
    put_message(buffer, &hello);
}

/// What a worker's clock showed at some moment between two of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// Nanoseconds of the worker's clock, which counts suspension as ours does.
    pub worker: u64,
    /// When the call was written whose answer brought the reading.
    pub written: BootInstant,
    /// When that answer was read.
    pub read: BootInstant,
}

impl ClockReading {
    /// The moment on the worker's clock, in nanoseconds.
    ///
    /// The worker read its clock somewhere between `written` and `read`. Taking the later end makes
    /// the result early by at most the distance of the two, and never late.
    pub fn translate(self, moment: BootInstant) -> u64 {
        let nanoseconds =
            |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if moment >= self.read {
            let ahead = moment.saturating_duration_since(self.read);
            self.worker.saturating_add(nanoseconds(ahead))
        } else {
            let behind = self.read.saturating_duration_since(moment);
            self.worker.saturating_sub(nanoseconds(behind))
        }
    }
}

/// Appends a call. `send_by`: until when a trade may be sent, nanoseconds of the worker's clock.
pub fn put_call(buffer: &mut BytesMut, id: u64, request: &Request, send_by: Option<u64>) {
    let mut arguments = request.arguments();
    arguments.positional.extend(send_by.map(Argument::Unsigned));
    let named: BTreeMap<_, _> = arguments.named.into_iter().collect();
    put_message(buffer, &(id, request.method().name(), &arguments.positional[..], named));
}

#[derive(Deserialize)]
struct Greeting {
    python: String,
    module: String,
    version: String,
}

/// Reads the worker's first frame.
///
/// # Errors
/// What is wrong with it.
pub fn read_hello(frame: &Bytes) -> Result<Event, String> {
    let greeting: Greeting = rmp_serde::from_slice(frame)
        .map_err(|error| format!("the worker's first frame is no greeting: {error}"))?;
    Ok(Event::Started(format!(
        "Python {}, {} {}",
        greeting.python, greeting.module, greeting.version
    )))
}

/// An answer, and what the worker's clock showed if it says so.
#[derive(Debug)]
pub struct Frame {
    /// The answer.
    pub answered: Answered,
    /// Nanoseconds.
    pub clock: Option<u64>,
}

/// Reads an answer to the call that is `expected` next.
///
/// # Errors
/// What is wrong with it, where it cannot be the answer to that call.
pub fn read_answer(frame: &Bytes, expected: Option<(u64, Method)>) -> Result<Frame, String> {
    let mut rest = &frame[..];
    let fault = |error: &dyn std::fmt::Display| format!("the worker's frame is no answer: {error}");
    let items = rmp::decode::read_array_len(&mut rest).map_err(|error| fault(&error))?;
    if !matches!(items, 3 | 4) {
        return Err(fault(&format_args!("it has {items} items instead of 3 or 4")));
    }
    let id: u64 = rmp::decode::read_int(&mut rest).map_err(|error| fault(&error))?;
    let status: u8 = rmp::decode::read_int(&mut rest).map_err(|error| fault(&error))?;
    // Before the payload, so that it can be read without that.
    let clock = match items {
        4 => Some(rmp::decode::read_int(&mut rest).map_err(|error| fault(&error))?),
        _ => None,
    };
    let Some((expected, method)) = expected else {
        return Err(format!("the worker answered call {id} although none was under way"));
    };
    if id != expected {
        return Err(format!("the worker answered call {id} when {expected} was next"));
    }
    let result = match status {
        0 => read_payload(frame, rest, method).map_err(|error| {
            Failure::Unusable(format!("the terminal's answer to {method} is unusable: {error}"))
        }),
        1 => {
            let (code, message): (i64, String) =
                record(rest, method).map_err(|error| fault(&error))?;
            Err(Failure::Mt5(Error { code, message }))
        }
        2 => Err(Failure::Unusable(record(rest, method).map_err(|error| fault(&error))?)),
        3 => Err(Failure::Withdrawn),
        4 => Err(Failure::OtherAccount(record(rest, method).map_err(|error| fault(&error))?)),
        _ => return Err(fault(&format_args!("its status {status} is unknown"))),
    };
    Ok(Frame { answered: Answered { id, at: Instant::now(), result }, clock })
}

type Decoded = Result<Answer, String>;

fn read_payload(frame: &Bytes, payload: &[u8], method: Method) -> Decoded {
    match method.reply() {
        AnswerKind::Done => match decode(payload)? {
            true => Ok(Answer::Done(())),
            false => Err("it is False without an error".to_owned()),
        },
        AnswerKind::Total => decode(payload).map(Answer::Total),
        AnswerKind::Amount => decode(payload).map(Answer::Amount),
        AnswerKind::Version => record(payload, method).map(|(version, build, release_date)| {
            Answer::Version(Version { version, build, release_date })
        }),
        AnswerKind::LastError => record(payload, method).map(Answer::LastError),
        AnswerKind::AccountInfo => record(payload, method).map(Answer::AccountInfo),
        AnswerKind::TerminalInfo => record(payload, method).map(Answer::TerminalInfo),
        AnswerKind::Symbols => list(payload, method).map(Answer::Symbols),
        AnswerKind::SymbolInfo => record(payload, method).map(Answer::SymbolInfo),
        AnswerKind::Tick => record(payload, method).map(Answer::Tick),
        AnswerKind::Book => list(payload, method).map(Answer::Book),
        AnswerKind::Rates => rows(frame, payload).map(Answer::Rates),
        AnswerKind::Ticks => rows(frame, payload).map(Answer::Ticks),
        AnswerKind::Orders => list(payload, method).map(Answer::Orders),
        AnswerKind::Positions => list(payload, method).map(Answer::Positions),
        AnswerKind::Deals => list(payload, method).map(Answer::Deals),
        AnswerKind::OrderCheck => record(payload, method).map(Answer::OrderCheck),
        AnswerKind::OrderSend => record(payload, method).map(Answer::OrderSend),
    }
}

/// Decodes an answer that is one flag or number: what is odd about it cannot be marked.
fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(payload).map_err(|error| error.to_string())
}

/// Decodes one record. Odd fields are repaired in a second pass, so that usual answers
/// pay nothing for it.
fn record<T: DeserializeOwned>(payload: &[u8], method: Method) -> Result<T, String> {
    rmp_serde::from_slice(payload).or_else(|_| lenient::record(payload, method))
}

/// Decodes a list of records, like [`record`].
fn list<T: DeserializeOwned>(payload: &[u8], method: Method) -> Result<Vec<T>, String> {
    rmp_serde::from_slice(payload).or_else(|_| lenient::list(payload, method))
}

/// The rows inside the frame, without a copy.
fn rows<R: Row>(frame: &Bytes, mut payload: &[u8]) -> Result<Rows<R>, String> {
    let length = rmp::decode::read_bin_len(&mut payload).map_err(|error| error.to_string())?;
    let body = payload
        .get(..length as usize)
        .ok_or_else(|| format!("it ends before its {length} bytes"))?;
    Rows::from_bytes(frame.slice_ref(body))
        .map_err(|length| format!("{length} bytes are no whole rows of {} bytes", R::SIZE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whenever the worker read its clock between the two moments, it never sends later than
        /// it may, and is early by at most the uncertainty.
        #[test]
        fn a_moment_on_the_workers_clock_is_never_late(
            offset in 0u64..1 << 40,
            written in 0u64..1 << 40,
            round_trip in 0u64..1 << 32,
            part in 0.0f64..=1.0,
            ahead in 0u64..1 << 40,
        ) {
            let at = |nanoseconds| BootInstant::from_boot(Duration::from_nanos(nanoseconds));
            let read_by_worker = written + (round_trip as f64 * part) as u64;
            let reading = ClockReading {
                worker: read_by_worker + offset,
                written: at(written),
                read: at(written + round_trip),
            };
            let translated = reading.translate(at(written + ahead));
            let exact = written + ahead + offset;
            prop_assert!(translated <= exact);
            prop_assert!(exact - translated <= round_trip);
        }

        #[test]
        fn no_bytes_panic_the_decoder(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            method in 0..Method::ALL.len(),
        ) {
            let expected = Some((7, Method::ALL[method]));
            let _ = read_hello(&Bytes::from(bytes.clone()));
            let _ = read_answer(&Bytes::from(bytes.clone()), expected);
            // Past the head of the frame, where the records are.
            for status in 0..3 {
                let frame = [&[0x93, 7, status][..], &bytes[..]].concat();
                let _ = read_answer(&Bytes::from(frame), expected);
            }
        }
    }

    /// The methods of which something holds, with what it is.
    fn ruled<T>(of: impl Fn(MethodRules) -> Option<T>) -> Vec<(&'static str, T)> {
        let rules = Method::called().map(|method| (method.name(), of(MethodRules::of(method))));
        rules.filter_map(|(name, rule)| Some((name, rule?))).collect()
    }

    #[test]
    fn times_become_datetimes_where_the_package_takes_them() {
        let times = ruled(|rules| (!rules.times.is_empty()).then_some(rules.times));
        let expected = [
            ("copy_rates_from", vec![2]),
            ("copy_rates_range", vec![2, 3]),
            ("copy_ticks_from", vec![1]),
            ("copy_ticks_range", vec![1, 2]),
            ("history_orders_total", vec![0, 1]),
            ("history_orders_get", vec![0, 1]),
            ("history_deals_total", vec![0, 1]),
            ("history_deals_get", vec![0, 1]),
        ];
        assert_eq!(times, expected);
    }

    #[test]
    fn prices_and_calculations_need_their_symbol_in_market_watch() {
        let expected = [
            ("symbol_info_tick", 0),
            ("market_book_add", 0),
            ("market_book_get", 0),
            ("copy_rates_from", 0),
            ("copy_rates_from_pos", 0),
            ("copy_rates_range", 0),
            ("copy_ticks_from", 0),
            ("copy_ticks_range", 0),
            ("order_calc_margin", 1),
            ("order_calc_profit", 1),
        ];
        assert_eq!(ruled(|rules| rules.symbol), expected);
    }

    #[test]
    fn the_worker_knows_what_each_method_gives() {
        let gives = |what| -> Vec<&'static str> {
            let ruled = ruled(|rules| (rules.gives == what).then_some(()));
            ruled.into_iter().map(|(name, ())| name).collect()
        };
        let flags = ["initialize", "symbol_select", "market_book_add", "market_book_release"];
        assert_eq!(gives("flag"), flags);
        assert!(gives("total").iter().all(|name| name.ends_with("_total")));
        assert_eq!(gives("total").len(), 5);
        assert!(gives("rates").iter().all(|name| name.starts_with("copy_rates")));
        assert_eq!(gives("rates").len(), 3);
        assert_eq!(gives("ticks"), ["copy_ticks_from", "copy_ticks_range"]);
    }

    #[test]
    fn an_error_with_an_odd_message_keeps_its_code() {
        // [7, 1, [-4, "\xff"]]
        let frame = Bytes::from_static(&[0x93, 7, 1, 0x92, 0xfc, 0xa1, 0xff]);
        let answered = read_answer(&frame, Some((7, Method::SymbolInfo))).unwrap();
        match answered.answered.result {
            Err(Failure::Mt5(error)) => {
                assert_eq!((error.code, error.message.as_str()), (-4, "\u{fffd}"));
            }
            other => panic!("{other:?}"),
        }
    }
}
