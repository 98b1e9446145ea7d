//! How a call gets to a terminal: converts times, joins equal reads, chooses a session, admits the
//! call, and waits for the answer until the caller's deadline.

use std::time::Duration;

use smallvec::smallvec;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::accounts::Account;
use super::bar_cache;
use super::call::{
    CallContext, CallError, LastCheck, QueuedCall, QueuedTrade, TradeError, TradeOutcome,
};
use super::coalescing::{CoalescedRead, Waiter};
use super::history::{self, HistoryPage};
use super::labels::Rejection;
use super::session;
use crate::clock::BootInstant;
use crate::metrics::Event;
use crate::mt5::{
    Affinity, Answer, Coalescing, Method, Mt5Call, Rate, Reply, Request, Rows, SymbolName,
    Timeframe, TradeRequest, UtcTime, calls,
};
use crate::terminal::Failure;

/// How long a first tick is waited for, and how often it is looked for.
const FIRST_TICK_TIMEOUT: Duration = Duration::from_secs(1);
const FIRST_TICK_INTERVAL: Duration = Duration::from_millis(50);

impl Account {
    /// Makes a call on the session that its method belongs to.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn call<C: Mt5Call>(
        &self,
        call: C,
        context: &CallContext,
    ) -> impl Future<Output = Result<C::Reply, CallError>> + Send {
        self.call_in_utc(call.into(), context)
    }

    async fn call_in_utc<R: Reply>(
        &self,
        request: Request,
        context: &CallContext,
    ) -> Result<R, CallError> {
        let method = request.method();
        let mut reply: R = reply(method, self.answer(request, context).await?)?;
        if let Some(mut to_utc) = self.clock.to_utc() {
            reply.convert_times(&mut to_utc);
        }
        Ok(reply)
    }

    /// Makes a call on the session that its method belongs to, with all times as the server's clock
    /// shows them, whether its zone is known or not.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call_raw<C: Mt5Call>(
        &self,
        call: C,
        context: &CallContext,
    ) -> Result<C::Reply, CallError> {
        let request = call.into();
        let method = request.method();
        reply(method, self.answer(request, context).await?)
    }

    /// Asks; for a tick until there is a quote. Right after a symbol was selected the terminal has
    /// zeros where there is none yet.
    async fn answer(&self, request: Request, context: &CallContext) -> Result<Answer, CallError> {
        let mut give_up = None;
        loop {
            let answer = self.ask(&request, context).await?;
            let (Request::SymbolInfoTick { symbol }, Answer::Tick(tick)) = (&request, &answer)
            else {
                return Ok(answer);
            };
            if tick.time != 0 || tick.time_msc != 0 {
                return Ok(answer);
            }
            let now = Instant::now();
            if now >= *give_up.get_or_insert(now + FIRST_TICK_TIMEOUT) {
                return Err(CallError::NoQuote(symbol.to_string()));
            }
            tokio::time::sleep(FIRST_TICK_INTERVAL).await;
        }
    }

    async fn ask(&self, request: &Request, context: &CallContext) -> Result<Answer, CallError> {
        let rules = request.method().rules();
        let chosen = match rules.affinity {
            Affinity::Primary => self.primary_or_successor(context.urgent),
            Affinity::Any => self.least_loaded(None),
        };
        let (waiter, answer) = Waiter::new(context.deadline);
        // What prepares a trade must not wait where another read waits.
        let may_join = !context.urgent && rules.coalescing == Coalescing::Shared;
        let made = match self.coalescer.as_ref().filter(|_| may_join) {
            Some(coalescer) => {
                let opened = coalescer.join_or_open(request, waiter);
                opened.map(|(waiter, open)| (waiter, Some(open)))
            }
            None => Some((waiter, None)),
        };
        if let Some((waiter, open)) = made {
            self.submit(chosen, request.clone(), waiter, open, context);
        }
        let answer = self.wait_for_answer(answer, context.deadline).await?;
        self.observe(request, &answer);
        Ok(answer)
    }

    /// Makes a call on every session that is ready, for settings that each terminal keeps for itself.
    ///
    /// # Errors
    /// The first session's reason for not answering.
    pub async fn call_all(
        &self,
        call: impl Into<Request>,
        context: &CallContext,
    ) -> Result<Answer, CallError> {
        let request = call.into();
        let ready = (0..self.slots.len()).filter(|index| self.slots[*index].is_ready());
        let calls: Vec<_> =
            ready.map(|index| self.call_on(Some(index), request.clone(), context)).collect();
        let answers = futures_util::future::try_join_all(calls).await?;
        answers.into_iter().next().ok_or_else(|| self.not_ready())
    }

    async fn call_on(
        &self,
        chosen: Option<usize>,
        request: Request,
        context: &CallContext,
    ) -> Result<Answer, CallError> {
        let (waiter, answer) = Waiter::new(context.deadline);
        self.submit(chosen, request, waiter, None, context);
        self.wait_for_answer(answer, context.deadline).await
    }

    /// Waits for an answer until a deadline.
    async fn wait_for_answer(
        &self,
        answer: oneshot::Receiver<Result<Answer, CallError>>,
        deadline: Instant,
    ) -> Result<Answer, CallError> {
        match self.timers.timeout_at(deadline, answer).await {
            Some(Ok(result)) => result,
            // The session drops a waiter whose deadline has passed, which can close the channel before
            // the timer fires here.
            Some(Err(_)) if deadline <= Instant::now() => Err(CallError::DeadlinePassed),
            Some(Err(_)) => Err(CallError::Died("its session was restarted".to_owned())),
            None => Err(CallError::DeadlinePassed),
        }
    }

    /// Hands a call to a session. Its waiters learn if there is none, or if it has no room.
    fn submit(
        &self,
        chosen: Option<usize>,
        request: Request,
        waiter: Waiter,
        shared: Option<CoalescedRead>,
        context: &CallContext,
    ) {
        let admitted = match chosen.map(|index| &self.slots[index]) {
            Some(slot) => {
                let permit = slot.admit().map(|permit| (slot, permit));
                permit.ok_or_else(|| self.queue_full())
            }
            None => Err(self.not_ready()),
        };
        let (slot, permit) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                let followers = shared.map(CoalescedRead::close).unwrap_or_default();
                for waiter in followers.into_iter().chain([waiter]) {
                    let _ = waiter.reply.send(Err(error.clone()));
                }
                return;
            }
        };
        let (arrived, waiters) = (Instant::now(), smallvec![waiter]);
        let CallContext { internal, urgent, .. } = *context;
        let request_id = context.request_id.clone();
        let moved = false;
        let call = Box::new(QueuedCall {
            request_id,
            request,
            arrived,
            permit,
            moved,
            internal,
            urgent,
            waiters,
            shared,
        });
        if let Err(session::Msg::Call(call)) = slot.address.send(session::Msg::Call(call)) {
            let error = self.not_ready();
            call.finish(Err(error));
        }
    }

    /// Sends a trade on the primary session, once it is idle and its account was compared with the
    /// configured one, not after `send_by`, and if `check` lets it through. Times in the request are the server's.
    ///
    /// # Errors
    /// Why there is no result, and whether the terminal may have taken it.
    pub async fn trade(
        &self,
        request: TradeRequest,
        send_by: BootInstant,
        check: LastCheck,
    ) -> TradeOutcome {
        let not_ready = || TradeError::NotSent(self.not_ready());
        let primary = self.primary_or_successor(true).ok_or_else(not_ready)?;
        let Some(permit) = self.slots[primary].admit_trade() else {
            return Err(TradeError::NotSent(self.queue_full()));
        };
        let (reply, traded) = oneshot::channel();
        let (request, arrived) = (Box::new(request), Instant::now());
        let slot = &self.slots[primary];
        let trade = QueuedTrade::new(request, send_by, check, arrived, permit, reply);
        if let Err(session::Msg::Trade(trade)) = slot.address.send(session::Msg::Trade(trade)) {
            trade.finish(Err(not_ready()));
        }
        // The session actor failed. The trade may have been sent, so its outcome is unknown.
        let lost = || TradeError::Unanswered("its session was restarted".to_owned());
        traded.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Gives a read that its session cannot make to another one, once.
    pub(super) fn hand_over(&self, mut call: Box<QueuedCall>, from: usize) {
        let other = if call.moved { None } else { self.least_loaded(Some(from)) };
        let admitted = other.and_then(|index| {
            let slot = &self.slots[index];
            slot.admit().map(|permit| (slot, permit))
        });
        let Some((slot, permit)) = admitted else {
            let error = self.not_ready();
            return call.finish(Err(error));
        };
        call.moved = true;
        call.permit = permit;
        if let Err(session::Msg::Call(call)) = slot.address.send(session::Msg::Call(call)) {
            let error = self.not_ready();
            call.finish(Err(error));
        }
    }

    /// Counts a refusal.
    fn queue_full(&self) -> CallError {
        self.metrics
            .record(Event::Rejected { account: self.id, reason: Rejection::QueueFull.into() });
        CallError::QueueFull
    }

    /// Counts a refusal, and says when to try again.
    pub(super) fn not_ready(&self) -> CallError {
        self.metrics
            .record(Event::Rejected { account: self.id, reason: Rejection::NotReady.into() });
        CallError::NotReady(self.ready_in())
    }

    /// Remembers what an answer tells about the server's clock and about tickets.
    fn observe(&self, request: &Request, answer: &Answer) {
        let symbol = match request {
            Request::SymbolInfoTick { symbol } | Request::SymbolInfo { symbol } => Some(symbol),
            _ => None,
        };
        if let Some((symbol, quoted)) = symbol.zip(answer.quoted_msc()) {
            self.see_tick(symbol, quoted);
        }
        self.highest.observe(answer.highest_tickets());
    }

    /// The highest tickets of an order (or position) and of a deal that were seen so far.
    pub fn highest_tickets(&self) -> (u64, u64) {
        self.highest.get()
    }
}

// === bars

impl Account {
    /// Makes a call that is answered with bars, and remembers the newest of them: it shows that
    /// those before it are not the last.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn rates(
        &self,
        call: impl Into<Request>,
        context: &CallContext,
    ) -> Result<Rows<Rate>, CallError> {
        let request = call.into();
        let series = match &request {
            Request::CopyRatesFrom { symbol, timeframe, .. }
            | Request::CopyRatesFromPos { symbol, timeframe, .. }
            | Request::CopyRatesRange { symbol, timeframe, .. } => {
                self.cache.as_ref().map(|cache| (cache, self.series(symbol, *timeframe)))
            }
            _ => None,
        };
        let rows: Rows<Rate> = self.call_in_utc(request, context).await?;
        if let (Some((cache, series)), Some(newest)) = (series, rows.iter().next_back()) {
            cache.see(series, UtcTime::from_seconds(newest.time));
        }
        Ok(rows)
    }

    fn series(&self, symbol: &SymbolName, timeframe: Timeframe) -> bar_cache::Series {
        bar_cache::Series { account: self.id, symbol: symbol.clone(), timeframe }
    }

    /// The bars that open within a range, both ends included, in one call or none.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn rates_range(
        &self,
        symbol: &SymbolName,
        timeframe: Timeframe,
        (from, to): (UtcTime, UtcTime),
        context: &CallContext,
    ) -> Result<HistoryPage<Rows<Rate>>, CallError> {
        let key = || bar_cache::Key { series: self.series(symbol, timeframe), from, to };
        let closed = self.has_closed(to, timeframe);
        let cache = self.cache.as_ref().filter(|_| closed).map(|cache| (cache, key()));
        let asked = Instant::now();
        if let Some((cache, key)) = &cache
            && let Some(kept) = cache.get(key, asked)
        {
            return Ok(kept);
        }
        let call = calls::CopyRatesRange {
            symbol: symbol.clone(),
            timeframe,
            date_from: self.utc_to_server(from),
            date_to: self.utc_to_server(to),
        };
        let rows = self.rates(call, context).await?;
        let rows = history::rates_within(self, &rows, from, to);
        if let Some((cache, key)) = cache {
            cache.keep(key, &rows, asked, Instant::now());
        }
        Ok(HistoryPage { rows, age: None })
    }
}

/// The reply that an answer to a method holds.
fn reply<R: Reply>(method: Method, answer: Answer) -> Result<R, CallError> {
    R::from_answer(answer).map_err(|_| {
        let detail = format!("the terminal's answer to {method} is of another kind");
        CallError::Failed(Failure::Unusable(detail))
    })
}
