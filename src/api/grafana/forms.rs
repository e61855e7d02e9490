//! `POST /grafana/metrics` and `/grafana/metric-payload-options`: what the query editor offers.

use axum::extract::State;
use axum::response::Response;
use hive_contract::EventKind;
use serde::Serialize;

use super::asked::{Members, invalid, members, object, shown, text};
use super::conditions::of_payload;
use super::query::{ALL_IN_ONE, FORMS};
use super::{MAX_ASKED, annotations};
use crate::api::body::JsonBody;
use crate::api::problem::ApiError;
use crate::api::response::json;
use crate::clock::Clock;
use crate::history::Reader;
use crate::history::metric::METRICS;
use crate::history::query::{self, Across, Agg, Label};

/// Values of the last day are offered.
const OPTIONS_RANGE_MS: i64 = 24 * 3_600_000;

#[derive(Serialize)]
struct Offered {
    value: &'static str,
    label: String,
    payloads: Vec<Field>,
}

/// A field of the payload. A select without options asks for them.
#[derive(Serialize)]
struct Field {
    name: &'static str,
    label: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    placeholder: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<Choice>,
}

#[derive(Serialize)]
struct Choice {
    value: String,
    label: String,
}

fn choices(names: impl Iterator<Item = impl Into<String>>) -> Vec<Choice> {
    let choice = |name: String| Choice { label: name.clone(), value: name };
    names.map(|name| choice(name.into())).collect()
}

fn select(
    name: &'static str,
    label: &'static str,
    placeholder: &'static str,
    options: Vec<Choice>,
) -> Field {
    Field { name, label, kind: "select", placeholder, options }
}

fn filter(label: &'static str) -> Field {
    Field { name: label, label, kind: "multi-select", placeholder: "any", options: Vec::new() }
}

fn fields(labels: &'static [&'static str]) -> Vec<Field> {
    let mut groups = choices(labels.iter().copied());
    groups.push(Choice { value: ALL_IN_ONE.into(), label: "all in one".into() });
    let mut fields = vec![
        select("agg", "over time", "avg", choices(Agg::ALL.iter().map(|agg| agg.name()))),
        Field {
            name: "group_by",
            label: "group by",
            kind: "multi-select",
            placeholder: "each apart",
            options: groups,
        },
        select("across", "across a group", "avg", choices(Across::ALL.iter().map(|a| a.name()))),
        select("format", "format", FORMS[0], choices(FORMS.into_iter())),
    ];
    fields.extend(labels.iter().copied().map(filter));
    fields
}

/// Every metric with the fields of its payload, and the events.
pub(in crate::api) async fn metrics(
    JsonBody(body): JsonBody<MAX_ASKED>,
) -> Result<Response, ApiError> {
    members(&body)?;
    let mut offered: Vec<_> = METRICS
        .iter()
        .map(|metric| Offered {
            value: metric.name,
            label: format!("{}: {}", metric.name, metric.help),
            payloads: fields(metric.labels()),
        })
        .collect();
    let kinds = choices(EventKind::ALL.iter().map(|kind| kind.as_str()));
    let kind = Field { name: "kind", kind: "multi-select", options: kinds, ..filter("kind") };
    offered.push(Offered {
        value: annotations::TARGET,
        label: "events: What happened to hives and workers".into(),
        payloads: [kind]
            .into_iter()
            .chain(["hive", "group", "instance", "model"].map(filter))
            .collect(),
    });
    Ok(json(&offered))
}

/// The values of a label, under the conditions that are chosen already.
pub(in crate::api) async fn options(
    State(reader): State<Reader>,
    State(clock): State<Clock>,
    JsonBody(body): JsonBody<MAX_ASKED>,
) -> Result<Response, ApiError> {
    let asked = members(&body)?;
    let name = text(&asked, "name")?;
    let Some(label) = Label::named(name) else {
        let labels: Vec<_> = Label::ALL.iter().map(|label| label.name()).collect();
        let detail = format!("{:?} is none of {}", shown(name), labels.join(", "));
        return Err(invalid("name", &detail));
    };
    let mut payload = object(&asked, "payload")?;
    // Others of the same label can be chosen too.
    payload.remove(name);
    let matchers = of_payload(&payload, &Members::new())?;
    let now = clock.now().millis();
    let values =
        query::label_values(&reader, label, now - OPTIONS_RANGE_MS, now, &matchers).await?.values;
    Ok(json(&choices(values.into_iter().filter(|value| !value.is_empty()))))
}
