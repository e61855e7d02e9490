//! Bodies of Grafana's questions, of posted questions, and of requests to be routed. The first
//! byte chooses the route.
#![no_main]

use std::cell::OnceCell;

use axum::body::Body;
use axum::http::Request;
use libfuzzer_sys::fuzz_target;
use queen_fuzz::{Door, split};

const ROUTES: [&str; 8] = [
    "/grafana/query",
    "/grafana/variable",
    "/grafana/metrics",
    "/grafana/metric-payload-options",
    "/grafana/tag-keys",
    "/grafana/tag-values",
    "/v1/history/query",
    "/v1/route",
];

thread_local! { static DOOR: OnceCell<Door> = const { OnceCell::new() } }

fuzz_target!(|data: &[u8]| {
    let (route, body) = split(data);
    let request = Request::post(ROUTES[usize::from(route) % ROUTES.len()]);
    let request = request.body(Body::from(body.to_vec())).expect("a request");
    DOOR.with(|door| door.get_or_init(Door::without_history).ask(request));
});
