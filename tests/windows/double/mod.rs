//! The broker behind `terminal64.exe`, which also decides what the terminal answers. It is the project's own
//! simulator, with faults on demand.

mod codec;
mod layouts;

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mt5_gateway::clock::BootInstant;
use mt5_gateway::mt5::{
    Answer, Error, Method, OrderSendResult, Request, Selection, TerminalInfo, TradeRequest, Version,
};
use mt5_gateway::terminal::simulator::{Launcher, MarginMode, Options};
use mt5_gateway::terminal::{Event, Failure, Launch, SubmittedCall, Terminal};
use serde_json::json;

use codec::{Asked, LOGIN_REFUSED, READY};
use layouts::Layouts;

/// Commands between `terminal64.exe` and here; see its source.
const HELLO: u32 = 0xffff_ffff;
const DIE: u32 = 0xffff_fffe;

/// The package wants a terminal of at least its own build for `symbols_get`.
const BUILD: u32 = 6_231;

/// What a reply's code says when the call worked; negative ones become `last_error`.
const SUCCESS: i32 = 1;

/// `TRADE_RETCODE_PLACED`, `_DONE` and `_DONE_PARTIAL`: something happened.
const EXECUTED: RangeInclusive<i64> = 10_008..=10_010;
/// `TRADE_RETCODE_*`
const CLIENT_DISABLES_AT: i64 = 10_027;
const CONNECTION: i64 = 10_031;

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// It is never answered, and not carried out.
    Never,
    /// The terminal's process ends without having carried it out.
    DiesBefore,
    /// The terminal's process ends after it was carried out.
    DiesAfter,
    /// It is carried out at once and answered so much later.
    Late(Duration),
    /// It is carried out, and answered with this error of the package all the same.
    Error(i32),
    /// A trade is refused with this return code.
    Retcode(i64),
}

/// What the terminal is like. A test changes it while terminals run.
pub struct Switches {
    /// The account that the broker knows.
    pub login: u64,
    /// The password of the account, if a login needs the right one.
    pub password: Option<String>,
    /// The account that the terminal shows, if it is another one.
    pub shows: Option<u64>,
    pub refuses_login: bool,
    pub connected: bool,
    pub auto_trading: bool,
    /// What goes wrong with each call of a method. `initialize` is every connection's beginning.
    pub faults: HashMap<Method, Fault>,
    /// What goes wrong with a trade, if nothing goes wrong with each.
    pub trade_fault: Option<fn(&TradeRequest) -> Option<Fault>>,
    /// Where every trade that was asked for (`.sends`) and every one that was carried out (`.books`) is
    /// noted, as a JSON object each.
    pub books: Option<PathBuf>,
}

struct Simulator {
    terminal: Box<dyn Terminal>,
    later: mpsc::Receiver<Event>,
    calls: u64,
}

struct Shared {
    switches: Mutex<Switches>,
    simulator: Mutex<Simulator>,
    /// What each terminal's start configuration allows, by its folder.
    configured: Mutex<HashMap<String, Configured>>,
    layouts: Layouts,
    runtime: tokio::runtime::Runtime,
    /// Open connections of terminals: one for each process, and one for each of its pipe's clients.
    open: AtomicUsize,
    /// Whether the double was dropped.
    is_over: AtomicBool,
    /// What went wrong in here. A test that expects faults must not take it for one of its own.
    panicked: AtomicBool,
}

/// A broker and what its terminals decide. Dropping it ends every `terminal64.exe` that belongs to it.
pub struct Double {
    shared: Arc<Shared>,
    port: u16,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Double {
    /// The broker of one hedging account with 100,000 USD.
    pub fn start(login: u64, server: &str, seed: u64) -> Double {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let options = Options {
            login,
            server: server.to_owned(),
            seed,
            balance: 100_000.0,
            margin_mode: MarginMode::Hedging,
            commission: 0.0,
            bars: Default::default(),
            latency: Duration::ZERO,
            faults: Default::default(),
        };
        let (events, later) = mpsc::channel();
        let terminal = {
            let _entered = runtime.enter();
            Launcher::new(options).launch(
                0,
                Arc::default(),
                Arc::new(move |event| drop(events.send(event))),
            )
        };
        let switches = Switches {
            login,
            password: None,
            shows: None,
            refuses_login: false,
            connected: true,
            auto_trading: true,
            faults: HashMap::new(),
            trade_fault: None,
            books: None,
        };
        let shared = Arc::new(Shared {
            switches: Mutex::new(switches),
            simulator: Mutex::new(Simulator { terminal, later, calls: 0 }),
            configured: Mutex::default(),
            layouts: Layouts::load(),
            runtime,
            open: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (serving, all) = (shared.clone(), connections.clone());
        std::thread::spawn(move || {
            for terminal in listener.incoming().map_while(Result::ok) {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let _ = terminal.set_nodelay(true);
                all.lock().unwrap().push(terminal.try_clone().unwrap());
                let shared = serving.clone();
                shared.open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let serve = AssertUnwindSafe(|| shared.serve(terminal));
                    if catch_unwind(serve).is_err() {
                        shared.panicked.store(true, Ordering::SeqCst);
                    }
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Double { shared, port, connections }
    }

    /// Puts a terminal into a folder: a copy of the program, and whom it asks.
    pub fn install(&self, folder: &Path, program: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::copy(program, folder.join("terminal64.exe")).unwrap();
        std::fs::write(folder.join("broker.txt"), self.port.to_string()).unwrap();
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Switches) -> T) -> T {
        change(&mut self.shared.switches.lock().unwrap())
    }

    /// Open connections: one for each terminal's process, and one for each client of its pipe.
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// What the simulator says to a call, past the package.
    pub fn ask(&self, request: Request) -> Result<Answer, Error> {
        self.shared.ask(request)
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the listener, which then ends: a terminal that starts later finds nobody.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        let panicked = self.shared.panicked.load(Ordering::SeqCst);
        assert!(!panicked || std::thread::panicking(), "the double panicked, as written above");
    }
}

/// What a terminal's `config/common.ini` allows.
#[derive(Debug, Clone, PartialEq)]
pub struct Configured {
    /// Whether it allows experts to trade, also once the account has changed.
    pub experts: bool,
    /// Whether it refuses trades of the package.
    pub api_disabled: bool,
    pub max_bars: i64,
}

/// A text in UTF-16, after its byte order mark.
fn text_of(file: &[u8]) -> String {
    let units: Vec<u16> =
        file[2..].chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    String::from_utf16(&units).unwrap()
}

impl Configured {
    /// `None`: the terminal would not start with this file, or would not open its pipe.
    fn read(file: &[u8], command_line: &str) -> Option<Configured> {
        if !file.starts_with(&[0xff, 0xfe]) {
            return None;
        }
        let text = text_of(file);
        let (mut section, mut settings) = ("", HashMap::new());
        for line in text.split("\r\n").filter(|line| !line.is_empty()) {
            match line.split_once('=') {
                Some((name, value)) => _ = settings.insert((section, name), value),
                None => section = line,
            }
        }
        let value = |section, name| settings.get(&(section, name)).copied().unwrap_or_default();
        let is_portable = command_line.to_lowercase().contains("/portable");
        if !is_portable
            || command_line.contains("/config:")
            || value("[Common]", "Login").is_empty()
        {
            return None;
        }
        Some(Configured {
            experts: value("[Experts]", "Enabled") == "1"
                && value("[Experts]", "AllowLiveTrading") == "1"
                && value("[Experts]", "Account") == "0",
            api_disabled: value("[Experts]", "Api") != "0",
            max_bars: value("[Charts]", "MaxBars").parse().ok()?,
        })
    }
}

impl Shared {
    /// A terminal's process has started. `false`: it ends at once. Without a start configuration it takes
    /// what the switches say.
    fn begin(&self, folder: &str, command_line: &str) -> bool {
        let path = folder.strip_prefix("Z:").unwrap_or(folder).replace('\\', "/");
        let file = Path::new(&path).join("config/common.ini");
        let Ok(content) = std::fs::read(&file) else {
            return true;
        };
        let Some(configured) = Configured::read(&content, command_line) else {
            return false;
        };
        self.configured.lock().unwrap().insert(folder.to_owned(), configured);
        // The terminal writes it, too: this is what a user leaves who has switched trading off.
        let left: Vec<u8> = text_of(&content)
            .replace("Enabled=1", "Enabled=0")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        std::fs::write(file, [&[0xff, 0xfe], &left[..]].concat()).unwrap();
        true
    }

    /// Answers one connection of a terminal until it closes.
    fn serve(&self, terminal: TcpStream) {
        let mut folder = String::new();
        if self.converse(terminal, &mut folder) {
            self.configured.lock().unwrap().remove(&folder);
        }
    }

    /// Gives whether it was the first connection of a terminal's process, which ends with the process.
    fn converse(&self, mut terminal: TcpStream, folder: &mut String) -> bool {
        let mut is_first = false;
        while let Some((command, body)) = read_frame(&mut terminal) {
            if command == HELLO {
                let units: Vec<u16> = body
                    .chunks_exact(2)
                    .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                    .collect();
                let text = String::from_utf16_lossy(&units);
                let (path, command_line) = text.split_once('\n').unwrap_or((&text, ""));
                *folder = path.to_owned();
                is_first = !self.configured.lock().unwrap().contains_key(folder);
                if is_first && !self.begin(folder, command_line) {
                    // The process ends with this connection.
                    return true;
                }
                continue;
            }
            let asked = codec::decode(command, &body)
                .unwrap_or_else(|| panic!("command {command} was not seen before: {body:x?}"));
            let reply = match self.reply(asked, folder) {
                Told::Reply(code, data) => [&code.to_le_bytes(), &data[..]].concat(),
                Told::Nothing => loop {
                    std::thread::park();
                },
                Told::Death => {
                    let _ = write_frame(&mut terminal, DIE, &[]);
                    return is_first;
                }
            };
            if write_frame(&mut terminal, command, &reply).is_err() {
                return is_first;
            }
        }
        is_first
    }

    fn reply(&self, asked: Asked, folder: &str) -> Told {
        let method = match &asked {
            Asked::Hello | Asked::Login { .. } | Asked::Progress => Method::Initialize,
            Asked::Call(request) => request.method(),
        };
        let fault = {
            let switches = self.switches.lock().unwrap();
            match (switches.faults.get(&method), &asked) {
                (Some(fault), _) => Some(*fault),
                (None, Asked::Call(Request::OrderSend { request })) => {
                    note(&switches, "sends", || {
                        let mut note = serde_json::to_value(request).unwrap();
                        note["at"] = json!(BootInstant::now().since_boot().as_secs_f64());
                        note
                    });
                    switches.trade_fault.and_then(|fault| fault(request))
                }
                _ => None,
            }
        };
        match fault {
            Some(Fault::Never) => return Told::Nothing,
            Some(Fault::DiesBefore) => return Told::Death,
            Some(Fault::Retcode(retcode)) => {
                let refusal = OrderSendResult { retcode, ..OrderSendResult::default() };
                let answer = Answer::OrderSend(Box::new(refusal));
                return Told::Reply(SUCCESS, codec::encode(&self.layouts, &answer));
            }
            _ => {}
        }
        let told = self.carry_out(asked, folder);
        match fault {
            Some(Fault::DiesAfter) => Told::Death,
            Some(Fault::Error(code)) => Told::Reply(code, vec![]),
            Some(Fault::Late(delay)) => {
                std::thread::sleep(delay);
                told
            }
            _ => told,
        }
    }

    fn carry_out(&self, asked: Asked, folder: &str) -> Told {
        let number = |number: u32| Told::Reply(SUCCESS, number.to_le_bytes().to_vec());
        let request = match asked {
            Asked::Hello => return number(BUILD),
            Asked::Login { login, password, .. } => {
                let mut switches = self.switches.lock().unwrap();
                let is_right = switches.password.as_ref().is_none_or(|right| *right == password);
                switches.refuses_login |= login != switches.login || !is_right;
                return Told::Reply(SUCCESS, vec![]);
            }
            Asked::Progress => {
                let refuses = self.switches.lock().unwrap().refuses_login;
                return number(if refuses { LOGIN_REFUSED } else { READY });
            }
            Asked::Call(request) => request,
        };
        let is_single = codec::single(&request).is_some();
        match self.answer(request, folder) {
            Ok(answer) => {
                let data = codec::encode(&self.layouts, &answer);
                // A record that was asked for by its ticket comes without a count.
                Told::Reply(SUCCESS, data[if is_single { 4 } else { 0 }..].to_vec())
            }
            Err(error) => Told::Reply(i32::try_from(error.code).unwrap(), vec![]),
        }
    }

    /// What the simulator says, as the switches are.
    fn answer(&self, request: Request, folder: &str) -> Result<Answer, Error> {
        if let Request::OrderSend { request } = &request
            && let Some(retcode) = self.refusal(folder)
        {
            let request = (**request).clone();
            let refusal = OrderSendResult { retcode, request, ..OrderSendResult::default() };
            return Ok(Answer::OrderSend(Box::new(refusal)));
        }
        if let Some(ticket) = codec::single(&request) {
            // One record, or none; of the history of deals that with the deal's own ticket.
            return self.single(request, ticket);
        }
        let mut answer = self.ask(request.clone())?;
        let configured = self.configured.lock().unwrap().get(folder).cloned();
        let switches = self.switches.lock().unwrap();
        match (&request, &mut answer) {
            (_, Answer::Version(version)) => {
                *version = Version { build: BUILD.into(), ..std::mem::take(version) };
            }
            (_, Answer::AccountInfo(account)) => {
                account.login = switches.shows.unwrap_or(account.login);
            }
            (_, Answer::TerminalInfo(terminal)) => {
                **terminal = TerminalInfo {
                    connected: switches.connected,
                    trade_allowed: switches.auto_trading
                        && configured.as_ref().is_none_or(|configured| configured.experts),
                    tradeapi_disabled: configured.as_ref().is_some_and(|of| of.api_disabled),
                    maxbars: configured.map_or(terminal.maxbars, |configured| configured.max_bars),
                    build: BUILD.into(),
                    path: folder.to_owned(),
                    data_path: folder.to_owned(),
                    ..std::mem::take(&mut **terminal)
                };
            }
            (Request::OrderSend { request }, Answer::OrderSend(result))
                if EXECUTED.contains(&result.retcode) =>
            {
                let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
                note(&switches, "books", || json!({"time": time, "request": request}));
            }
            _ => {}
        }
        Ok(answer)
    }

    fn single(&self, request: Request, ticket: u64) -> Result<Answer, Error> {
        let everything = match request {
            Request::HistoryDealsGet { date_from, date_to, .. } => {
                Request::HistoryDealsGet { date_from, date_to, selection: Selection::All }
            }
            other => other,
        };
        let mut answer = self.ask(everything)?;
        let found = match &mut answer {
            Answer::Orders(orders) => orders.iter().any(|order| order.ticket == ticket),
            Answer::Positions(positions) => positions.iter().any(|open| open.ticket == ticket),
            Answer::Deals(deals) => {
                deals.retain(|deal| deal.ticket == ticket);
                !deals.is_empty()
            }
            other => panic!("{other:?} has no ticket"),
        };
        if found { Ok(answer) } else { Err(Error::not_found("Not found")) }
    }

    /// Why no trade is possible.
    fn refusal(&self, folder: &str) -> Option<i64> {
        let configured = self.configured.lock().unwrap().get(folder).cloned();
        let is_configured = configured.is_none_or(|of| of.experts && !of.api_disabled);
        let switches = self.switches.lock().unwrap();
        let connection = (!switches.connected).then_some(CONNECTION);
        let is_off = !switches.auto_trading || !is_configured;
        connection.or(is_off.then_some(CLIENT_DISABLES_AT))
    }

    fn ask(&self, request: Request) -> Result<Answer, Error> {
        let mut simulator = self.simulator.lock().unwrap();
        let _entered = self.runtime.enter();
        simulator.calls += 1;
        let call = SubmittedCall { id: simulator.calls, request, send_by: None };
        let answered = match simulator.terminal.submit(call, true) {
            Some(answered) => answered,
            None => loop {
                match simulator.later.recv().unwrap() {
                    Event::Answered(mut answers) => break answers.remove(0),
                    Event::Process(_) | Event::Files(_) | Event::Started(_) => {}
                    Event::Ended(ending) => panic!("the simulator ended: {ending}"),
                }
            },
        };
        answered.result.map_err(|failure| match failure {
            Failure::Mt5(error) => error,
            other => panic!("{other}"),
        })
    }
}

enum Told {
    Reply(i32, Vec<u8>),
    Nothing,
    Death,
}

fn note(switches: &Switches, name: &str, note: impl FnOnce() -> serde_json::Value) {
    if let Some(books) = &switches.books {
        let file = OpenOptions::new().create(true).append(true).open(books.with_extension(name));
        // As a whole: a test may read the file meanwhile.
        file.unwrap().write_all(format!("{}\n", note()).as_bytes()).unwrap();
    }
}

fn read_frame(terminal: &mut TcpStream) -> Option<(u32, Vec<u8>)> {
    let (mut length, mut command) = ([0; 4], [0; 4]);
    terminal.read_exact(&mut length).ok()?;
    terminal.read_exact(&mut command).ok()?;
    let mut body = vec![0; u32::from_le_bytes(length) as usize - 4];
    terminal.read_exact(&mut body).ok()?;
    Some((u32::from_le_bytes(command), body))
}

fn write_frame(terminal: &mut TcpStream, command: u32, body: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(body.len() + 4).unwrap();
    terminal.write_all(&[&length.to_le_bytes(), &command.to_le_bytes(), body].concat())
}
