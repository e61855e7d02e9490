//! Which events a subscriber wants, and what of them.

use bytes::Bytes;
use hive_contract::Heartbeat;
use hive_contract::event::Lifecycle;
use hive_contract::heartbeat::Worker;
use serde_json::Value;

use crate::api::params::{Params, invalid};
use crate::api::problem::ApiError;
use crate::feed::{Content, Event, Form};
use crate::history::readings::HiveFilter;

/// The kinds of events that can be asked for.
const EVENTS: [&str; 3] = ["heartbeat", "lifecycle", "queen"];

/// What a subscriber wants. An empty list admits everything.
#[derive(Debug)]
pub(super) struct Wanted {
    form: Form,
    hives: Vec<String>,
    groups: Vec<String>,
    models: Vec<String>,
    events: Vec<String>,
    /// Late data too.
    backfill: bool,
}

impl Wanted {
    pub(super) fn parse(params: &Params, form: Form) -> Result<Self, ApiError> {
        let all = |name| params.all(name).map(ToOwned::to_owned).collect::<Vec<_>>();
        let events = all("event");
        if let Some(unknown) = events.iter().find(|event| !EVENTS.contains(&event.as_str())) {
            let [a, b, c] = EVENTS;
            return Err(invalid("event", &format!("{unknown:?} is none of {a}, {b}, {c}")));
        }
        let backfill = params.get("backfill", "true or false")?.unwrap_or(false);
        let (hives, groups, models) = (all("hive"), all("group"), all("model"));
        Ok(Self { form, hives, groups, models, events, backfill })
    }

    /// Whether all heartbeats and events are wanted, late data left out.
    pub(super) fn is_everything(&self) -> bool {
        let lists = [&self.hives, &self.groups, &self.models, &self.events];
        lists.into_iter().all(Vec::is_empty) && !self.backfill
    }

    /// Which hives are wanted; `None`: all.
    pub(super) fn hive_filter(&self) -> Option<HiveFilter> {
        let hives = self.hives.clone();
        (!hives.is_empty())
            .then(|| -> HiveFilter { Box::new(move |hive| admits(&hives, Some(hive))) })
    }

    /// Whether anything is sent of an event.
    pub(super) fn takes(&self, event: &Event) -> bool {
        match &event.content {
            Content::Heartbeat { heartbeat, late } => {
                admits(&self.events, Some("heartbeat"))
                    && (!late || self.backfill)
                    && admits(&self.hives, Some(heartbeat.hive.id.as_str()))
                    && (self.is_whole() || heartbeat.workers.iter().any(|w| self.wants_worker(w)))
            }
            Content::Lifecycle(change) => self.wants(change),
            Content::Summary(_) => admits(&self.events, Some("queen")),
        }
    }

    /// What is sent of an event, if anything.
    pub(super) fn frame(&self, event: &Event) -> Option<Bytes> {
        self.takes(event).then(|| match &event.content {
            Content::Heartbeat { heartbeat, .. } if !self.is_whole() => {
                event.encode(self.form, Some(self.workers(heartbeat)))
            }
            _ => event.frame(self.form),
        })
    }

    /// Appends what is sent of an event, if anything.
    pub(super) fn push(&self, out: &mut String, event: &Event) {
        if self.takes(event) {
            let workers = match &event.content {
                Content::Heartbeat { heartbeat, .. } if !self.is_whole() => {
                    Some(self.workers(heartbeat))
                }
                _ => None,
            };
            event.push(out, self.form, workers);
        }
    }

    /// Whether heartbeats are wanted with all their workers.
    fn is_whole(&self) -> bool {
        self.groups.is_empty() && self.models.is_empty()
    }

    fn workers<'a>(&self, heartbeat: &'a Heartbeat) -> Vec<&'a Worker> {
        heartbeat.workers.iter().filter(|worker| self.wants_worker(worker)).collect()
    }

    fn wants_worker(&self, worker: &Worker) -> bool {
        admits(&self.groups, Some(worker.group.as_str()))
            && admits(&self.models, worker.model.as_ref().map(|model| model.as_str()))
    }

    /// An event that names no worker is wanted whatever groups and models are.
    fn wants(&self, event: &Lifecycle) -> bool {
        let hive = event.hive_id.as_ref();
        let of_hive = hive.is_none() || admits(&self.hives, hive.map(|hive| hive.as_str()));
        let of_worker = event.worker.as_ref().is_none_or(|worker| {
            let group = worker.split_once('/').map(|(group, _)| group);
            let mut models = ["model", "from", "to"].map(|name| event.detail.get(name)).into_iter();
            let model = |model: Option<&Value>| admits(&self.models, model.and_then(Value::as_str));
            admits(&self.groups, group) && models.any(model)
        });
        admits(&self.events, Some("lifecycle")) && of_hive && of_worker
    }
}

fn admits(wanted: &[String], value: Option<&str>) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| Some(wanted.as_str()) == value)
}
