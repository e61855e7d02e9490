//! Paths and their parameters. The first byte chooses the route; up to the first line break stand
//! the parameters, then a header.
#![no_main]

use std::cell::OnceCell;

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use libfuzzer_sys::fuzz_target;
use queen_fuzz::{Door, query, split};

const ROUTES: [&str; 14] = [
    "/v1/history/query",
    "/v1/history/labels/model/values",
    "/v1/history/labels/gpu/values",
    "/v1/history/events",
    "/v1/history/export",
    "/v1/history/hives/h/availability",
    "/v1/heartbeats/stream",
    "/v1/workers",
    "/v1/workers/h/llm/8080",
    "/v1/hives",
    "/v1/models",
    "/metrics",
    "/readyz",
    // The parameters are a path.
    "",
];

thread_local! { static DOOR: OnceCell<Door> = const { OnceCell::new() } }

fuzz_target!(|data: &[u8]| {
    let (route, rest) = split(data);
    let route = ROUTES[usize::from(route) % ROUTES.len()];
    let mut parts = rest.splitn(2, |&byte| byte == b'\n');
    let (parameters, header) = (parts.next().unwrap_or_default(), parts.next());
    let separator = if route.is_empty() { "/" } else { "?" };
    let mut request = Request::get(format!("{route}{separator}{}", query(parameters)));
    if let Some(Ok(header)) = header.map(HeaderValue::from_bytes) {
        for name in ["last-event-id", "accept"] {
            request = request.header(name, header.clone());
        }
    }
    if let Ok(request) = request.body(Body::empty()) {
        DOOR.with(|door| door.get_or_init(Door::without_history).ask(request));
    }
});
