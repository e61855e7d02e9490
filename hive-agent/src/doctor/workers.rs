//! The workers that are found, and why each of them is one.

use std::sync::Arc;
use std::thread;

use hive_contract::heartbeat::Worker;

use super::Finding;
use crate::clock::SystemClock;
use crate::collect::{Collector, Settings};
use crate::config::Config;
use crate::once::PAUSE;

const SUBJECT: &str = "worker";

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let settings = Settings { interval: None, ..config.settings() };
    let mut collector = Collector::new(settings, Arc::new(SystemClock));
    collector.collect(0);
    // Longer than servers may take to answer. Nothing else runs on the doctor's runtime.
    thread::sleep(PAUSE);
    let heartbeat = collector.collect(0);
    let mut findings: Vec<Finding> = heartbeat
        .workers
        .iter()
        .map(|worker| Finding::fine(SUBJECT, describe(worker, &collector)))
        .collect();
    if findings.is_empty() {
        let how = match config.discovery.is_on {
            true => "neither in rbee.slice nor by a command line",
            false => "in rbee.slice; others are not looked for (discover = false)",
        };
        let advice = "start one: hive-agent spawn --group llm --instance 8080 -- llama-server …; \
                      a server of an unknown kind needs that, or a rule with its program";
        findings.push(Finding::note(SUBJECT, format!("none is found {how}"), advice));
    }
    let errors = heartbeat.agent.map(|agent| agent.errors).unwrap_or_default();
    findings.extend(errors.into_iter().map(|error| {
        Finding::note("reading", error.as_str(), "the figure is null while this lasts")
    }));
    findings
}

fn describe(worker: &Worker, collector: &Collector) -> String {
    let Worker { group, instance, pid, model, .. } = worker;
    let why = collector.explain(group, instance).unwrap_or_default();
    let model = model.as_ref().map_or("not known", |model| model.as_str());
    let figure = |name: &str, value: Option<String>| {
        format!("{name} {}", value.as_deref().unwrap_or("not known"))
    };
    let running = figure("running", worker.requests_running.map(|count| count.to_string()));
    let waiting = figure("waiting", worker.requests_waiting.map(|count| count.to_string()));
    format!(
        "{group}/{instance}, process {}, {why}; model {model}; requests: {running}, {waiting}",
        pid.whole()
    )
}
