use bytes::Bytes;

use super::*;

fn reply(status: u16, body: &'static str) -> Result<Reply, client::Error> {
    Ok(Reply {
        status,
        retry_after: None,
        date_ms: None,
        body: Bytes::from_static(body.as_bytes()),
    })
}

fn timeout() -> Result<Reply, client::Error> {
    Err(client::Error::Timeout { queen: "h:1".into(), limit: Duration::from_secs(5) })
}

#[test]
fn everything_is_counted() {
    let mut tally = Tally::new();
    let took = Duration::from_millis(2);
    let done = Verdict::Settled;
    let wait = |seconds| Verdict::Again(Duration::from_secs(seconds));
    assert_eq!(tally.settle(10, took, &reply(200, r#"{"status":"ok","id":1}"#)), done);
    assert_eq!(tally.settle(10, took, &reply(200, r#"{"duplicate":true}"#)), done);
    assert_eq!(tally.settle(10, took, &reply(422, r#"{"code":"clock_skew","detail":"x"}"#)), done);
    assert_eq!(tally.settle(10, took, &reply(503, r#"{"code":"queue_full"}"#)), wait(1));
    assert_eq!(tally.settle(10, took, &reply(502, "<html>")), done);
    assert_eq!(tally.settle(10, took, &timeout()), wait(1));
    let slow = Reply { retry_after: Some(Duration::from_secs(9_999)), ..reply(429, "{}").unwrap() };
    assert_eq!(tally.settle(10, took, &Ok(slow)), wait(30));
    tally.skip(3);
    let report = serde_json::to_value(tally.report(Duration::from_secs(2), 16)).unwrap();
    let latency = &report["latency_ms"];
    assert!((1.99..2.01).contains(&latency["p50"].as_f64().unwrap()), "{latency}");
    let mut expected = serde_json::json!({
        "duration_s": 2.0,
        "heartbeats_sent": 7,
        "heartbeats_acknowledged": 2,
        "duplicates": 1,
        "ticks_skipped": 3,
        "heartbeats_per_s": 1.0,
        "worker_samples_per_s": 16.0,
        "body_bytes": 70,
        "refusals": [
            {"status": 422, "code": "clock_skew", "count": 1},
            {"status": 429, "code": "", "count": 1},
            {"status": 502, "code": "", "count": 1},
            {"status": 503, "code": "queue_full", "count": 1},
        ],
        "failures": {"timeout": 1},
        "last_trouble": "429",
    });
    expected["latency_ms"] = latency.clone();
    assert_eq!(report, expected);
    assert_eq!(tally.troubles(), 5);
}

#[test]
fn a_report_reads_well() {
    let mut tally = Tally::new();
    tally.settle(10, Duration::from_millis(2), &reply(200, "{}"));
    let text = tally.report(Duration::from_secs(1), 4).to_string();
    assert!(text.contains("1 sent, 1 acknowledged"), "{text}");
    assert!(text.ends_with("refusals        none"), "{text}");
    tally.settle(10, Duration::ZERO, &timeout());
    let text = tally.report(Duration::from_secs(1), 4).to_string();
    assert!(text.contains("failed          1 × timeout"), "{text}");
    assert!(text.ends_with("the queen at h:1 did not answer within 5s"), "{text}");
}

#[test]
fn the_kinds_of_refusals_have_a_bound() {
    let mut tally = Tally::new();
    for number in 0..10_000 {
        let body = format!(r#"{{"code":"code-{number}"}}"#).into();
        let refused = Ok(Reply { status: 400, retry_after: None, date_ms: None, body });
        tally.settle(1, Duration::ZERO, &refused);
    }
    assert_eq!(tally.refusals.len(), MAX_REFUSALS + 1);
    assert_eq!(tally.troubles(), 10_000);
}
