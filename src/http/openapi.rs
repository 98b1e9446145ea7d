//! The OpenAPI document, put together from the handlers' own descriptions.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder, SecurityRequirement};
use utoipa::{Modify, OpenApi, ToSchema};

use super::routes;

/// A problem, as every error is answered (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "shows the shape of http::Problem")]
struct ProblemBody {
    /// What kind of problem it is; `docs/errors.md` lists every one.
    #[schema(example = "/problems/not-found")]
    r#type: String,
    /// The kind in words.
    title: String,
    /// The status.
    #[schema(example = 404)]
    status: u16,
    /// What was wrong, with what, and what to do.
    detail: String,
    /// Also the header `X-Request-Id` and a field of the log.
    request_id: String,
    /// What the terminal said, if it did.
    mt5: Option<Mt5Body>,
}

#[derive(ToSchema)]
#[schema(as = Mt5Error)]
#[expect(dead_code, reason = "shows a part of http::Problem")]
struct Mt5Body {
    /// MT5's code.
    #[schema(example = -4)]
    code: i64,
    /// Its name.
    #[schema(example = "not_found")]
    name: String,
    /// The terminal's words.
    message: String,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "mt5-gateway", description = "A pool of MetaTrader 5 terminals as one REST service."),
    paths(
        routes::list, routes::one, routes::restart,
        routes::ping, routes::error, routes::version, routes::terminal, routes::account,
        routes::symbols, routes::symbols_total, routes::symbol, routes::tick, routes::book, routes::select,
        routes::rates, routes::ticks, routes::stream,
        routes::positions, routes::positions_total, routes::position,
        routes::orders, routes::orders_total, routes::order,
        routes::history_orders, routes::history_orders_total,
        routes::history_deals, routes::history_deals_total,
        routes::place_order, routes::check_order, routes::modify_order, routes::cancel_order,
        routes::modify_position, routes::close_position, routes::close_position_with,
        routes::calc_margin, routes::calc_profit, routes::trades, routes::trade, routes::resolve_trade,
        routes::root, routes::console, routes::livez, routes::readyz, routes::metrics,
    ),
    components(schemas(ProblemBody)),
    modifiers(&Shared),
)]
struct Document;

/// What every operation has: problems, and keys below `/api`.
struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let header = ApiKey::Header(ApiKeyValue::new("X-API-Key"));
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(header));
        for (path, item) in &mut document.paths.paths {
            let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                complete(operation, path.starts_with("/api"));
            }
        }
    }
}

fn complete(operation: &mut Operation, guarded: bool) {
    let content =
        ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name("Problem")))).build();
    let problem = ResponseBuilder::new()
        .description("Any error")
        .content("application/problem+json", content)
        .build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(problem));
    if guarded {
        let schemes = ["bearer", "api_key"];
        let required =
            schemes.map(|scheme| SecurityRequirement::new::<_, [&str; 0], &str>(scheme, []));
        operation.security = Some(required.into());
    }
}

/// The document as JSON.
pub fn document() -> String {
    Document::openapi().to_pretty_json().unwrap_or_default()
}
