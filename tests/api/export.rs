//! What is exported is what came in.

use serde_json::{Value, json};

use crate::support::client::{JSON, NDJSON};
use crate::support::heartbeat::{example, heartbeat, marked, now_ms, wire, worker};
use crate::support::queen::ack;
use crate::support::sqlite::floats;
use crate::support::{Queen, Reply};

const SOON: &[&str] = &["--seal-after", "1s"];
const LATER: &[&str] = &["--seal-after", "1h"];

/// The heartbeats of an export, each with its id.
#[track_caller]
pub(crate) fn lines(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The same without the ids, which are the queen's.
fn without_ids(mut lines: Vec<Value>) -> Vec<Value> {
    for line in &mut lines {
        assert!(line.as_object_mut().unwrap().remove("id").is_some());
    }
    lines
}

/// Whatever is unusual and allowed, of several hives, some at the same moment.
fn unusual(now: i64) -> Vec<Value> {
    let mut fractions = heartbeat("fractions", now);
    fractions["workers"] = json!([worker("llm", "8080")]);
    for name in ["cpu_pct", "rss_mb", "gpu_util_pct", "vram_mb", "total_vram_mb", "uptime_s"]
        .into_iter()
        .chain(["io_r_mb_s", "io_w_mb_s", "kv_cache_pct"])
    {
        fractions["workers"][0][name] = json!(12.345);
    }
    fractions["node"] = json!({"cpu_pct": 0.001, "memory_used_mb": 0.25, "uptime_s": 0.5});
    fractions["agent"] = json!({"cpu_pct": 0.004, "errors": ["it's \"odd\" \\ \u{1} 模型"]});
    let mut many = heartbeat("many", now);
    many["workers"] = (0..40).map(|i| worker("llm", &format!("{}", 8100 + i))).collect();
    many["workers"][3]["model"] = json!("a model, \"quoted\"");
    many["workers"][4]["gpus"] = json!([{"uuid": "GPU-1", "util_pct": 1.5, "vram_mb": 7},
        {"uuid": "GPU-2"}, {"util_pct": 3}]);
    many["workers"][5]["gpus"] = json!([{"uuid": "GPU-2"}]);
    many["workers"][6]["gpus"] = json!([{"uuid": "GPU-1", "util_pct": 60, "vram_mb": 9}]);
    many["workers"][6]["gpu_util_pct"] = json!(60);
    many["workers"][6]["vram_mb"] = json!(9);
    many["gpus"] =
        json!([{"uuid": "GPU-1", "index": 0, "state": "ok"}, {"uuid": "GPU-2", "index": 1}]);
    many["interval_ms"] = json!(250.5);
    // A double still tells thousandths apart here, fifteen digits do not.
    let mut large = heartbeat("large", now);
    large["workers"] = json!([worker("llm", "8080")]);
    for name in ["cpu_pct", "rss_mb", "vram_mb", "uptime_s", "io_r_mb_s"] {
        large["workers"][0][name] = json!(3_210_987_654_321.125);
    }
    large["workers"][0]["gpus"] = json!([{"uuid": "GPU-1", "vram_mb": 3_210_987_654_321.125}]);
    large["gpus"] = json!([{"uuid": "GPU-1", "memory_used_mb": 3_210_987_654_321.125,
        "temperature_c": (1_u64 << 53) - 1}]);
    large["node"] = json!({"memory_used_mb": 3_210_987_654_321.125, "uptime_s": (1_u64 << 53) - 1});
    let again = heartbeat("fractions", now + 1);
    vec![fractions, many, large, heartbeat("empty", now), again]
}

/// Posts the contract's example and what is unusual.
fn fill(queen: &Queen, then: i64) {
    ack(&queen.post_bytes(example(&wire(then)).as_bytes(), &[JSON]));
    for heartbeat in unusual(then) {
        queen.takes(&heartbeat);
    }
}

#[test]
fn the_example_comes_out_as_it_came_in_and_with_its_id() {
    let queen = Queen::with(SOON);
    let posted = example(&wire(now_ms() - 10_000));
    let id = ack(&queen.post_bytes(posted.as_bytes(), &[JSON])).id;
    let expected = format!("{},\"id\":{id}}}\n", posted.strip_suffix('}').unwrap());
    assert_eq!(queen.get("/v1/history/export").text(), expected);
    queen.until_sealed();
    assert_eq!(queen.get("/v1/history/export").text(), expected);
}

#[test]
fn every_member_that_was_posted_is_there_live_and_sealed() {
    let queen = Queen::with(LATER);
    let then = now_ms() - 10_000;
    for heartbeat in unusual(then) {
        queen.takes(&heartbeat);
    }
    let live = lines(&queen.get("/v1/history/export"));
    for posted in unusual(then) {
        let matching = |line: &&Value| {
            line["hive"]["id"] == posted["hive"]["id"] && line["timestamp"] == posted["timestamp"]
        };
        let line = live.iter().find(matching).unwrap();
        assert_contains(&floats(line.clone()), &floats(posted));
    }
    let queen = queen.stop().start(SOON);
    queen.until_sealed();
    assert_eq!(lines(&queen.get("/v1/history/export")), live);
}

/// Insists that everything in `part` stands in `whole`.
#[track_caller]
fn assert_contains(whole: &Value, part: &Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (name, value) in part {
                assert_contains(&whole[name], value);
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            assert_eq!(whole.len(), part.len());
            whole.iter().zip(part).for_each(|(whole, part)| assert_contains(whole, part));
        }
        _ => assert_eq!(whole, part),
    }
}

#[test]
fn an_export_can_be_imported_and_exported_again() {
    let first = Queen::with(SOON);
    fill(&first, now_ms() - 10_000);
    first.until_sealed();
    let exported = lines(&first.get("/v1/history/export?start=-1h"));
    let second = Queen::with(LATER);
    for hive in ["localhost", "fractions", "many", "large", "empty"] {
        let reply = first.get(&format!("/v1/history/export?match=hive={hive}&limit=1000"));
        let imported =
            second.client().send("POST", "/v1/hive-heartbeats", &[NDJSON], &reply.body).ok();
        assert_eq!(imported["accepted"], reply.text().lines().count(), "{hive}");
    }
    let again = lines(&second.get("/v1/history/export?start=-1h"));
    assert_eq!(without_ids(again), without_ids(exported.clone()));
    let queen = second.stop().start(SOON);
    queen.until_sealed();
    let sealed = lines(&queen.get("/v1/history/export?start=-1h"));
    assert_eq!(without_ids(sealed), without_ids(exported));
}

#[test]
fn a_damaged_reading_is_left_out_whole() {
    let queen = Queen::with(SOON);
    let then = now_ms() - 10_000;
    queen.takes(&marked("sound", then, 1.0));
    queen.takes(&marked("damaged", then, 2.0));
    queen.until_sealed();
    let home = queen.kill();
    home.rows("UPDATE samples SET cpu_pct = -1 WHERE cpu_pct = 2000");
    let queen = home.start(SOON);
    let lines = lines(&queen.get("/v1/history/export"));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["hive"]["id"], "sound");
}

#[test]
fn a_table_has_a_line_for_each_worker_and_what_is_not_known_is_empty() {
    let queen = Queen::start();
    let then = now_ms() - 10_000;
    ack(&queen.post_bytes(example(&wire(then)).as_bytes(), &[JSON]));
    let mut odd = marked("odd", then, 1.25);
    odd["workers"][0]["model"] = json!("=1+1,\"x\"");
    queen.takes(&odd);
    queen.takes(&heartbeat("without-workers", then));
    let reply = queen.get("/v1/history/export?format=csv");
    assert_eq!(reply.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
    let expected = format!(
        "time,hive,group,instance,pid,model,cpu_pct,rss_mb,io_r_mb_s,io_w_mb_s,gpu_util_pct,\
         vram_mb,total_vram_mb,uptime_s,requests_running,requests_waiting,kv_cache_pct\r\n\
         {then},localhost,llm,8080,12345,llama-3.2-1b,45.2,4096,0,0,85,8192,24576,3600,2,0,31.5\r\n\
         {then},odd,llm,8080,1,\"=1+1,\"\"x\"\"\",1.25,,,,,,,,,,\r\n"
    );
    assert_eq!(reply.text(), expected);
}

#[test]
fn conditions_choose_hives_and_workers() {
    let queen = Queen::with(SOON);
    let then = now_ms() - 10_000;
    let mut two = heartbeat("a", then);
    two["workers"] = json!([worker("llm", "1"), worker("llm", "2")]);
    two["workers"][1]["model"] = json!("m");
    queen.takes(&two);
    queen.takes(&heartbeat("b", then));
    queen.takes(&marked("c", then + 1, 1.0));
    let chosen = |conditions: &str| {
        let lines = lines(&queen.get(&format!("/v1/history/export?{conditions}")));
        let name = |line: &Value| {
            let workers = line["workers"].as_array().unwrap().iter();
            let workers: Vec<_> = workers.map(|w| w["instance"].as_str().unwrap()).collect();
            format!("{}:{}", line["hive"]["id"].as_str().unwrap(), workers.join("+"))
        };
        lines.iter().map(name).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(chosen(""), ["a:1+2", "b:", "c:8080"]);
        assert_eq!(chosen("match=hive%3D~a|b"), ["a:1+2", "b:"]);
        assert_eq!(chosen("match=hive!%3Da&match=group%3Dllm"), ["c:8080"]);
        assert_eq!(chosen("match=model%3Dm"), ["a:2"]);
        assert_eq!(chosen("match=model!%3Dm"), ["a:1", "c:8080"]);
        assert_eq!(chosen("match=pid%3D1&match=instance%3D8080"), ["c:8080"]);
        assert_eq!(chosen("match=hive%3Dnobody"), [""; 0]);
        queen.until_sealed();
    }
}

#[test]
fn a_range_includes_its_start_and_not_its_end() {
    let queen = Queen::start();
    let then = now_ms() - 10_000;
    for i in 0..5 {
        queen.takes(&marked("h", then + i, i as f64));
    }
    let times = |query: &str| {
        let lines = lines(&queen.get(&format!("/v1/history/export?{query}")));
        lines.iter().map(|l| l["workers"][0]["cpu_pct"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(times(&format!("start={}&end={}", then + 1, then + 4)), [1.0, 2.0, 3.0]);
    assert_eq!(times(&format!("start={}", wire(then + 3))), [3.0, 4.0]);
    assert_eq!(times("start=-2h&end=-1h"), [0.0; 0]);
}
