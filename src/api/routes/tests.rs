//! The chain in this process, with simulated terminals and without connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;
use crate::api::context::RequestContext;
use crate::api::openapi::{DOCUMENT, openapi_document};
use crate::api::request_headers::RequestHeaders;
use crate::api::state::App;
use crate::app::Service;
use crate::settings::Settings;
use crate::telemetry::Events;

/// Pages with their files, and the document itself: the document does not describe them.
const FOR_BROWSERS: [&str; 5] =
    ["/console", "/console/{file}", "/docs", "/docs/{file}", "/openapi.json"];

const TICK: &str = "/api/v1/accounts/demo/symbols/EURUSD/tick";

/// A gateway with the account `demo`.
struct Api {
    service: Service,
    _files: tempfile::TempDir,
}

/// A response, and what the context says about its request.
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    template: Option<&'static str>,
    account: Option<String>,
}

impl Api {
    /// Keys are named after their text, with one scope each.
    async fn start(keys: &[(&str, &str)]) -> Api {
        let files = tempfile::tempdir().unwrap();
        let mut settings = "[accounts.demo]\nlogin = 5001\nserver = 'S'\n\
                            terminal.kind = 'simulator'\n[metrics]\nenabled = true\n"
            .to_owned();
        settings += &format!("[trading]\njournal = '{}'\n", files.path().join("j").display());
        for (key, scope) in keys {
            let digest = Sha256::digest(key);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            settings += &format!("[auth.keys.{key}]\nsha256 = '{digest}'\nscopes = ['{scope}']\n");
        }
        let file = files.path().join("gateway.toml");
        std::fs::write(&file, settings).unwrap();
        let settings = Settings::load(files.path(), Some(&file), [], &[]).unwrap();
        let service = Service::start(settings, Events::default()).await.unwrap();
        Api { service, _files: files }
    }

    /// The same once the terminal is logged in.
    async fn ready() -> Api {
        let api = Api::start(&[]).await;
        while api.get("/readyz").await.status != 200 {
            tokio::task::yield_now().await;
        }
        api
    }

    fn app(&self) -> &Arc<App> {
        self.service.app()
    }

    async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[]).await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Reply {
        let mut given = HeaderMap::new();
        for (name, value) in headers {
            given.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let context = Arc::new(RequestContext::new(
            self.app().clone(),
            "test".into(),
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            method.parse().unwrap(),
            path.parse().unwrap(),
            RequestHeaders::new(given.clone()),
            None,
        ));
        let mut request = warp::test::request().method(method).path(path);
        for (name, value) in &given {
            request = request.header(name, value);
        }
        let (chain, _) = chain(&DOCUMENT);
        let (mut parts, body) = context.clone().scope(request.reply(&chain)).await.into_parts();
        let body = match parts.extensions.remove::<Problem>() {
            Some(problem) => problem.render(&mut parts, &context.request_id).into(),
            None => body,
        };
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
            template: context.route().map(|route| route.template),
            account: context.account().map(str::to_owned),
        }
    }
}

/// Each operation of the document: its method, and its template.
fn documented() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&openapi_document()).unwrap();
    let mut operations = vec![];
    for (template, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            operations.push((method.to_uppercase(), template.clone()));
        }
    }
    operations
}

/// A path of a template.
fn example(template: &str) -> String {
    let arguments = [
        ("{account}", "demo"),
        ("{symbol}", "EURUSD"),
        ("{ticket}", "1"),
        ("{trade_id}", "1"),
        ("{file}", "index.css"),
    ];
    arguments.iter().fold(template.to_owned(), |path, (name, value)| path.replace(name, value))
}

#[tokio::test]
async fn every_documented_operation_is_served_under_its_own_template() {
    // Without a key, most end before their handler runs, and are labelled all the same.
    let api = Api::start(&[("reader", "read")]).await;
    let operations = documented();
    assert!(operations.len() > 40);
    for (method, template) in operations {
        let reply = api.send(&method, &example(&template), &[]).await;
        assert_eq!(reply.template, Some(&*template), "{method}");
        assert_ne!(reply.status, 405, "{method} {template}");
    }
}

#[test]
fn the_document_describes_every_route_but_the_pages() {
    let (_, routes) = chain(&DOCUMENT);
    let served: BTreeSet<(String, String)> = routes
        .operations()
        .iter()
        .map(|operation| (operation.method.to_string(), operation.template.to_owned()))
        .collect();
    assert_eq!(served, documented().into_iter().collect());
    let pages: BTreeSet<&str> = routes.pages().iter().copied().collect();
    assert_eq!(pages, BTreeSet::from(FOR_BROWSERS));
}

#[test]
fn the_document_states_the_scope_that_a_route_asks_for() {
    let document: Value = serde_json::from_str(&openapi_document()).unwrap();
    let (_, routes) = chain(&DOCUMENT);
    for operation in routes.operations() {
        let method = operation.method.as_str().to_lowercase();
        let described = &document["paths"][operation.template][method];
        let scope = operation.scope.map(crate::api::Scope::name);
        assert_eq!(described["x-required-scope"].as_str(), scope, "{}", operation.template);
        assert_eq!(described["security"].as_array().unwrap().is_empty(), scope.is_none());
    }
}

#[tokio::test]
async fn a_method_that_a_path_lacks_is_405_with_every_method_that_it_has() {
    let api = Api::start(&[]).await;
    let mut allowed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let pages = FOR_BROWSERS.map(|template| ("GET".to_owned(), template.to_owned()));
    for (method, template) in documented().into_iter().chain(pages) {
        let methods = allowed.entry(template).or_default();
        if method == "GET" {
            methods.insert("HEAD".to_owned());
        }
        methods.insert(method);
    }
    for (template, methods) in allowed {
        for method in ["PATCH", "OPTIONS", "BREW"] {
            let reply = api.send(method, &example(&template), &[]).await;
            assert_eq!((reply.status, reply.template), (405, Some(&*template)), "{method}");
            let allow = reply.headers[ALLOW].to_str().unwrap();
            let allow: BTreeSet<String> = allow.split(", ").map(str::to_owned).collect();
            assert_eq!(allow, methods, "{template}");
        }
    }
    let reply = api.send("DELETE", "/api/v1/accounts/demo/orders/1/", &[]).await;
    assert_ne!(reply.status, 405);
}

#[tokio::test]
async fn each_area_answers_head_as_get() {
    let api = Api::ready().await;
    for path in [
        TICK,
        "/api/v1/accounts/demo/symbols",
        "/api/v1/accounts/demo/symbols/EURUSD/rates?timeframe=H1&count=1",
        "/api/v1/accounts/demo/positions",
        "/api/v1/accounts/demo/orders/total",
        "/api/v1/accounts/demo/trades",
        "/api/v1/accounts/demo/history/deals?from=2020-01-01",
        "/api/v1/accounts/demo/calc/margin?action=BUY&symbol=EURUSD&volume=1&price=1",
        "/api/v1/accounts/demo/ping",
        "/api/v1/accounts/demo",
        "/api/v1/accounts",
        "/api/v1/console",
        "/console",
        "/console/console.js",
        "/docs/",
        "/docs/swagger-ui.css",
        "/livez",
        "/metrics",
        "/openapi.json",
        "/",
    ] {
        for method in ["GET", "HEAD"] {
            let reply = api.send(method, path, &[]).await;
            let text = String::from_utf8_lossy(&reply.body);
            assert_eq!(reply.status, 200, "{method} {path}: {text}");
        }
    }
    // A stream never ends, so it is asked for too little here.
    assert_eq!(api.get("/api/v1/accounts/demo/stream").await.status, 400);
}

#[tokio::test]
async fn one_slash_at_the_end_changes_nothing_and_a_second_one_is_another_path() {
    let api = Api::ready().await;
    for path in [TICK, "/api/v1/accounts", "/api/v1/accounts/demo", "/livez"] {
        assert_eq!(api.get(&format!("{path}/")).await.status, 200, "{path}/");
        let reply = api.get(&format!("{path}//")).await;
        assert_eq!((reply.status, reply.template), (404, None), "{path}//");
    }
}

#[tokio::test]
async fn names_in_paths_are_percent_decoded() {
    let api = Api::ready().await;
    let reply = api.get("/api/v1/accounts/d%65mo/symbols/EUR%55SD/tick").await;
    assert_eq!((reply.status, reply.account.as_deref()), (200, Some("demo")));
    let reply = api.get("/api/v1/accounts/a%2Fb/symbols").await;
    assert_eq!(reply.status, 404);
    assert!(String::from_utf8_lossy(&reply.body).contains("no account \\\"a/b\\\""));
    // Fixed parts of a path are not.
    assert_eq!(api.get(&TICK.replace("tick", "%74ick")).await.template, None);
}

#[tokio::test]
async fn a_fixed_segment_comes_before_a_name() {
    let api = Api::ready().await;
    let orders = "/api/v1/accounts/demo/orders";
    assert_eq!(api.get("/api/v1/accounts/demo/symbols/total").await.status, 200);
    assert_eq!(api.get(&format!("{orders}/total")).await.status, 200);
    // Neither `total` nor `check` is a ticket.
    for (method, path, allow) in [("PUT", "total", "GET, HEAD"), ("GET", "check", "POST")] {
        let reply = api.send(method, &format!("{orders}/{path}"), &[]).await;
        assert_eq!((reply.status, &reply.headers[ALLOW]), (405, &HeaderValue::from_static(allow)));
    }
    // But a symbol may have any name.
    let reply = api.get("/api/v1/accounts/demo/symbols/total/tick").await;
    assert_eq!(reply.template, Some("/api/v1/accounts/{account}/symbols/{symbol}/tick"));
}

#[tokio::test]
async fn the_key_is_checked_before_the_account_is_looked_up() {
    let api = Api::start(&[("reader", "read"), ("trader", "trade")]).await;
    let path = "/api/v1/accounts/nobody/orders";
    for (headers, status) in [
        (&[][..], 401),
        (&[("x-api-key", "reader")], 403),
        (&[("x-api-key", "trader"), ("accept", "text/html")], 406),
        (&[("x-api-key", "trader")], 404),
    ] {
        let reply = api.send("POST", path, headers).await;
        assert_eq!((reply.status, reply.account), (status, None), "{headers:?}");
    }
}

#[tokio::test]
async fn a_request_that_fails_later_has_the_label_of_its_route() {
    let api = Api::ready().await;
    let template = Some("/api/v1/accounts/{account}/orders");
    for (path, headers, status) in [
        // The account, the query, the body, the deadline.
        ("/api/v1/accounts/nobody/orders", &[][..], 404),
        ("/api/v1/accounts/demo/orders?x=1", &[], 400),
        ("/api/v1/accounts/demo/orders", &[], 415),
        ("/api/v1/accounts/demo/orders", &[("request-timeout", "soon")], 400),
    ] {
        let reply = api.send("POST", path, headers).await;
        assert_eq!((reply.status, reply.template), (status, template), "{path}");
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_and_has_no_label() {
    let api = Api::start(&[("reader", "read")]).await;
    for path in [
        "/nope",
        "/api",
        "/api/v1",
        "/api/v1/nope",
        "/api/v1/accounts/demo/nope",
        "/api/v1/accounts/demo/symbols/EURUSD/nope",
        "/api/v1/accounts/demo/symbols/EURUSD/tick/nope",
        "/api/v1/accounts/demo/orders/1/nope",
        "/console/console.js/nope",
        "/livez/nope",
    ] {
        for method in ["GET", "POST"] {
            let reply = api.send(method, path, &[]).await;
            assert_eq!((reply.status, reply.template), (404, None), "{method} {path}");
        }
    }
}
