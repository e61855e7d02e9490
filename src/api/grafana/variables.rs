//! `POST /grafana/variable`, `/grafana/tag-keys` and `/grafana/tag-values`: the values of labels.

use axum::extract::State;
use axum::response::Response;
use hive_contract::EventKind;
use serde::Serialize;
use serde_json::Value;

use super::MAX_ASKED;
use super::asked::{Members, invalid, members, object, range, shown, text};
use super::conditions::{of_filters, of_payload, scalar};
use crate::api::body::JsonBody;
use crate::api::problem::ApiError;
use crate::api::response::json;
use crate::clock::Clock;
use crate::history::Reader;
use crate::history::metric::METRICS;
use crate::history::query::matcher::{InvalidMatcher, MAX_MATCHERS};
use crate::history::query::{self, Label, Matcher};

#[derive(Serialize)]
struct Choice {
    #[serde(rename = "__text")]
    text: String,
    #[serde(rename = "__value")]
    value: String,
}

/// The values of a variable: of the label that the payload names as its `target`, under the
/// conditions that stand in it as labels or as `match`; or `metrics`, or `kinds` of events.
pub(in crate::api) async fn variable(
    State(reader): State<Reader>,
    State(clock): State<Clock>,
    JsonBody(body): JsonBody<MAX_ASKED>,
) -> Result<Response, ApiError> {
    let asked = members(&body)?;
    let payload = match asked.get("payload") {
        // A variable of one word.
        Some(Value::String(target)) if !target.trim_start().starts_with('{') => {
            Members::from_iter([("target".to_owned(), Value::from(target.trim()))])
        }
        Some(_) => object(&asked, "payload")?,
        None => asked.clone(),
    };
    let values = match text(&payload, "target")? {
        "metrics" => METRICS.iter().map(|metric| metric.name.to_owned()).collect(),
        "kinds" => EventKind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect(),
        target => {
            let label = label("target", target, &["metrics", "kinds"])?;
            let (start, end) = range(&asked, "range", clock.now().millis())?;
            let mut matchers = of_payload(&payload, &object(&asked, "scopedVars")?)?;
            matchers.extend(of_match(&payload)?);
            query::label_values(&reader, label, start, end, &matchers).await?.values
        }
    };
    let choice = |value: String| Choice { text: value.clone(), value };
    Ok(json(&values.into_iter().filter(|v| !v.is_empty()).map(choice).collect::<Vec<_>>()))
}

fn label(field: &str, name: &str, others: &[&str]) -> Result<Label, ApiError> {
    Label::named(name).ok_or_else(|| {
        let labels: Vec<_> =
            Label::ALL.iter().map(|label| label.name()).chain(others.iter().copied()).collect();
        invalid(field, &format!("{:?} is none of {}", shown(name), labels.join(", ")))
    })
}

/// The conditions of `match`: one text, or a list of them.
fn of_match(payload: &Members) -> Result<Vec<Matcher>, ApiError> {
    let given = match payload.get("match") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(values)) => values.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    if given.len() > MAX_MATCHERS {
        return Err(invalid("match", &format!("are more than {MAX_MATCHERS}")));
    }
    let parse = |value| {
        let text = scalar(value).ok_or_else(|| invalid("match", "must be a string or a list"))?;
        text.parse().map_err(|why: InvalidMatcher| invalid("match", &why.to_string()))
    };
    given.iter().filter(|value| value.as_str() != Some("")).map(parse).collect()
}

#[derive(Serialize)]
struct Key {
    #[serde(rename = "type")]
    kind: &'static str,
    text: &'static str,
}

/// The labels that ad hoc filters can be of.
pub(in crate::api) async fn tag_keys(
    JsonBody(body): JsonBody<MAX_ASKED>,
) -> Result<Response, ApiError> {
    members(&body)?;
    let key = |label: &Label| Key { kind: "string", text: label.name() };
    Ok(json(&Label::ALL.iter().map(key).collect::<Vec<_>>()))
}

#[derive(Serialize)]
struct Tag {
    text: String,
}

/// The values of a label, under the other filters.
pub(in crate::api) async fn tag_values(
    State(reader): State<Reader>,
    State(clock): State<Clock>,
    JsonBody(body): JsonBody<MAX_ASKED>,
) -> Result<Response, ApiError> {
    let asked = members(&body)?;
    let label = label("key", text(&asked, "key")?, &[])?;
    let (start, end) = range(&asked, "timeRange", clock.now().millis())?;
    let mut matchers = of_filters(&asked)?;
    // Others of the same label can be chosen too.
    matchers.retain(|matcher| matcher.label != label);
    let values = query::label_values(&reader, label, start, end, &matchers).await?.values;
    Ok(json(&values.into_iter().map(|text| Tag { text }).collect::<Vec<_>>()))
}
