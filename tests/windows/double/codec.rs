//! What the package writes into a terminal's pipe, and what it reads from it.

use mt5_gateway::mt5::{
    Answer, CopyTicks, Request, Selection, ServerTime, SymbolName, Ticket, Timeframe, TradeRequest,
};
use serde_json::Value;

use super::layouts::Layouts;

/// What is asked of a terminal.
#[derive(Debug, PartialEq)]
pub enum Asked {
    /// The first of a connection: the package's version of the protocol, and its name.
    Hello,
    /// To log in to an account, with a password if the terminal does not know it.
    Login { login: u64, password: String, server: String },
    /// How far the connection to the broker is. Asked every 100 ms until it is there.
    Progress,
    /// What a function of the package asks.
    Call(Request),
}

/// The replies to [`Asked::Progress`] that are known.
pub const READY: u32 = 2;
pub const LOGIN_REFUSED: u32 = 3;

/// Reads a body's fields in their order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn f64(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }

    fn seconds(&mut self) -> Option<ServerTime> {
        self.i64().map(ServerTime::from_seconds)
    }

    fn milliseconds(&mut self) -> Option<ServerTime> {
        self.i64().map(|time| ServerTime::from_seconds(time.div_euclid(1000)))
    }

    fn utf16(&mut self, units: usize) -> Option<String> {
        let (text, rest) = self.0.split_at_checked(2 * units)?;
        self.0 = rest;
        let units: Vec<u16> =
            text.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
        let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
        String::from_utf16(&units[..end]).ok()
    }

    /// A text after its length.
    fn text(&mut self) -> Option<String> {
        let units = self.u32()? as usize;
        self.utf16(units)
    }

    fn symbol(&mut self) -> Option<SymbolName> {
        SymbolName::parse(&self.text()?)
    }

    fn timeframe(&mut self) -> Option<Timeframe> {
        Timeframe::parse(&self.u32()?.to_string())
    }

    fn flags(&mut self) -> Option<CopyTicks> {
        CopyTicks::parse(&self.u32()?.cast_signed().to_string())
    }

    fn ticket(&mut self) -> Option<Ticket> {
        self.u64().map(Ticket::new)
    }

    fn trade(&mut self) -> Option<Box<TradeRequest>> {
        let request = TradeRequest {
            action: self.u32()?.into(),
            magic: self.i64()?,
            order: self.u64()?,
            symbol: self.utf16(32)?,
            volume: self.f64()?,
            price: self.f64()?,
            stoplimit: self.f64()?,
            sl: self.f64()?,
            tp: self.f64()?,
            deviation: self.u64()?,
            r#type: self.u32()?.into(),
            type_filling: self.u32()?.into(),
            type_time: self.u32()?.into(),
            expiration: self.i64()?,
            comment: self.utf16(32)?,
            position: self.u64()?,
            position_by: self.u64()?,
        };
        Some(Box::new(request))
    }
}

/// Decodes a command. `None`: it is not one that was seen.
pub fn decode(command: u32, body: &[u8]) -> Option<Asked> {
    let mut fields = Fields(body);
    let of = &mut fields;
    let always = ServerTime::from_seconds(0);
    let ever = ServerTime::from_seconds(u32::MAX.into());
    let request = match command {
        4 => {
            of.u32()?;
            of.text()?;
            return of.0.is_empty().then_some(Asked::Hello);
        }
        5 => {
            // What the first number is was not found out: it was always 0.
            of.u32()?;
            let (login, password, server) = (of.u64()?, of.text()?, of.text()?);
            return Some(Asked::Login { login, password, server });
        }
        109 => return Some(Asked::Progress),
        1 => {
            of.u32()?;
            Request::Version
        }
        104 => Request::CopyTicksFrom {
            symbol: of.symbol()?,
            date_from: of.milliseconds()?,
            count: of.u32()?,
            flags: of.flags()?,
        },
        105 => Request::CopyTicksRange {
            symbol: of.symbol()?,
            date_from: of.milliseconds()?,
            date_to: of.milliseconds()?,
            flags: of.flags()?,
        },
        106 => Request::CopyRatesFrom {
            symbol: of.symbol()?,
            timeframe: of.timeframe()?,
            date_from: of.seconds()?,
            count: of.u32()?,
        },
        107 => Request::CopyRatesRange {
            symbol: of.symbol()?,
            timeframe: of.timeframe()?,
            date_from: of.seconds()?,
            date_to: of.seconds()?,
        },
        108 => Request::CopyRatesFromPos {
            symbol: of.symbol()?,
            timeframe: of.timeframe()?,
            start_pos: of.u32()?,
            count: of.u32()?,
        },
        120 => Request::PositionsTotal,
        121 => Request::PositionsGet { selection: Selection::All },
        122 => Request::PositionsGet { selection: Selection::Symbol(of.text()?) },
        123 => Request::PositionsGet { selection: Selection::Ticket(of.ticket()?) },
        130 => Request::OrdersTotal,
        131 => Request::OrdersGet { selection: Selection::All },
        132 => Request::OrdersGet { selection: Selection::Symbol(of.text()?) },
        133 => Request::OrdersGet { selection: Selection::Ticket(of.ticket()?) },
        140 => Request::HistoryOrdersTotal { date_from: of.seconds()?, date_to: of.seconds()? },
        150 => Request::HistoryDealsTotal { date_from: of.seconds()?, date_to: of.seconds()? },
        141..=143 | 151..=153 => {
            let (date_from, date_to, selection) = match command % 10 {
                1 => (of.seconds()?, of.seconds()?, Selection::All),
                2 => (always, ever, Selection::Position(of.ticket()?)),
                _ => (always, ever, Selection::Ticket(of.ticket()?)),
            };
            match command {
                141..=143 => Request::HistoryOrdersGet { date_from, date_to, selection },
                _ => Request::HistoryDealsGet { date_from, date_to, selection },
            }
        }
        160 => Request::OrderCheck { request: of.trade()? },
        161 => Request::OrderSend { request: of.trade()? },
        162 => Request::OrderCalcMargin {
            action: of.u32()?.into(),
            symbol: of.symbol()?,
            volume: of.f64()?,
            price: of.f64()?,
        },
        163 => Request::OrderCalcProfit {
            action: of.u32()?.into(),
            symbol: of.symbol()?,
            volume: of.f64()?,
            price_open: of.f64()?,
            price_close: of.f64()?,
        },
        170 => Request::SymbolInfo { symbol: of.symbol()? },
        171 => {
            let (symbol, [enable]) = (of.symbol()?, of.take()?);
            Request::SymbolSelect { symbol, enable: enable != 0 }
        }
        172 => Request::SymbolInfoTick { symbol: of.symbol()? },
        173 => Request::SymbolsTotal,
        174 => Request::SymbolsGet { group: None },
        175 => Request::SymbolsGet { group: Some(of.text()?) },
        180 => Request::TerminalInfo,
        190 => Request::AccountInfo,
        191 => Request::MarketBookAdd { symbol: of.symbol()? },
        192 => Request::MarketBookRelease { symbol: of.symbol()? },
        193 => Request::MarketBookGet { symbol: of.symbol()? },
        _ => return None,
    };
    of.0.is_empty().then_some(Asked::Call(request))
}

/// The ticket by which one record is asked for.
pub fn single(request: &Request) -> Option<u64> {
    match request {
        Request::PositionsGet { selection: Selection::Ticket(ticket) }
        | Request::OrdersGet { selection: Selection::Ticket(ticket) }
        | Request::HistoryOrdersGet { selection: Selection::Ticket(ticket), .. }
        | Request::HistoryDealsGet { selection: Selection::Ticket(ticket), .. } => {
            Some(ticket.get())
        }
        _ => None,
    }
}

/// Encodes an answer as the data of a reply.
pub fn encode(layouts: &Layouts, answer: &Answer) -> Vec<u8> {
    let record = |name: &str| match serde_json::to_value(answer).unwrap() {
        Value::Object(fields) => layouts.encode(name, &fields),
        Value::Array(records) => {
            let mut bytes = u32::try_from(records.len()).unwrap().to_le_bytes().to_vec();
            for fields in &records {
                bytes.extend(layouts.encode(name, fields.as_object().unwrap()));
            }
            bytes
        }
        other => panic!("{name} is no record: {other}"),
    };
    let rows = |rows: &[u8], size: usize| {
        let count = u32::try_from(rows.len() / size).unwrap();
        [&count.to_le_bytes(), rows].concat()
    };
    match answer {
        Answer::Done(()) => vec![],
        Answer::Total(total) => u32::try_from(*total).unwrap().to_le_bytes().to_vec(),
        Answer::Amount(amount) => amount.to_le_bytes().to_vec(),
        Answer::Version(version) => {
            let date: Vec<u16> = version.release_date.encode_utf16().collect();
            let head = [version.version as u32, version.build as u32, date.len() as u32];
            let head = head.into_iter().flat_map(u32::to_le_bytes);
            head.chain(date.into_iter().flat_map(u16::to_le_bytes)).collect()
        }
        Answer::Rates(bars) => rows(bars.as_bytes(), 60),
        Answer::Ticks(ticks) => rows(ticks.as_bytes(), 60),
        Answer::Tick(_) => record("tick"),
        Answer::Book(_) => record("book"),
        Answer::TerminalInfo(_) => record("terminal"),
        Answer::AccountInfo(_) => record("account"),
        Answer::SymbolInfo(_) | Answer::Symbols(_) => record("symbol"),
        Answer::Orders(_) => record("order"),
        Answer::Positions(_) => record("position"),
        Answer::Deals(_) => record("deal"),
        Answer::OrderCheck(_) => record("order_check"),
        Answer::OrderSend(_) => record("order_send"),
        Answer::LastError(_) => panic!("the package answers last_error itself"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    }

    const EURUSD: &str = "06000000450055005200550053004400";

    #[test]
    fn what_the_package_was_seen_to_write_is_understood() {
        let symbol = || SymbolName::parse("EURUSD").unwrap();
        let (date_from, date_to) =
            (ServerTime::from_seconds(1_700_000_000), ServerTime::from_seconds(1_700_003_600));
        let seconds = "00f153650000000010ff536500000000";
        for (command, body, expected) in [
            (
                106,
                format!("{EURUSD}0140000000f153650000000007000000"),
                Request::CopyRatesFrom {
                    symbol: symbol(),
                    timeframe: Timeframe::H1,
                    date_from,
                    count: 7,
                },
            ),
            (
                108,
                format!("{EURUSD}050000000300000009000000"),
                Request::CopyRatesFromPos {
                    symbol: symbol(),
                    timeframe: Timeframe::M5,
                    start_pos: 3,
                    count: 9,
                },
            ),
            (
                104,
                format!("{EURUSD}0068e5cf8b0100000b000000ffffffff"),
                Request::CopyTicksFrom {
                    symbol: symbol(),
                    date_from,
                    count: 11,
                    flags: CopyTicks::All,
                },
            ),
            (140, seconds.to_owned(), Request::HistoryOrdersTotal { date_from, date_to }),
            (
                133,
                "4d00000000000000".to_owned(),
                Request::OrdersGet { selection: Selection::Ticket(Ticket::new(77)) },
            ),
            (171, format!("{EURUSD}01"), Request::SymbolSelect { symbol: symbol(), enable: true }),
            (
                162,
                format!("01000000{EURUSD}000000000000e03f000000000000f43f"),
                Request::OrderCalcMargin { action: 1, symbol: symbol(), volume: 0.5, price: 1.25 },
            ),
        ] {
            assert_eq!(decode(command, &bytes(&body)), Some(Asked::Call(expected)), "{command}");
        }
        let login = "000000008913000000000000060000007300650063007200650074000600000053002d007200650061006c00";
        let (password, server) = ("secret".to_owned(), "S-real".to_owned());
        assert_eq!(decode(5, &bytes(login)), Some(Asked::Login { login: 5001, password, server }));
        assert_eq!(
            decode(4, &bytes("030000000600000050007900740068006f006e00")),
            Some(Asked::Hello)
        );
        assert_eq!(decode(109, &[]), Some(Asked::Progress));
    }

    #[test]
    fn what_was_not_seen_is_not_guessed() {
        for (command, body) in [(2, ""), (171, "0600"), (180, "00"), (133, "4d00000000000000ff")] {
            assert_eq!(decode(command, &bytes(body)), None, "{command} {body}");
        }
    }

    #[test]
    fn records_have_the_lengths_that_the_package_accepts() {
        let layouts = Layouts::load();
        let of = |answer: Answer| encode(&layouts, &answer).len();
        assert_eq!(of(Answer::TerminalInfo(Box::default())), 3162);
        assert_eq!(of(Answer::AccountInfo(Box::default())), 851);
        assert_eq!(of(Answer::SymbolInfo(Box::default())), 2993);
        assert_eq!(of(Answer::OrderCheck(Box::default())), 252);
        assert_eq!(of(Answer::OrderSend(Box::default())), 260);
        assert_eq!(of(Answer::Orders(vec![Default::default(); 2])), 4 + 2 * 340);
        assert_eq!(of(Answer::Positions(vec![Default::default(); 2])), 4 + 2 * 320);
        assert_eq!(of(Answer::Deals(vec![])), 4);
    }
}
