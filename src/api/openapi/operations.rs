//! What follows for an operation from its route: who may call it, which headers it takes and gives,
//! and how it can be refused.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Map, Value, json};

use super::components;
use crate::api::auth::Scope;
use crate::api::export::Format;
use crate::api::filters::route::Operation;
use crate::api::layers::admission::is_for_any_host;
use crate::api::problem::ProblemType;

/// A kind of problem as the document shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    pub status: u16,
    pub slug: &'static str,
    pub title: &'static str,
}

impl From<ProblemType> for Refusal {
    fn from(kind: ProblemType) -> Refusal {
        Refusal { status: kind.status().as_u16(), slug: kind.slug(), title: kind.title() }
    }
}

impl Refusal {
    /// Every kind of problem.
    pub fn all() -> Vec<Refusal> {
        ProblemType::ALL.iter().copied().map(Refusal::from).collect()
    }

    /// The headers that come with it beside the request's id.
    fn headers(self) -> &'static [&'static str] {
        match (self.status, self.slug) {
            (401, _) => &["WWW-Authenticate"],
            (405, _) => &["Allow"],
            (_, "trade-not-sent") => &["Retry-After", "Idempotent-Replayed"],
            (_, "trade-under-way") | (429 | 503, _) => &["Retry-After"],
            (_, "trade-refused" | "trade-not-found" | "trade-superseded" | "outcome-unknown") => {
                &["Idempotent-Replayed"]
            }
            _ => &[],
        }
    }
}

/// The traits of an operation on which its refusals and headers depend.
#[derive(Debug)]
struct Traits<'a> {
    id: &'a str,
    path: &'a str,
    method: &'a Method,
    scope: Option<Scope>,
    has_body: bool,
    /// Whether it answers with rows in several formats.
    is_table: bool,
    /// Whether it sends a trade.
    is_trade: bool,
}

impl Traits<'_> {
    fn is_of_account(&self) -> bool {
        self.path.contains("{account}")
    }

    /// Whether its rows have a name by which a client can ask if they are still the same.
    fn has_etag(&self) -> bool {
        self.is_table && self.id != "symbols"
    }

    /// Whether a terminal is asked, which may refuse, fail, or be busy.
    fn asks_terminal(&self) -> bool {
        let apart = [
            "one",
            "set_account",
            "remove_account",
            "pause",
            "resume",
            "halt",
            "halt_account",
            "lift",
            "restart",
            "trades",
            "trade",
        ];
        self.is_of_account() && !apart.contains(&self.id)
    }

    /// Every problem that it can answer.
    fn refusals(&self) -> Vec<Refusal> {
        let mut kinds = vec![
            ProblemType::InvalidRequest,
            ProblemType::MethodNotAllowed,
            ProblemType::NotAcceptable,
            ProblemType::Internal,
        ];
        if !is_for_any_host(self.path) {
            kinds.push(ProblemType::HostNotAllowed);
        }
        if let Some(scope) = self.scope {
            kinds.extend([ProblemType::Unauthorized, ProblemType::TooManyRequests]);
            if scope > Scope::Read {
                kinds.push(ProblemType::Forbidden);
            }
            if self.method != Method::GET || self.id == "stream" {
                kinds.push(ProblemType::OriginNotAllowed);
            }
        }
        if self.is_of_account() {
            kinds.push(ProblemType::NotFound);
        }
        if self.has_body {
            kinds.extend([
                ProblemType::RequestTimeout,
                ProblemType::BodyTooLarge,
                ProblemType::UnsupportedMediaType,
            ]);
        }
        if self.asks_terminal() {
            // An operator's decision concerns the past, which a pause leaves open.
            if self.id != "resolve_trade" {
                kinds.push(ProblemType::AccountPaused);
            }
            kinds.extend([
                ProblemType::InvalidParams,
                ProblemType::Unsupported,
                ProblemType::TerminalError,
                ProblemType::TerminalAnswerUnusable,
                ProblemType::TerminalDied,
                ProblemType::AuthFailed,
                ProblemType::NotReady,
                ProblemType::QueueFull,
            ]);
            // To a client of a trade 504 means that its outcome is not known.
            kinds.extend(match self.id {
                _ if self.is_trade => vec![ProblemType::OutcomeUnknown],
                "resolve_trade" => vec![ProblemType::TradeNotSent],
                _ => vec![ProblemType::TerminalTimeout, ProblemType::DeadlinePassed],
            });
        }
        if self.is_trade {
            kinds.extend([
                ProblemType::TradingNotAllowed,
                ProblemType::TradeUnderWay,
                ProblemType::TradeNotFound,
                ProblemType::TradeRefused,
                ProblemType::IdempotencyKeyReused,
                ProblemType::NoQuote,
                ProblemType::TradeNotSent,
                ProblemType::JournalUnavailable,
                ProblemType::Reconciling,
            ]);
            if self.method == Method::PUT {
                kinds.push(ProblemType::TradeSuperseded);
            }
        }
        kinds.extend(match self.id {
            "reload" | "set_account" => changes(&[]),
            "remove_account" => changes(&[ProblemType::AccountNotStored, ProblemType::TradesOpen]),
            "pause" | "resume" => changes(&[ProblemType::AccountNotStored]),
            "restart" => vec![ProblemType::RestartUnderWay, ProblemType::NotReady],
            "check_order" => vec![ProblemType::TradingNotAllowed, ProblemType::NoQuote],
            "trades" | "trade" | "halt" | "halts" | "lift" | "lift_all" => {
                vec![ProblemType::JournalUnavailable]
            }
            "resolve_trade" => {
                vec![ProblemType::TradeNotResolvable, ProblemType::JournalUnavailable]
            }
            "stream" => vec![ProblemType::TooManyStreams],
            "console" | "livez" => vec![ProblemType::NotReady],
            "readyz" => vec![ProblemType::NotFound, ProblemType::NotReady],
            "metrics" => {
                vec![
                    ProblemType::NotFound,
                    ProblemType::TooManyRequests,
                    ProblemType::NotReady,
                    ProblemType::DeadlinePassed,
                ]
            }
            _ => vec![],
        });
        let mut refusals: Vec<Refusal> = kinds.into_iter().map(Refusal::from).collect();
        refusals.sort_unstable();
        refusals.dedup();
        refusals
    }

    /// The parameters that it shares with others.
    fn parameters(&self) -> Vec<&'static str> {
        let mut names = vec![];
        let path = [
            ("{account}", "account"),
            ("{symbol}", "symbol"),
            ("{ticket}", "ticket"),
            ("{trade_id}", "trade_id"),
        ];
        names
            .extend(path.iter().filter(|(part, _)| self.path.contains(part)).map(|(_, name)| name));
        if self.is_table {
            names.push("format");
        }
        if self.has_etag() {
            names.push("If-None-Match");
        }
        if self.is_trade {
            names.extend(["Idempotency-Key", "Send-Within"]);
        }
        if self.id == "stream" {
            names.push("Last-Event-ID");
        }
        names.extend(["Request-Timeout", "X-Request-Id"]);
        names
    }

    /// The headers of an answer without a problem, beside the request's id.
    fn headers(&self, status: u16) -> Vec<&'static str> {
        let mut names = vec![];
        if self.has_etag() {
            names.extend(["ETag", "Age"]);
        }
        if self.path.contains("/history/") && status == 200 {
            names.push("History-Window");
        }
        if self.is_trade {
            names.push("Idempotent-Replayed");
        }
        if matches!(status, 201 | 302) {
            names.push("Location");
        }
        names
    }
}

/// How a change of settings is refused, and how this one is beside that.
fn changes(others: &[ProblemType]) -> Vec<ProblemType> {
    let common = [
        ProblemType::SettingsRefused,
        ProblemType::SettingsUnavailable,
        ProblemType::NotReady,
        ProblemType::DeadlinePassed,
    ];
    common.iter().chain(others).copied().collect()
}

/// Completes each operation from what is known of its route.
pub fn complete(document: &mut Value, routes: &[Operation]) {
    let mut responses = Map::new();
    for route in routes {
        let method = route.method.as_str().to_lowercase();
        if let Some(operation) =
            document["paths"].get_mut(route.template).and_then(|item| item.get_mut(&method))
        {
            complete_one(operation, route, &mut responses);
        }
    }
    let components = &mut document["components"];
    components["responses"] = responses.into();
    components["parameters"] = components::parameters();
    components["headers"] = components::headers();
    components["securitySchemes"] = json!({
        "bearer": { "type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`" },
        "api_key": { "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key" },
    });
}

fn complete_one(operation: &mut Value, route: &Operation, responses: &mut Map<String, Value>) {
    let written = operation.to_string();
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let mut own = operation["parameters"].take().as_array().cloned().unwrap_or_default();
    let is_table = own.iter().any(|parameter| parameter["name"] == "format");
    own.retain(|parameter| parameter["name"] != "format");
    let traits = Traits {
        id: &id,
        path: route.template,
        method: &route.method,
        scope: route.scope,
        has_body: operation.get("requestBody").is_some(),
        is_table,
        is_trade: written.contains("\"#/components/schemas/Traded\""),
    };

    let shared = traits.parameters().into_iter().map(|name| reference("parameters", name));
    operation["parameters"] = shared.chain(own).collect();

    let needs = match route.scope {
        Some(scope) => {
            operation["security"] = json!([{ "bearer": [] }, { "api_key": [] }]);
            operation["x-required-scope"] = scope.name().into();
            format!("Needs a key with the scope `{}`.", scope.name())
        }
        None => {
            operation["security"] = json!([]);
            "Needs no key.".to_owned()
        }
    };
    let before =
        operation["description"].as_str().map_or(String::new(), |text| format!("{text}\n\n"));
    operation["description"] = format!("{before}{needs}").into();

    let Some(answers) = operation["responses"].as_object_mut() else {
        return;
    };
    for (status, answer) in answers.iter_mut() {
        if is_table {
            let rows = ["csv", "arrow", "parquet"];
            for format in Format::ALL.iter().filter(|format| rows.contains(&format.name())) {
                answer["content"][format.media_type()] = content(*format);
            }
        }
        let names = traits.headers(status.parse().unwrap_or_default());
        answer["headers"] = header_references(names);
    }
    if traits.has_etag() {
        let unchanged = json!({
            "description": "The rows are those that `If-None-Match` names",
            "headers": header_references(["ETag", "Age"]),
        });
        answers.insert("304".to_owned(), unchanged);
    }
    let mut by_status: BTreeMap<u16, Vec<Refusal>> = BTreeMap::new();
    for refusal in traits.refusals() {
        by_status.entry(refusal.status).or_default().push(refusal);
    }
    for (status, refusals) in by_status {
        let name =
            refusals.iter().map(|refusal| pascal(refusal.slug)).collect::<Vec<_>>().join("Or");
        answers.insert(status.to_string(), reference("responses", &name));
        responses.entry(name).or_insert_with(|| refused(&refusals));
    }
}

/// The content of rows that are not JSON.
fn content(format: Format) -> Value {
    match format {
        Format::Csv => json!({ "schema": { "type": "string" } }),
        _ => json!({ "schema": { "type": "string", "format": "binary" } }),
    }
}

fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}

/// References to headers, the request's id first.
fn header_references(names: impl IntoIterator<Item = &'static str>) -> Value {
    let names = std::iter::once("X-Request-Id").chain(names);
    let references = names.map(|name| (name.to_owned(), reference("headers", name)));
    Value::Object(references.collect())
}

/// The answer that is one of some problems of one status.
fn refused(refusals: &[Refusal]) -> Value {
    let described: Vec<String> =
        refusals.iter().map(|refusal| format!("`{}`: {}.", refusal.slug, refusal.title)).collect();
    let headers = refusals.iter().flat_map(|refusal| refusal.headers()).copied();
    json!({
        "description": described.join(" "),
        "content": { "application/problem+json": { "schema": reference("schemas", "Problem") } },
        "headers": header_references(headers),
    })
}

fn pascal(slug: &str) -> String {
    let capitalised = slug.split('-').map(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_uppercase() + rest
    });
    capitalised.collect()
}
