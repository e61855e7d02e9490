//! `--local-hive`: a queen that collects her own machine, in one process.

use serde_json::{Value, json};

use crate::support::Home;
use crate::support::agent::{HELD_MB, INSTANCE, MODEL, StandIn};
use crate::support::wait::eventually;

/// The name that she gives this machine.
fn hive_of(lines: &[String]) -> String {
    let line = lines.iter().find(|line| line.contains("collector")).expect("a line about it");
    line.split('"').nth(1).unwrap_or_else(|| panic!("{line} names the hive")).into()
}

#[test]
fn a_worker_of_this_machine_is_there_without_an_agent() {
    let queen = Home::new().start(&["--local-hive"]);
    let lines: Vec<String> = (0..4).map_while(|_| queen.next_line()).collect();
    let hive = hive_of(&lines);
    let node = eventually("this machine reports", || {
        let reply = queen.get(&format!("/v1/hives/{hive}"));
        (reply.status == 200).then(|| reply.ok()["node"].take())
    });
    assert!(node["memory_total_mb"].as_f64().unwrap() > 0.0, "{node}");
    assert_eq!(queen.hive(&hive)["state"], "live");

    let Some(worker) = StandIn::start() else { return };
    let key = format!("{hive}/{}/{INSTANCE}", worker.group);
    let served = eventually("the worker is seen", || {
        let reply = queen.get(&format!("/v1/workers/{key}"));
        (reply.status == 200).then(|| reply.json()).filter(|worker| worker["cpu_pct"].is_number())
    });
    assert_eq!(served["pid"], json!(worker.pid()));
    assert_eq!(served["model"], MODEL);
    assert_eq!(served["url"], "http://127.0.0.1:8080");
    assert!(served["rss_mb"].as_f64().unwrap() > HELD_MB as f64, "{served}");
    assert!(served["cpu_pct"].as_f64().unwrap() > 5.0, "{served}");
    let sql = format!("SELECT DISTINCT model FROM history WHERE \"group\" = '{}'", worker.group);
    assert_eq!(queen.value(&sql), MODEL);
    worker.end();
    eventually("the worker is gone", || {
        (queen.get(&format!("/v1/workers/{key}")).status == 404).then_some(())
    });
}

#[test]
fn she_stops_with_her_collector() {
    let queen = Home::new().start(&["--local-hive=true"]);
    eventually("this machine reports", || {
        let hives = queen.get("/v1/hives").ok()["hives"].take();
        hives.as_array().is_some_and(|hives| !hives.is_empty()).then_some(())
    });
    let begun = std::time::Instant::now();
    let home = queen.stop();
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    assert_ne!(home.value("SELECT count(*) FROM hives"), Value::Null);
}

#[test]
fn without_it_nothing_is_collected() {
    let queen = Home::new().start(&["--local-hive=false"]);
    let lines: Vec<String> = (0..4).map_while(|_| queen.next_line()).collect();
    assert!(
        lines.iter().any(|line| line.contains("collector") && line.contains("off")),
        "{lines:?}"
    );
    assert_eq!(queen.get("/v1/hives").ok(), json!({"hives": []}));
}
