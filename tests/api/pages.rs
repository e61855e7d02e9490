//! Pages, limits, and clients that go away.

use std::io::Read;

use serde_json::Value;

use crate::export::lines;
use crate::support::agent;
use crate::support::heartbeat::{marked, now_ms};
use crate::support::wait::eventually;
use crate::support::{Queen, Reply};

const SOON: &[&str] = &["--seal-after", "1s"];
const LATER: &[&str] = &["--seal-after", "1h"];

/// Where the next page is.
fn next(reply: &Reply) -> Option<String> {
    let link = reply.header("link")?;
    let url = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
    Some(url.into())
}

fn keys(lines: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    lines.iter().map(|line| (text(&line["timestamp"]), text(&line["hive"]["id"]))).collect()
}

#[test]
fn pages_hold_everything_once_over_sealing_and_restarts() {
    let mut queen = Queen::with(LATER);
    let then = now_ms() - 60_000;
    for i in 0..30 {
        for hive in ["b", "a", "c"] {
            // Not in order.
            queen.takes(&marked(hive, then + (i * 7 % 30) * 100, 1.0));
        }
    }
    let all = lines(&queen.get("/v1/history/export"));
    assert_eq!(all.len(), 90);
    assert!(keys(&all).is_sorted());
    let mut url = Some("/v1/history/export?limit=7&start=-1h".to_owned());
    let mut paged = Vec::new();
    let mut pages = 0;
    while let Some(page) = url {
        let reply = queen.get(&page);
        let lines = lines(&reply);
        assert_eq!(lines.len(), 7.min(90 - paged.len()));
        paged.extend(lines);
        url = next(&reply);
        pages += 1;
        match pages {
            3 => {
                queen = queen.stop().start(SOON);
                queen.until_sealed();
            }
            6 => queen = queen.kill().start(LATER),
            // What comes later is not of this export, wherever it belongs.
            8 => {
                queen.takes(&marked("late", then + 2950, 1.0));
            }
            _ => {}
        }
    }
    assert_eq!(paged, all);
    assert_eq!(lines(&queen.get("/v1/history/export")).len(), 91);
}

#[test]
fn a_page_that_ends_with_the_last_heartbeat_has_no_next() {
    let queen = Queen::start();
    let then = now_ms() - 10_000;
    for i in 0..6 {
        queen.takes(&marked(if i % 2 == 0 { "a" } else { "b" }, then + i, 1.0));
    }
    for (query, pages) in [
        ("limit=6", vec![6]),
        ("limit=3", vec![3, 3]),
        ("limit=4", vec![4, 2]),
        ("limit=100", vec![6]),
        ("limit=3&match=hive%3Da", vec![3]),
        ("limit=2&match=hive%3Da", vec![2, 1]),
        ("limit=2&match=instance%3D8080&match=hive%3D~a", vec![2, 1]),
        ("limit=3&match=instance%3D8080&match=hive%3D~a", vec![3]),
        ("limit=3&match=instance%3Dnone", vec![0]),
    ] {
        let mut url = Some(format!("/v1/history/export?{query}"));
        let mut sizes = Vec::new();
        while let Some(page) = url {
            let reply = queen.get(&page);
            sizes.push(lines(&reply).len());
            url = next(&reply);
        }
        assert_eq!(sizes, pages, "{query}");
    }
    // A table's lines are workers; its limit counts heartbeats all the same.
    let reply = queen.get("/v1/history/export?format=csv&limit=4");
    assert_eq!(reply.text().lines().count(), 1 + 4);
    let reply = queen.get(&next(&reply).unwrap());
    assert_eq!(reply.text().lines().count(), 1 + 2);
}

#[test]
fn what_is_not_allowed_is_named() {
    let queen = Queen::start();
    for (query, field) in [
        ("start=yesterday", "start"),
        ("end=-", "end"),
        ("start=now&end=-1h", "end"),
        ("match=color%3Dred", "match"),
        ("match=gpu%3Dx", "match"),
        ("match=model%3D~(", "match"),
        ("match=model", "match"),
        ("format=xml", "format"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=many", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=1-2-3", "cursor"),
    ] {
        let reply = queen.get(&format!("/v1/history/export?{query}"));
        reply.field_problem(400, "invalid_parameter", field);
    }
    queen
        .client()
        .send("POST", "/v1/history/export", &[], b"{}")
        .problem(405, "method_not_allowed");
}

/// A queen with more readings of a made-up fleet than the buffers between two programs hold.
fn full() -> Queen {
    let queen = Queen::with(SOON);
    let made = agent::output(&[
        "simulate",
        "--queen",
        queen.url(),
        "--hives",
        "4",
        "--workers",
        "64",
        "--gpus",
        "8",
        "--start",
        "-8m",
        "--interval",
        "2s",
        "--flat-out",
        "--quiet",
    ]);
    assert!(made.status.success(), "{}", made.output);
    queen
}

#[test]
fn a_large_export_is_streamed_as_its_client_reads() {
    let queen = full();
    let all = queen.get("/v1/history/export?start=-1h");
    let ids = |reply: &Reply| -> Vec<i64> {
        lines(reply).iter().map(|line| line["id"].as_i64().unwrap()).collect()
    };
    let expected = ids(&all);
    assert!(expected.len() > 900 && all.body.len() > 16 << 20, "{}", all.body.len());
    let first = queen.get("/v1/history/export?start=-1h&limit=700");
    let second = queen.get(&next(&first).unwrap());
    assert!(next(&first).unwrap().contains("limit=700"));
    let mut paged = ids(&first);
    assert_eq!(paged.len(), 700);
    paged.extend(ids(&second));
    assert_eq!(paged, expected[..paged.len()]);
    assert_eq!(next(&second).is_some(), paged.len() < expected.len());
    clients_go_away(&queen);
}

/// Clients that go away leave room for others.
fn clients_go_away(queen: &Queen) {
    // Each reads a little and then nothing more: the queen waits with the rest.
    let readers: Vec<_> = (0..32)
        .map(|_| {
            let (head, mut body) = queen.client().open("/v1/history/export?start=-1h", &[]);
            assert_eq!(head.status, 200);
            body.read_exact(&mut [0; 100]).unwrap();
            body
        })
        .collect();
    queen.get("/v1/history/export").problem(429, "too_many_requests");
    queen.takes(&marked("h", now_ms(), 1.0));
    drop(readers);
    eventually("there is room again", || {
        (queen.get("/v1/history/export?match=hive%3Dh").status == 200).then_some(())
    });
}
