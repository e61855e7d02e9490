use hive_contract::Timestamp;
use proptest::prelude::*;

use super::*;

/// A reading at a second, its workers as (instance, pid, model).
fn reading(second: i64, workers: &[(&str, u32, Option<&str>)]) -> Arc<Heartbeat> {
    let workers: Vec<_> = workers
        .iter()
        .map(|(instance, pid, model)| {
            json!({"group": "llm", "instance": instance, "pid": pid, "model": model})
        })
        .collect();
    parse(second, &json!({"workers": workers}))
}

fn parse(second: i64, rest: &Value) -> Arc<Heartbeat> {
    let mut json = json!({"hive": {"id": "h"}, "interval_ms": 1000});
    json.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    let moment = Timestamp::from_millis(second * 1000).unwrap();
    Arc::new(Heartbeat::parse(json.to_string().as_bytes(), moment).unwrap())
}

/// Kind, worker and detail of each change.
fn between(before: &Heartbeat, after: &Heartbeat) -> Vec<(&'static str, String, String)> {
    let text = |c: Change| (c.kind.as_str(), c.worker.unwrap_or_default(), c.detail.to_string());
    changes(before, after).into_iter().map(text).collect()
}

#[test]
fn workers_start_exit_and_change_their_model() {
    let before = reading(0, &[("1", 10, Some("a")), ("2", 20, Some("b")), ("3", 30, None)]);
    let after = reading(1, &[("3", 31, None), ("2", 20, Some("c")), ("4", 40, Some("d"))]);
    let (one, two, three, four) = ("llm/1", "llm/2", "llm/3", "llm/4");
    let expected = [
        ("worker_exited", one, r#"{"model":"a","pid":10}"#),
        ("worker_exited", three, r#"{"model":null,"pid":30}"#),
        ("worker_started", three, r#"{"model":null,"pid":31}"#),
        ("model_changed", two, r#"{"from":"b","pid":20,"to":"c"}"#),
        ("worker_started", four, r#"{"model":"d","pid":40}"#),
    ];
    let expected = expected.map(|(kind, worker, detail)| (kind, worker.into(), detail.into()));
    assert_eq!(between(&before, &after), expected);
    let learned = reading(2, &[("3", 31, Some("x")), ("2", 20, None), ("4", 40, Some("d"))]);
    assert_eq!(between(&after, &learned), [], "what becomes known or unknown has not changed");
}

#[test]
fn an_agent_that_has_no_figure_of_its_own_any_more_began_anew() {
    let agent = |version: &str, cpu: Option<f64>| {
        parse(0, &json!({"agent": {"version": version, "cpu_pct": cpu}}))
    };
    let detail = |before, after| format!(r#"{{"version":"{after}","version_before":"{before}"}}"#);
    let restarted = |before, after| [("agent_restarted", String::new(), detail(before, after))];
    assert_eq!(between(&agent("1", Some(0.1)), &agent("1", None)), restarted("1", "1"));
    assert_eq!(between(&agent("1", Some(0.1)), &agent("2", Some(0.1))), restarted("1", "2"));
    assert_eq!(between(&agent("1", None), &agent("1", Some(0.1))), []);
    assert_eq!(between(&agent("1", None), &parse(0, &json!({}))), []);
}

#[test]
fn a_gpu_is_lost_when_it_says_so_or_when_only_the_others_are_listed() {
    let gpus = |states: &[(u32, &str)]| {
        let gpus: Vec<_> = states
            .iter()
            .map(|(index, state)| json!({"index": index, "uuid": format!("G{index}"), "state": state}))
            .collect();
        parse(0, &json!({"gpus": gpus}))
    };
    let both = gpus(&[(0, "ok"), (1, "ok")]);
    let lost = [("gpu_lost", String::new(), r#"{"index":1,"name":null,"uuid":"G1"}"#.to_owned())];
    let said = gpus(&[(0, "ok"), (1, "lost")]);
    assert_eq!(between(&both, &said), lost);
    assert_eq!(between(&said, &gpus(&[(0, "ok")])), [], "it was lost already");
    assert_eq!(between(&both, &gpus(&[(0, "ok")])), lost);
    assert_eq!(between(&both, &gpus(&[])), [], "none could be asked");
}

/// What is recorded after readings in this order of arrival, as the table holds it.
fn recorded(readings: &[Arc<Heartbeat>]) -> Vec<(i64, String)> {
    let mut histories = Histories::default();
    let mut table: Vec<(i64, String)> = Vec::new();
    for readings in readings.chunks(3) {
        let mut staged = histories.stage();
        for reading in readings {
            let observed = staged.observe(1, reading);
            let text = |(ts, change): (i64, Change)| (ts, format!("{change:?}"));
            for gone in observed.gone.into_iter().map(text) {
                let place = table.iter().position(|recorded| *recorded == gone);
                table.remove(place.expect("what goes was recorded"));
            }
            table.extend(observed.changes.into_iter().map(text));
        }
        let staged = staged.finish();
        histories.commit(staged);
    }
    table.sort();
    table
}

proptest! {
    #[test]
    fn a_backlog_that_comes_after_the_newest_tells_the_same(
        pids in proptest::collection::vec(proptest::option::of(0..3_u32), 3..40),
        gap in any::<(proptest::sample::Index, proptest::sample::Index)>(),
    ) {
        let readings: Vec<_> = pids
            .iter()
            .zip(0..)
            .map(|(pid, second)| match pid {
                Some(pid) => reading(second, &[("1", *pid, Some("m"))]),
                None => reading(second, &[]),
            })
            .collect();
        let (a, b) = (gap.0.index(readings.len() - 1), gap.1.index(readings.len() - 1));
        let (from, to) = (1 + a.min(b), 1 + a.max(b));
        // The newest of the outage comes first, then the others in order.
        let mut arrived = readings[..from].to_vec();
        arrived.push(Arc::clone(&readings[to]));
        arrived.extend_from_slice(&readings[from..to]);
        arrived.extend_from_slice(&readings[to + 1..]);
        prop_assert_eq!(recorded(&arrived), recorded(&readings));
    }
}

#[test]
fn readings_may_fill_a_gap_in_any_order() {
    let at = |second: i64| reading(second, &[("1", if second < 5 { 1 } else { 2 }, None)]);
    let in_order: Vec<_> = (0..=8).map(at).collect();
    let arrived: Vec<_> = [0, 8, 4, 2, 6, 5, 7, 1, 3].map(at).to_vec();
    assert_eq!(recorded(&arrived), recorded(&in_order));
}
