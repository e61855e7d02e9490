//! `POST /v1/route`: which worker a request goes to, and why none.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::support::client::{Client, JSON};
use crate::support::heartbeat::{heartbeat, now_ms, worker};
use crate::support::wait::eventually;
use crate::support::{Queen, Reply};

/// An idle worker with 16,384 MiB free, changed by some figures.
fn idle(instance: &str, figures: Value) -> Value {
    let mut worker = worker("llm", instance);
    let usual =
        json!({"model": "m", "gpu_util_pct": 0.0, "vram_mb": 8192, "total_vram_mb": 24_576});
    for figures in [usual, figures] {
        for (name, figure) in figures.as_object().unwrap() {
            worker[name] = figure.clone();
        }
    }
    worker
}

fn reports(queen: &Queen, hive: &str, workers: &[Value]) {
    let mut heartbeat = heartbeat(hive, now_ms());
    heartbeat["hive"]["hostname"] = json!("10.0.0.7");
    heartbeat["workers"] = json!(workers);
    queen.takes(&heartbeat);
}

fn ask(client: &Client, request: &Value) -> Reply {
    client.send("POST", "/v1/route", &[JSON], request.to_string().as_bytes())
}

fn route(queen: &Queen, request: Value) -> Reply {
    ask(&queen.client(), &request)
}

#[track_caller]
fn instance(reply: &Reply) -> String {
    reply.ok()["worker"]["instance"].as_str().unwrap().to_owned()
}

/// What became of the workers, and why, for a request that none can take.
#[track_caller]
fn refusal(reply: &Reply) -> (Value, String) {
    let detail = reply.problem(503, "no_available_workers");
    assert_eq!(reply.header("retry-after"), Some("1"));
    (reply.json()["considered"].clone(), detail)
}

#[track_caller]
fn release(client: &Client, lease: &str) {
    let reply = client.send("DELETE", &format!("/v1/route/leases/{lease}"), &[], &[]);
    assert_eq!((reply.status, reply.text()), (204, ""));
}

#[test]
fn an_answer_has_these_members() {
    let queen = Queen::start();
    reports(&queen, "h", &[idle("8080", json!({})), idle("8081", json!({"gpu_util_pct": 3}))]);
    let before = now_ms();
    let answer = route(&queen, json!({"model": "m", "required_vram_mb": 2048})).ok();
    let members: Vec<&String> = answer.as_object().unwrap().keys().collect();
    assert_eq!(members, ["considered", "expires", "lease_id", "worker", "worker_url"]);
    assert_eq!(answer["worker_url"], "http://10.0.0.7:8080");
    let expires: DateTime<Utc> = answer["expires"].as_str().unwrap().parse().unwrap();
    let expected = before + 2000..=now_ms() + 2000;
    assert!(expected.contains(&expires.timestamp_millis()), "{expires} {expected:?}");
    let considered =
        json!({"workers": 2, "without_model": 0, "busy": 1, "no_capacity": 0, "not_live": 0});
    assert_eq!(answer["considered"], considered);
    let shown = queen.get("/v1/workers/h/llm/8080").ok();
    assert_eq!(shown["leases"], 1);
    assert_eq!(answer["worker"], shown, "the worker as it is shown elsewhere");
}

#[test]
fn an_idle_worker_is_one_at_exactly_zero() {
    let queen = Queen::start();
    let util = |instance, util: Value| idle(instance, json!({"gpu_util_pct": util}));
    reports(&queen, "h", &[util("1", json!(0.001)), util("2", Value::Null), util("3", json!(0))]);
    let request = json!({"model": "m"});
    assert_eq!(instance(&route(&queen, request.clone())), "3");
    let (considered, detail) = refusal(&route(&queen, request));
    assert_eq!(
        considered,
        json!({"workers": 3, "without_model": 0, "busy": 2, "no_capacity": 0, "not_live": 0,
               "leased": 1})
    );
    assert_eq!(
        detail,
        "no worker can take a request for model \"m\" now: of 3 workers, \
         2 not known to be idle (1 without a GPU utilisation), 1 leased to another request"
    );
}

#[test]
fn capacity_is_that_of_its_own_devices() {
    let queen = Queen::start();
    let of = |instance, total: Value| idle(instance, json!({"total_vram_mb": total}));
    reports(&queen, "h", &[of("1", json!(10_240)), of("2", Value::Null), of("3", json!(81_559))]);
    let needs = |mb: u64| json!({"model": "m", "required_vram_mb": mb, "lease_ms": 1});
    assert_eq!(instance(&route(&queen, needs(40_000))), "3");
    // 8192 + 73367 is all of it, and not less.
    let (considered, detail) = eventually("the lease is over", || {
        let (considered, detail) = refusal(&route(&queen, needs(73_367)));
        considered["leased"].is_null().then_some((considered, detail))
    });
    assert_eq!(considered["no_capacity"], 3);
    assert!(detail.ends_with("3 without 73367 MiB of free VRAM (the most free is 73367 MiB)"));
    assert_eq!(instance(&route(&queen, needs(73_366))), "3");
}

#[test]
fn the_best_is_chosen_among_all_that_have_room() {
    let queen = Queen::start();
    let figures = |instance, waiting: u64, running: u64, util: u64, vram: u64| {
        idle(
            instance,
            json!({"requests_waiting": waiting, "requests_running": running,
                   "gpu_util_pct": util, "vram_mb": vram}),
        )
    };
    let workers = [
        figures("1", 3, 4, 10, 1000),
        figures("2", 0, 2, 90, 1000),
        figures("3", 0, 2, 80, 9000),
        figures("4", 0, 2, 80, 8000),
        figures("5", 0, 0, 100, 24_000),
    ];
    reports(&queen, "h", &workers);
    let request = |need: u64| json!({"model": "m", "required_vram_mb": need, "idle_only": false, "lease_ms": 60_000});
    let given: Vec<String> = (0..6).map(|_| instance(&route(&queen, request(1000)))).collect();
    // The fifth has no room. Each lease is a request more: the next best takes the next one.
    assert_eq!(given, ["4", "3", "2", "4", "3", "2"]);
    assert_eq!(instance(&route(&queen, request(0))), "5");
    assert_eq!(instance(&route(&queen, request(0))), "5", "one leased request is fewer than three");
}

#[test]
fn a_group_can_be_asked_for_and_workers_excluded() {
    let queen = Queen::start();
    let mut embed = idle("9000", json!({}));
    embed["group"] = json!("embed");
    reports(
        &queen,
        "h",
        &[idle("8080", json!({})), embed, idle("x", json!({})), worker("asr", "1")],
    );
    let (considered, detail) = refusal(&route(
        &queen,
        json!({"model": "m", "group": "llm", "exclude": ["h/llm/8080", "h/llm/8081"]}),
    ));
    assert_eq!(
        considered,
        json!({"workers": 2, "without_model": 0, "busy": 0, "no_capacity": 0, "not_live": 0,
               "excluded": 1, "not_routable": 1})
    );
    assert!(detail.contains("1 excluded by the request"), "{detail}");
    assert!(detail.contains("1 not routable (the instance is no port"), "{detail}");
    let request = json!({"model": "m", "exclude": ["h/llm/8080", "other/embed/9000"]});
    assert_eq!(instance(&route(&queen, request)), "9000");
    let (considered, _) = refusal(&route(&queen, json!({"model": "m", "group": "asr"})));
    assert_eq!((&considered["workers"], &considered["without_model"]), (&json!(1), &json!(1)));
    let (considered, detail) = refusal(&route(&queen, json!({"model": "m", "group": "none"})));
    assert_eq!(considered["workers"], 0);
    assert!(detail.ends_with("no worker of group none is known yet"), "{detail}");
}

#[test]
fn a_lease_is_shown_and_can_be_given_back() {
    let queen = Queen::start();
    reports(&queen, "h", &[idle("8080", json!({}))]);
    let request = json!({"model": "m", "lease_ms": 60_000, "idle_only": false});
    let leases = || queen.workers("")[0]["leases"].clone();
    assert_eq!(leases(), 0);
    let ids: Vec<String> = (0..3)
        .map(|_| route(&queen, request.clone()).ok()["lease_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(leases(), 3);
    release(&queen.client(), &ids[1]);
    assert_eq!(leases(), 2);
    release(&queen.client(), &ids[1]);
    release(&queen.client(), "0123456789abcdef");
    release(&queen.client(), "nonsense");
    assert_eq!(leases(), 2);
    for id in &ids {
        release(&queen.client(), id);
    }
    assert_eq!(leases(), 0);
}

#[test]
fn a_lease_ends_when_two_newer_readings_have_come_in() {
    let queen = Queen::start();
    let report = || reports(&queen, "h", &[idle("8080", json!({}))]);
    report();
    let request = json!({"model": "m", "lease_ms": 60_000});
    route(&queen, request.clone()).ok();
    eventually("a newer millisecond", || {
        report();
        (queen.workers("")[0]["leases"] == 0).then_some(())
    });
    route(&queen, request).ok();
    // And with its worker.
    let mut later = heartbeat("h", now_ms() + 10);
    later["workers"] = json!([idle("8081", json!({}))]);
    queen.takes(&later);
    later["timestamp"] = heartbeat("h", now_ms() + 20)["timestamp"].clone();
    later["workers"] = json!([idle("8080", json!({}))]);
    queen.takes(&later);
    assert_eq!(queen.workers("")[0]["leases"], 0);
}

#[test]
fn thousands_of_leases_on_one_worker_are_too_many() {
    let queen = Queen::with(&["--live-intervals", "60", "--stale-intervals", "120"]);
    reports(&queen, "h", &[idle("8080", json!({}))]);
    let request = json!({"model": "m", "lease_ms": 60_000, "idle_only": false});
    let client = queen.client();
    for _ in 0..1024 {
        assert_eq!(ask(&client, &request).status, 200);
    }
    let (considered, detail) = refusal(&ask(&client, &request));
    assert_eq!(considered["leased"], 1);
    assert!(detail.ends_with("1 leased to 1024 requests, the most there may be"), "{detail}");
    assert_eq!(queen.workers("")[0]["leases"], 1024);
}

#[test]
fn a_model_that_nobody_serves() {
    let queen = Queen::start();
    let (considered, detail) = refusal(&route(&queen, json!({"model": "m"})));
    assert_eq!(
        considered,
        json!({"workers": 0, "without_model": 0, "busy": 0, "no_capacity": 0, "not_live": 0})
    );
    assert!(detail.ends_with("no worker is known yet"), "{detail}");
    reports(&queen, "h", &[idle("1", json!({})), idle("2", json!({"model": null}))]);
    let (considered, detail) = refusal(&route(&queen, json!({"model": "no\"ne"})));
    assert_eq!(considered["without_model"], 2);
    assert_eq!(
        detail,
        "no worker can take a request for model \"no\\\"ne\" now: of 2 workers, \
         2 do not serve it"
    );
}

#[test]
fn nobody_is_sent_to_what_was_before_the_start() {
    let queen = Queen::start();
    reports(&queen, "h", &[idle("8080", json!({}))]);
    let lease = route(&queen, json!({"model": "m", "lease_ms": 60_000})).ok()["lease_id"].clone();
    let queen = queen.stop().start(&[]);
    let (considered, detail) = refusal(&route(&queen, json!({"model": "m"})));
    assert_eq!((&considered["workers"], &considered["not_live"]), (&json!(1), &json!(1)));
    assert!(
        detail.ends_with("1 on hives not heard lately (1 not since the queen started)"),
        "{detail}"
    );
    reports(&queen, "h", &[idle("8080", json!({}))]);
    route(&queen, json!({"model": "m"})).ok();
    release(&queen.client(), lease.as_str().unwrap());
    assert_eq!(queen.workers("")[0]["leases"], 1, "a lease of before the start names no other");
}

#[test]
fn what_is_no_request_is_refused() {
    let queen = Queen::start();
    reports(&queen, "h", &[idle("8080", json!({}))]);
    let with = |member: &str, value: Value| {
        let mut request = json!({"model": "m"});
        request[member] = value;
        request
    };
    for (request, field) in [
        (json!({}), "model"),
        (json!(["m"]), "body"),
        (json!("m"), "body"),
        (with("model", json!("")), "model"),
        (with("model", json!(7)), "model"),
        (with("model", json!("x".repeat(513))), "model"),
        (with("required_vram_mb", json!(-1)), "required_vram_mb"),
        (with("required_vram_mb", json!("2048")), "required_vram_mb"),
        (with("required_vram_mb", json!(1_u64 << 53)), "required_vram_mb"),
        (with("lease_ms", json!(0)), "lease_ms"),
        (with("lease_ms", json!(60_001)), "lease_ms"),
        (with("lease_ms", json!(-5)), "lease_ms"),
        (with("lease_ms", json!(1.5)), "lease_ms"),
        (with("lease_ms", json!("1s")), "lease_ms"),
        (with("group", json!("a b")), "group"),
        (with("exclude", json!("h/llm/8080")), "exclude"),
        (with("exclude", json!(["h/llm/8080", "h/llm"])), "exclude[1]"),
        (with("exclude", json!([1])), "exclude[0]"),
        (with("exclude", json!(vec!["h/llm/8080"; 1025])), "exclude"),
        (with("idle_only", json!("yes")), "idle_only"),
    ] {
        route(&queen, request).field_problem(422, "invalid_field", field);
    }
    let post = |headers, body: &[u8]| queen.client().send("POST", "/v1/route", headers, body);
    for body in [&b""[..], b"{", b"\xff", b"{\"model\": \"m\"} x"] {
        post(&[JSON], body).problem(400, "malformed_json");
    }
    post(&[("content-type", "text/plain")], b"{}").problem(415, "unsupported_media_type");
    post(&[JSON], &vec![b' '; (1 << 20) + 1]).problem(413, "too_large");
    queen.get("/v1/route").problem(405, "method_not_allowed");
    queen.get("/v1/route/leases/1").problem(405, "method_not_allowed");
    // Null is absent, and what is not known yet is ignored.
    let lenient = json!({"model": "m", "required_vram_mb": null, "lease_ms": null, "group": null,
                         "exclude": null, "idle_only": null, "of_the_future": [1]});
    assert_eq!(instance(&route(&queen, lenient)), "8080");
}

#[test]
fn many_clients_at_once_never_share_an_idle_worker() {
    const WORKERS: usize = 20;
    const CLIENTS: usize = 12;
    let queen = Queen::with(&["--live-intervals", "300", "--stale-intervals", "600"]);
    for hive in ["a", "b"] {
        let workers: Vec<Value> =
            (1..=WORKERS / 2).map(|port| idle(&port.to_string(), json!({}))).collect();
        let mut heartbeat = heartbeat(hive, now_ms());
        heartbeat["workers"] = json!(workers);
        queen.takes(&heartbeat);
    }
    let serves: HashMap<String, AtomicBool> = queen
        .worker_keys("")
        .into_iter()
        .map(|key| {
            let (hive, instance) = (key.split('/').next(), key.split('/').next_back());
            (format!("http://{}:{}", hive.unwrap(), instance.unwrap()), AtomicBool::new(false))
        })
        .collect();
    let request = json!({"model": "m", "lease_ms": 60_000});
    // Several routes at once, so that the workers run out; then all of them are served.
    let serve = |client: &Client| {
        let answers = [(); 3].map(|()| ask(client, &request));
        let routes: Vec<Value> =
            answers.iter().filter(|answer| answer.status == 200).map(Reply::json).collect();
        let url = |route: &Value| route["worker_url"].as_str().unwrap().to_owned();
        for route in &routes {
            let was_busy = serves[&url(route)].swap(true, Ordering::SeqCst);
            assert!(!was_busy, "{} was given twice", url(route));
        }
        for route in &routes {
            serves[&url(route)].store(false, Ordering::SeqCst);
            release(client, route["lease_id"].as_str().unwrap());
        }
        routes.iter().map(url).collect::<Vec<_>>()
    };
    let serve = &serve;
    let used: HashSet<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let client = queen.client();
                scope.spawn(move || (0..30).flat_map(|_| serve(&client)).collect::<Vec<_>>())
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(used.len(), WORKERS, "every worker had its turn");
    assert!(queen.workers("").iter().all(|worker| worker["leases"] == 0));
    // And held on to, each is given exactly once.
    let all: HashSet<String> = (0..WORKERS)
        .map(|_| route(&queen, request.clone()).ok()["worker_url"].to_string())
        .collect();
    assert_eq!(all.len(), WORKERS);
    assert_eq!(refusal(&route(&queen, request)).0["leased"], WORKERS);
}

#[test]
fn what_a_model_needs_is_learned_from_the_history() {
    let queen = Queen::with(&["--seal-after", "1s"]);
    let used = |ms: i64, vram_mb: u64| {
        let mut heartbeat = heartbeat("h", ms);
        heartbeat["workers"] = json!([idle("8080", json!({"vram_mb": vram_mb}))]);
        heartbeat
    };
    // Two hours ago, so that they are rolled up too, and a minute ago; the spike is one of 150.
    let lines: Vec<Value> = (0..149)
        .map(|i| used(now_ms() - if i < 99 { 7_200_000 } else { 60_000 } + i, 6_000 + i as u64))
        .chain([used(now_ms() - 180_000, 20_000)])
        .collect();
    assert_eq!(queen.takes_lines(&lines), (150, 0));
    queen.until_sealed();
    assert_eq!(queen.get("/v1/models").ok()["models"][0]["estimated_vram_mb"], Value::Null);

    let queen = queen.stop().start(&["--seal-after", "1h"]);
    reports(&queen, "h", &[idle("8080", json!({"vram_mb": 19_000}))]);
    let model = eventually("the history was looked at", || {
        let model = queen.get("/v1/models").ok()["models"][0].take();
        (!model["estimated_vram_mb"].is_null()).then_some(model)
    });
    // Each minute counts with its highest reading, the last of it.
    assert_eq!(model["estimated_vram_samples"], 150, "{model}");
    assert_eq!(model["estimated_vram_mb"], 6_148, "{model}");

    // 19000 + 6148 does not fit in 24576; what the request states, does.
    let (considered, detail) = refusal(&route(&queen, json!({"model": "m"})));
    assert_eq!(considered["no_capacity"], 1);
    assert!(
        detail.ends_with(
            "1 without 6148 MiB of free VRAM (the most free is 5576 MiB); that is what workers of \
             the model used (99th percentile of 150 readings), and required_vram_mb in the \
             request overrides it"
        ),
        "{detail}"
    );
    route(&queen, json!({"model": "m", "required_vram_mb": 5_575})).ok();
}
