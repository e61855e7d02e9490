//! Answers as Grafana reads them.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::history::query::{Across, Agg, Answer, Request, Series};

/// A series or a table.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Frame {
    Series(TimeSeries),
    Table(Table),
}

/// Values over time.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TimeSeries {
    target: String,
    ref_id: String,
    tags: Map<String, Value>,
    unit: &'static str,
    /// Ascending, in ms since the epoch.
    datapoints: Vec<(Option<f64>, i64)>,
}

/// Rows under named columns.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Table {
    #[serde(rename = "type")]
    kind: &'static str,
    ref_id: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

/// A column of a [`Table`].
#[derive(Debug, Serialize)]
pub(super) struct Column {
    text: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
}

impl Column {
    /// `kind` is one of time, number, string, boolean.
    pub(super) fn new(text: &str, kind: &'static str) -> Self {
        Self { text: text.into(), kind, unit: None }
    }
}

impl Table {
    pub(super) fn new(ref_id: &str, columns: Vec<Column>, rows: Vec<Vec<Value>>) -> Self {
        Self { kind: "table", ref_id: ref_id.into(), columns, rows }
    }
}

/// Grafana's name for the unit of an answer.
fn unit(request: &Request, series: &Series) -> &'static str {
    if request.agg == Agg::Count || request.across == Across::Count {
        return "short";
    }
    match series.metric.unit {
        "percent" => "percent",
        "mebibytes" => "mbytes",
        "mebibytes/second" => "MiBs",
        "seconds" => "s",
        "degrees celsius" => "celsius",
        "watts" => "watt",
        _ => "short",
    }
}

/// `metric{label="value", …}`
fn name(series: &Series) -> String {
    let labels: Vec<_> =
        series.labels.iter().map(|(label, value)| format!("{}={value:?}", label.name())).collect();
    if labels.is_empty() {
        return series.metric.name.into();
    }
    format!("{}{{{}}}", series.metric.name, labels.join(", "))
}

/// A frame for each series.
pub(super) fn series(ref_id: &str, request: &Request, answer: Answer) -> Vec<Frame> {
    let Answer { start, times, series, .. } = answer;
    let frame = |series: Series| {
        let tags = series.labels.iter().map(|(label, value)| (label.name().into(), json!(value)));
        let tags = tags.collect();
        let (target, unit) = (name(&series), unit(request, &series));
        // The first bucket may begin before the range; its value is of what is inside.
        let times = times.iter().map(|time| *time.max(&start));
        let datapoints = series.values.into_iter().zip(times).collect();
        Frame::Series(TimeSeries { target, ref_id: ref_id.into(), tags, unit, datapoints })
    };
    series.into_iter().map(frame).collect()
}

/// One row for each set of labels, with a column for each metric.
pub(super) fn table(ref_id: &str, request: &Request, answer: &Answer) -> Frame {
    let mut labels = Vec::new();
    for (label, _) in answer.series.iter().flat_map(|series| &series.labels) {
        if !labels.contains(label) {
            labels.push(*label);
        }
    }
    let mut columns: Vec<_> = labels.iter().map(|l| Column::new(l.name(), "string")).collect();
    for metric in &request.metrics {
        let found = answer.series.iter().find(|series| series.metric == *metric);
        let unit = found.map(|series| unit(request, series));
        columns.push(Column { unit, ..Column::new(metric.name, "number") });
    }
    let mut rows: Vec<Vec<Value>> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for series in &answer.series {
        let row = *places.entry(&series.labels).or_insert_with(|| {
            let value = |label| series.labels.iter().find(|(name, _)| name == label);
            let mut row: Vec<Value> =
                labels.iter().map(|label| json!(value(label).map(|(_, text)| text))).collect();
            row.resize(columns.len(), Value::Null);
            rows.push(row);
            rows.len() - 1
        });
        let column = request.metrics.iter().position(|metric| *metric == series.metric);
        let latest = series.values.iter().rev().find_map(|value| *value);
        if let (Some(column), Some(latest)) = (column, latest) {
            rows[row][labels.len() + column] = json!(latest);
        }
    }
    Frame::Table(Table::new(ref_id, columns, rows))
}
