//! A request that passed authorization, and what handlers ask it for.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::header::ACCEPT;
use jiff::Timestamp;
use tokio::time::Instant;

use super::auth::{ApiKey, Scope};
use super::context::{RequestContext, shorten};
use super::filters::headers;
use super::filters::query::{Parameter, Parameters};
use super::problem::{Problem, ProblemType};
use super::state::App;
use crate::mt5::{Mt5Call, SymbolName, Ticket};
use crate::pool::{Account, CallContext, Standing};
use crate::trading::tag;

/// The header in which a client shortens its wait, seconds.
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");

/// A request whose client may use the route.
#[derive(Clone)]
pub struct AuthorizedRequest {
    pub context: Arc<RequestContext>,
    call_context: CallContext,
}

/// An authorized request to a route of an account that its client may see, and that serves.
#[derive(Clone)]
pub struct AccountRequest {
    request: AuthorizedRequest,
    pub account: Arc<Account>,
}

/// The same of an account that may be paused, or about to go: the route shows how it stands, or what
/// became of its trades.
pub struct AnyAccountRequest(pub AccountRequest);

/// A kind of request that handlers take.
pub trait Admitted: Sized {
    /// Admits an authorized request.
    ///
    /// # Errors
    /// The problem to answer with instead.
    fn admit(request: AuthorizedRequest) -> Result<Self, Problem>;
}

/// An authorized request for what concerns the gateway as a whole: its settings.
pub struct AdministrationRequest(pub AuthorizedRequest);

impl Admitted for AdministrationRequest {
    /// Fails with 403 for a key that is limited to accounts, and on a gateway without keys, unless that
    /// is allowed.
    fn admit(request: AuthorizedRequest) -> Result<Self, Problem> {
        let forbidden = |detail| Err(Problem::new(ProblemType::Forbidden, detail));
        match request.context.key() {
            Some(key) if !key.covers_all() => {
                forbidden("the key is limited to accounts, and this concerns the whole gateway")
            }
            None if !request.app().administration.allows_anonymous() => forbidden(
                "on a gateway without keys nobody may change its settings: configure a key with the \
                 scope `admin`, or set `accounts_store.anonymous = true`",
            ),
            _ => Ok(AdministrationRequest(request)),
        }
    }
}

impl Admitted for AuthorizedRequest {
    fn admit(request: AuthorizedRequest) -> Result<Self, Problem> {
        Ok(request)
    }
}

impl Admitted for AccountRequest {
    /// Fails with 404 if the account does not exist, or the client may not see it, and with 503 if it
    /// takes no requests.
    fn admit(request: AuthorizedRequest) -> Result<Self, Problem> {
        let AnyAccountRequest(request) = AnyAccountRequest::admit(request)?;
        request.check_standing()?;
        Ok(request)
    }
}

impl Admitted for AnyAccountRequest {
    /// Fails with 404 if the account does not exist, or the client may not see it, and with 503 while it
    /// ends, perhaps for another account of its name.
    fn admit(request: AuthorizedRequest) -> Result<Self, Problem> {
        let account = request.account()?;
        let request = AccountRequest { request, account };
        // Whoever may see the one that comes need not be one who may see the one that goes.
        if request.account.door.is_ending() {
            request.check_standing()?;
        }
        Ok(AnyAccountRequest(request))
    }
}

impl AuthorizedRequest {
    /// Authorizes a request for a route. `scope` is `None` where no key is asked for.
    ///
    /// # Errors
    /// If the client's key lacks the scope or is used too often, or `Request-Timeout` is wrong.
    pub fn authorize(
        context: Arc<RequestContext>,
        scope: Option<Scope>,
    ) -> Result<AuthorizedRequest, Problem> {
        if let Some(scope) = scope
            && let Some(key) = context.app.keys.load().identify(&context.headers)?
        {
            let key = context.note_key(key);
            key.count_request()?;
            key.check(context.peer, Timestamp::now())?;
            key.authorize(scope)?;
        }
        let longest = context.app.options.request_timeout;
        let timeout = match headers::seconds(&context.headers, &REQUEST_TIMEOUT)? {
            None => longest,
            Some(seconds) => longest.mul_f64((seconds / longest.as_secs_f64()).min(1.0)),
        };
        let call_context = CallContext::new(context.request_id.clone(), context.arrived + timeout);
        Ok(AuthorizedRequest { context, call_context })
    }

    /// The application.
    pub fn app(&self) -> &Arc<App> {
        &self.context.app
    }

    /// The accounts that the client may see, by name.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        let accounts = self.app().accounts.all();
        let visible = accounts.values().filter(|account| self.may_see(&account.name));
        visible.cloned().collect()
    }

    /// The account that the path names, however it stands.
    ///
    /// # Errors
    /// 404 if it does not exist, or the client may not see it.
    pub fn account(&self) -> Result<Arc<Account>, Problem> {
        let found = self.app().accounts.get(self.context.account_segment());
        let account = found.filter(|account| self.may_see(&account.name));
        let account = account.ok_or_else(|| self.no_such_account())?;
        self.context.note_account(&account);
        Ok(account)
    }

    /// 404 for the account that the path names, with those that the client may see.
    pub fn no_such_account(&self) -> Problem {
        let accounts = self.accounts();
        let names: Vec<&str> = accounts.iter().map(|account| account.name.as_str()).collect();
        Problem::not_found(format!(
            "there is no account {:?}; there are: {}",
            shorten(self.context.account_segment()),
            names.join(", ")
        ))
    }

    /// Whether the client may see an account. The gateway answers for an account that the client may
    /// not see as for one that does not exist.
    pub fn may_see(&self, account: &str) -> bool {
        self.context.key().is_none_or(|key| key.covers(account))
    }

    /// Whether the client may see every account, also future ones, and what concerns none of them.
    pub fn sees_every_account(&self) -> bool {
        self.context.key().is_none_or(ApiKey::covers_all)
    }

    /// Whether the client may do what needs a scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.context.key().is_none_or(|key| key.authorize(scope).is_ok())
    }

    /// Whether the client's key, which was valid when the request came, has expired.
    pub fn is_key_expired(&self) -> bool {
        let left = self.context.key().and_then(|key| key.valid_for(Timestamp::now()));
        left.is_some_and(|left| left.is_zero())
    }

    /// Whether the client may do nothing any more: its key has expired or was revoked since the request
    /// came, or it has none and needs one now.
    pub fn has_key_ended(&self) -> bool {
        match self.context.key() {
            Some(key) => key.revoked().is_cancelled() || self.is_key_expired(),
            None => !self.app().keys.load().is_empty(),
        }
    }

    /// Looks at the key once more, after the body has come and before something is changed.
    ///
    /// # Errors
    /// 401 if the client may do nothing any more.
    pub fn check_key(&self) -> Result<(), Problem> {
        if self.has_key_ended() {
            return Err(Problem::unauthorized("the key has expired or was revoked meanwhile"));
        }
        Ok(())
    }

    /// Returns when the client's key has expired or was revoked, or when a client without one needs one.
    pub async fn key_ended(&self) {
        match self.context.key() {
            Some(key) => tokio::select! {
                () = key.revoked().cancelled() => {}
                () = self.key_expired() => {}
            },
            None => self.app().keys.anonymity_ended().await,
        }
    }

    async fn key_expired(&self) {
        // Somebody may set the clock meanwhile.
        const LONGEST: Duration = Duration::from_secs(60);
        while let Some(left) = self.context.key().and_then(|key| key.valid_for(Timestamp::now())) {
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LONGEST)).await;
        }
        std::future::pending().await
    }

    /// Name of the API key that the client used; `None` where no keys are configured.
    pub fn api_key(&self) -> Option<&str> {
        self.context.api_key()
    }

    /// On whose behalf calls are made.
    pub fn call_context(&self) -> &CallContext {
        &self.call_context
    }

    /// The call context with a deadline that begins now, for each page of a long answer.
    pub fn renewed_context(&self) -> CallContext {
        let deadline = Instant::now() + (self.call_context.deadline - self.context.arrived);
        CallContext { deadline, ..self.call_context.clone() }
    }

    /// The parameters of the query.
    ///
    /// # Errors
    /// 400 if a parameter is repeated.
    pub fn parameters(&self) -> Result<Parameters, Problem> {
        Parameters::parse(self.context.query())
    }

    /// Makes sure that the query has no parameters.
    ///
    /// # Errors
    /// 400 if it has one.
    pub fn no_parameters(&self) -> Result<(), Problem> {
        self.parameters()?.finish()
    }

    /// Makes sure that the client takes a media type.
    ///
    /// # Errors
    /// 406 if it does not.
    pub fn accepts(&self, media_type: &str) -> Result<(), Problem> {
        if self.quality(media_type)? > 0.0 {
            return Ok(());
        }
        Err(Problem::new(ProblemType::NotAcceptable, format!("this route answers {media_type}")))
    }

    /// How much the client likes a media type, from 0 (not at all) to 1.
    ///
    /// # Errors
    /// 400 if `Accept` cannot be read.
    pub fn quality(&self, media_type: &str) -> Result<f32, Problem> {
        headers::quality(&self.context.headers, media_type)
    }

    /// Whether the client prefers a page to JSON, as browsers do.
    ///
    /// # Errors
    /// 400 if `Accept` cannot be read.
    pub fn prefers_html(&self) -> Result<bool, Problem> {
        Ok(self.context.headers.contains(&ACCEPT)
            && self.quality("text/html")? > self.quality("application/json")?)
    }
}

impl Deref for AccountRequest {
    type Target = AuthorizedRequest;

    fn deref(&self) -> &AuthorizedRequest {
        &self.request
    }
}

impl Deref for AnyAccountRequest {
    type Target = AccountRequest;

    fn deref(&self) -> &AccountRequest {
        &self.0
    }
}

impl AccountRequest {
    /// Makes sure that the account takes requests.
    ///
    /// # Errors
    /// 503 if not.
    pub fn check_standing(&self) -> Result<(), Problem> {
        let name = &self.account.name;
        let detail = match self.account.door.standing() {
            Standing::Serving => return Ok(()),
            Standing::Paused => format!("{name} is paused: `accounts.{name}.paused` is set"),
            Standing::Changing => format!("the settings of {name} change, it serves again soon"),
            Standing::Leaving => format!("{name} is being removed"),
        };
        Err(Problem::new(ProblemType::AccountPaused, detail).retry_after(Duration::from_secs(1)))
    }

    /// Makes a call on a terminal of the account.
    ///
    /// # Errors
    /// The problem that the lack of an answer is.
    pub async fn ask<C: Mt5Call>(&self, call: C) -> Result<C::Reply, Problem> {
        let mut reply = self.account.call(call, self.call_context()).await?;
        tag::strip_answer(&mut reply);
        Ok(reply)
    }

    /// The symbol that the path names.
    ///
    /// # Errors
    /// 404 if no symbol can have the name.
    pub fn symbol(&self) -> Result<SymbolName, Problem> {
        symbol(self.context.item_segment())
    }

    /// The ticket that the path names.
    ///
    /// # Errors
    /// 400 if it is no number.
    pub fn ticket(&self) -> Result<Ticket, Problem> {
        let segment = self.context.item_segment();
        Parameter::parse(segment).ok_or_else(|| {
            let ticket = shorten(segment);
            Problem::invalid(format!("ticket: expected a whole number, got {ticket:?}"))
        })
    }

    /// The trade that the path names.
    pub fn trade_id(&self) -> &str {
        self.context.item_segment()
    }
}

/// The symbol of this name.
///
/// # Errors
/// 404 if no symbol can have the name.
pub fn symbol(name: &str) -> Result<SymbolName, Problem> {
    SymbolName::parse(name)
        .ok_or_else(|| Problem::not_found(format!("there is no symbol {:?}", shorten(name))))
}
