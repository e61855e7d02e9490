//! The target `events`: what happened, as a table and as annotations.

use hive_contract::EventKind;
use serde_json::{Value, json};

use super::asked::{Members, invalid, shown};
use super::conditions::{of_payload, texts};
use super::frames::{Column, Frame, Table};
use super::query::Context;
use crate::api::problem::ApiError;
use crate::history::Reader;
use crate::history::events::{self, EventsWanted, Happened};
use crate::history::query::{Label, Matcher};

/// The name of the target.
pub(super) const TARGET: &str = "events";

/// Events that are looked through: the newest.
const MAX_LOOKED_THROUGH: u32 = 10_000;
/// Events in one answer: the newest. More could not be told apart on a panel.
const MAX_EVENTS: usize = 1000;

/// The events of a range. Payload members: `kind`, and the labels hive, group, instance, model.
pub(super) async fn table(
    reader: &Reader,
    ref_id: &str,
    payload: &Members,
    context: &Context,
) -> Result<Frame, ApiError> {
    let kinds = payload.get("kind").map(|kinds| self::kinds(kinds, &context.scoped)).transpose()?;
    let mut matchers = of_payload(payload, &context.scoped)?;
    matchers.extend(context.filters.iter().cloned());
    let wanted = EventsWanted {
        start: context.start,
        end: context.end,
        kinds: kinds.unwrap_or_default(),
        hives: Vec::new(),
        limit: MAX_LOOKED_THROUGH,
    };
    let events = events::events(reader, &wanted).await?;
    let mut rows: Vec<_> =
        events.iter().rev().filter_map(|event| row(event, &matchers)).take(MAX_EVENTS).collect();
    rows.reverse();
    let columns = vec![
        Column::new("time", "time"),
        Column::new("title", "string"),
        Column::new("text", "string"),
        Column::new("tags", "string"),
    ];
    Ok(Frame::Table(Table::new(ref_id, columns, rows)))
}

fn kinds(value: &Value, scoped: &Members) -> Result<Vec<EventKind>, ApiError> {
    let kind = |text: &String| {
        text.parse().map_err(|_| {
            let kinds: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
            invalid("kind", &format!("{:?} is none of {}", shown(text), kinds.join(", ")))
        })
    };
    texts("kind", value, scoped)?.unwrap_or_default().iter().map(kind).collect()
}

/// An event that satisfies all conditions, as a row.
fn row(event: &Happened, matchers: &[Matcher]) -> Option<Vec<Value>> {
    let detail: Value = serde_json::from_str(event.detail.get()).unwrap_or_default();
    let (group, instance) =
        event.worker.as_deref().and_then(|worker| worker.split_once('/')).unwrap_or_default();
    let hive = event.hive.as_deref().unwrap_or_default();
    let said = |name: &str| detail.get(name).and_then(Value::as_str).unwrap_or_default();
    let admits = |matcher: &Matcher| match matcher.label {
        Label::Hive => matcher.admits(hive),
        Label::Group => matcher.admits(group),
        Label::Instance => matcher.admits(instance),
        // A change of model is of both.
        Label::Model => ["model", "from", "to"].into_iter().any(|name| matcher.admits(said(name))),
        Label::Gpu => matcher.admits(said("uuid")),
        Label::Name => matcher.admits(said("name")),
        Label::Pid | Label::Index => true,
    };
    if !matchers.iter().all(admits) {
        return None;
    }
    let place = [Some(hive).filter(|hive| !hive.is_empty()), event.worker.as_deref()];
    let place: Vec<_> = place.into_iter().flatten().collect();
    let figures = match &detail {
        Value::Object(members) => members.iter().filter(|(_, value)| !value.is_null()),
        _ => return Some(columns(event, hive, &place.join("/"))),
    };
    let figures = figures.map(|(name, value)| match value {
        Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    let text: Vec<_> = std::iter::once(place.join("/")).chain(figures).collect();
    Some(columns(event, hive, &text.join(", ")))
}

fn columns(event: &Happened, hive: &str, text: &str) -> Vec<Value> {
    let tags = if hive.is_empty() { event.kind.clone() } else { format!("{},{hive}", event.kind) };
    vec![json!(event.time), json!(event.kind.replace('_', " ")), json!(text), json!(tags)]
}
