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
use crate::pool::{Account, CallContext};
use crate::trading::tag;

/// The header in which a client shortens its wait, seconds.
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("request-timeout");

/// A request whose client may use the route.
#[derive(Clone)]
pub struct AuthorizedRequest {
    pub context: Arc<RequestContext>,
    call_context: CallContext,
}

/// An authorized request to a route of an account that its client may see.
#[derive(Clone)]
pub struct AccountRequest {
    request: AuthorizedRequest,
    pub account: Arc<Account>,
}

/// A kind of request that handlers take.
pub trait Admitted: Sized {
    /// Admits an authorized request.
    ///
    /// # Errors
    /// The problem to answer with instead.
    fn admit(request: AuthorizedRequest) -> Result<Self, Problem>;
}

impl Admitted for AuthorizedRequest {
    fn admit(request: AuthorizedRequest) -> Result<Self, Problem> {
        Ok(request)
    }
}

impl Admitted for AccountRequest {
    /// Fails with 404 if the account does not exist, or the client may not see it.
    fn admit(request: AuthorizedRequest) -> Result<Self, Problem> {
        let name = request.context.account_segment();
        let found = request.app().accounts.get(name);
        let Some(account) = found.filter(|account| request.may_see(&account.name)).cloned() else {
            let names: Vec<&str> =
                request.accounts().map(|account| account.name.as_str()).collect();
            return Err(Problem::not_found(format!(
                "there is no account {:?}; there are: {}",
                shorten(name),
                names.join(", ")
            )));
        };
        request.context.note_account(&account);
        Ok(AccountRequest { request, account })
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
            && let Some(key) = context.app.keys.identify(&context.headers)?
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

    /// The accounts that the client may see.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.app().accounts.iter().filter(|account| self.may_see(&account.name))
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

    /// Returns when the client's key has expired.
    pub async fn key_expired(&self) {
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

impl AccountRequest {
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
