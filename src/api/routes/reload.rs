//! `/api/v1/reload`: reads the settings again.

use std::time::Duration;

use serde_json::json;
use tracing::info;

use crate::api::administration::{Refusal, Reloaded};
use crate::api::authorized::{AdministrationRequest, AuthorizedRequest};
use crate::api::filters::body::Body;
use crate::api::filters::path::last;
use crate::api::filters::route::{Answers, Outcome, Routes, resource};
use crate::api::problem::{Problem, ProblemType};
use crate::api::reply::json;
use warp::Filter;

/// `/api/v1/reload`
pub fn area(routes: &mut Routes) -> impl Answers + use<> {
    last("reload").and(resource!(routes: post Admin reload))
}

/// Reads the settings again and applies what has changed.
///
/// Accounts and keys come, go and change while everything else keeps running. What needs a restart is
/// named. Settings with a fault are refused as a whole. The answer comes when accounts that go or change
/// have finished what was under way; a client that does not wait changes nothing about that. Needs a
/// key that is not limited to accounts.
#[utoipa::path(
    post, path = "/api/v1/reload", tag = "accounts",
    responses((status = 200, description = "What has changed", body = Reloaded))
)]
pub async fn reload(AdministrationRequest(request): AdministrationRequest, _: Body) -> Outcome {
    request.no_parameters()?;
    info!(
        api_key = request.api_key(),
        client = %request.context.peer,
        request_id = &*request.context.request_id,
        "reload requested"
    );
    let reloaded = finished(&request, request.app().administration.reload()).await?;
    json(&request, &reloaded)
}

/// Waits for a change of settings until the request's deadline.
///
/// # Errors
/// Why it was refused, or 504. It goes on then.
pub async fn finished<T>(
    request: &AuthorizedRequest,
    change: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Problem> {
    match tokio::time::timeout_at(request.call_context().deadline, change).await {
        Ok(changed) => Ok(changed?),
        Err(_) => {
            let detail = "the change goes on: an account finishes what is under way, or an earlier \
                          change is being made; ask for the accounts to see how they stand";
            Err(Problem::new(ProblemType::DeadlinePassed, detail))
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Problem {
        match refusal {
            Refusal::Faults(faults) => {
                let plural = if faults.len() == 1 { "" } else { "s" };
                let detail = format!(
                    "the settings have {} fault{plural}, so those before are in force: {}",
                    faults.len(),
                    faults.join("; ")
                );
                Problem::new(ProblemType::SettingsRefused, detail).with("faults", json!(faults))
            }
            Refusal::NoSuchAccount => Problem::not_found("there is no such account"),
            Refusal::NotStored(sources) => {
                let detail =
                    format!("it comes from {}: change it there, and reload", sources.join(" and "));
                Problem::new(ProblemType::AccountNotStored, detail).with("sources", json!(sources))
            }
            Refusal::UnknownTrades(count) => {
                let detail = format!(
                    "the outcome of {count} of the account's trades is unknown, and is being looked for; \
                     `?force=true` removes the account all the same, and leaves them in the journal"
                );
                Problem::new(ProblemType::TradesOpen, detail).with("count", json!(count))
            }
            Refusal::Unavailable(reason) => {
                let problem = Problem::new(ProblemType::SettingsUnavailable, reason);
                problem.retry_after(Duration::from_secs(1))
            }
            Refusal::KeyEnded => {
                Problem::unauthorized("the key has expired or was revoked meanwhile")
            }
            Refusal::Stopping => {
                let detail = "the gateway stops, and changes no account any more; what was kept or \
                              written by then is in force when it starts again";
                Problem::new(ProblemType::NotReady, detail).retry_after(Duration::from_secs(1))
            }
            Refusal::Failed => {
                let detail = "the change of settings failed; the log says why";
                Problem::new(ProblemType::Internal, detail)
            }
        }
    }
}
