//! An answer as JSON, rows, CSV or lines, written piece by piece.

use std::fmt::Write;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::to_string;

use super::given::Given;
use crate::api::problem::ApiError;
use crate::history::query::{Answer, Label};

/// How large a piece grows before it is sent.
const PIECE: usize = 64 << 10;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One object, with a list of values for each series.
    Json,
    /// One list of flat objects.
    Rows,
    /// A header line, and a line for each value.
    Csv,
    /// A flat object on each line.
    Ndjson,
}

impl Format {
    /// As asked for: by the parameter, else by the header.
    pub(super) fn of(given: &Given, headers: &HeaderMap) -> Result<Self, ApiError> {
        match given.first("format") {
            Some("json") => Ok(Self::Json),
            Some("rows") => Ok(Self::Rows),
            Some("csv") => Ok(Self::Csv),
            Some("ndjson") => Ok(Self::Ndjson),
            Some(other) => {
                let shown: String = other.chars().take(50).collect();
                let detail = format!("{shown:?} is not one of json, rows, csv, ndjson");
                Err(given.invalid("format", &detail))
            }
            None => Ok(Self::accepted(headers)),
        }
    }

    /// The first form that a client accepts; JSON where it accepts none of them.
    fn accepted(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let types = accept.unwrap_or_default().split(',');
        types
            .filter_map(|kind| match kind.split(';').next().unwrap_or_default().trim() {
                "application/json" | "application/*" | "*/*" => Some(Self::Json),
                "text/csv" => Some(Self::Csv),
                "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                    Some(Self::Ndjson)
                }
                _ => None,
            })
            .next()
            .unwrap_or(Self::Json)
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::Rows => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// The whole answer.
    pub(super) fn response(self, answer: Answer) -> Response {
        let content_type = HeaderValue::from_static(self.content_type());
        let mut writer = Writer::new(self, answer);
        let pieces = std::iter::from_fn(move || writer.piece())
            .map(|piece| Ok::<_, std::convert::Infallible>(Bytes::from(piece)));
        let body = Body::from_stream(stream::iter(pieces));
        ([(header::CONTENT_TYPE, content_type)], body).into_response()
    }
}

/// Writes an answer in pieces: one for each series, or for some times.
struct Writer {
    format: Format,
    answer: Answer,
    /// The labels of any series: the columns of a table.
    labels: Vec<Label>,
    /// What each series' rows begin with, after the time: its metric and labels.
    heads: Vec<String>,
    /// The next series, or the next time.
    at: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    Body { first: bool },
    Done,
}

impl Writer {
    fn new(format: Format, answer: Answer) -> Self {
        let labels: Vec<Label> = Label::ALL
            .iter()
            .copied()
            .filter(|label| answer.series.iter().any(|s| s.labels.iter().any(|l| l.0 == *label)))
            .collect();
        let heads = answer
            .series
            .iter()
            .map(|series| {
                let mut head = String::new();
                if format == Format::Csv {
                    head.push_str(series.metric.name);
                    for label in &labels {
                        let value = series.labels.iter().find(|(name, _)| name == label);
                        head.push(',');
                        push_field(&mut head, value.map_or("", |(_, value)| value));
                    }
                } else {
                    let _ = write!(head, "\"metric\":\"{}\"", series.metric.name);
                    for (label, value) in &series.labels {
                        let _ = write!(head, ",\"{}\":{}", label.name(), quoted(value));
                    }
                }
                head
            })
            .collect();
        Self { format, answer, labels, heads, at: 0, state: State::Begin }
    }

    fn piece(&mut self) -> Option<String> {
        let mut out = String::with_capacity(PIECE + PIECE / 4);
        if self.state == State::Begin {
            self.begin(&mut out);
            self.state = State::Body { first: true };
        }
        while let State::Body { first } = self.state {
            let end = match self.format {
                Format::Json => self.answer.series.len(),
                _ => self.answer.times.len(),
            };
            if self.at == end {
                self.end(&mut out);
                self.state = State::Done;
                break;
            }
            let before = out.len();
            match self.format {
                Format::Json => self.series(&mut out, first),
                _ => self.rows(&mut out, first),
            }
            self.state = State::Body { first: first && out.len() == before };
            self.at += 1;
            if out.len() >= PIECE {
                break;
            }
        }
        (!out.is_empty()).then_some(out)
    }

    fn begin(&self, out: &mut String) {
        let Answer { start, end, step_ms, resolution, times, .. } = &self.answer;
        match self.format {
            Format::Json => {
                let _ = write!(
                    out,
                    "{{\"start\":{start},\"end\":{end},\"step_ms\":{step_ms},\
                     \"resolution\":\"{}\",\"times\":{},\"series\":[",
                    resolution.name(),
                    to_string(times).unwrap_or_default()
                );
            }
            Format::Rows => out.push('['),
            Format::Csv => {
                out.push_str("time,metric");
                for label in &self.labels {
                    out.push(',');
                    out.push_str(label.name());
                }
                out.push_str(",value\r\n");
            }
            Format::Ndjson => {}
        }
    }

    fn series(&self, out: &mut String, first: bool) {
        let series = &self.answer.series[self.at];
        if !first {
            out.push(',');
        }
        let metric = series.metric;
        let _ = write!(
            out,
            "{{\"metric\":\"{}\",\"unit\":\"{}\",\"labels\":{{",
            metric.name, metric.unit
        );
        for (at, (label, value)) in series.labels.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(out, "{comma}\"{}\":{}", label.name(), quoted(value));
        }
        out.push_str("},\"values\":[");
        for (at, value) in series.values.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            match value {
                Some(value) => push_number(out, *value),
                None => out.push_str("null"),
            }
        }
        out.push_str("]}");
    }

    /// The rows of one time; an empty bucket has none.
    fn rows(&self, out: &mut String, mut first: bool) {
        let time = self.answer.times[self.at];
        for (series, head) in self.answer.series.iter().zip(&self.heads) {
            let Some(value) = series.values[self.at] else { continue };
            if self.format == Format::Csv {
                let _ = write!(out, "{time},{head},");
                push_number(out, value);
                out.push_str("\r\n");
                continue;
            }
            if self.format == Format::Rows && !std::mem::replace(&mut first, false) {
                out.push(',');
            }
            let _ = write!(out, "{{\"time\":{time},{head},\"value\":");
            push_number(out, value);
            out.push('}');
            if self.format == Format::Ndjson {
                out.push('\n');
            }
        }
    }

    fn end(&self, out: &mut String) {
        match self.format {
            Format::Json => {
                let _ = write!(out, "],\"truncated\":{}}}", self.answer.truncated);
            }
            Format::Rows => out.push(']'),
            Format::Csv | Format::Ndjson => {}
        }
    }
}

/// Values are finite by construction.
fn push_number(out: &mut String, value: f64) {
    let _ = write!(out, "{value:?}");
}

fn quoted(text: &str) -> String {
    to_string(text).unwrap_or_default()
}

/// A field of a CSV line. In quotes where anything in it could be taken for a separator, or its
/// beginning for a formula.
pub(super) fn push_field(out: &mut String, text: &str) {
    let plain = |c: char| !matches!(c, ',' | '"' | '\r' | '\n');
    if text.chars().all(plain) && !text.starts_with(['=', '+', '-', '@', '\t', ' ']) {
        out.push_str(text);
    } else {
        let _ = write!(out, "\"{}\"", text.replace('"', "\"\""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::metric::Metric;
    use crate::history::query::{Resolution, Series};

    fn written(format: Format) -> String {
        let series = |model: &str, values: [Option<f64>; 2]| Series {
            metric: Metric::named("cpu_pct").unwrap(),
            labels: vec![(Label::Model, model.to_owned())],
            values: values.to_vec(),
        };
        let answer = Answer {
            start: 0,
            end: 2000,
            step_ms: 1000,
            resolution: Resolution::Raw,
            times: vec![0, 1000],
            series: vec![series("a,\"b\"", [None, Some(1.5)]), series("=c", [Some(2.0), None])],
            truncated: false,
        };
        let mut writer = Writer::new(format, answer);
        std::iter::from_fn(|| writer.piece()).collect()
    }

    #[test]
    fn each_form() {
        assert_eq!(
            written(Format::Json),
            r#"{"start":0,"end":2000,"step_ms":1000,"resolution":"raw","times":[0,1000],"series":[{"metric":"cpu_pct","unit":"percent","labels":{"model":"a,\"b\""},"values":[null,1.5]},{"metric":"cpu_pct","unit":"percent","labels":{"model":"=c"},"values":[2.0,null]}],"truncated":false}"#
        );
        assert_eq!(
            written(Format::Rows),
            r#"[{"time":0,"metric":"cpu_pct","model":"=c","value":2.0},{"time":1000,"metric":"cpu_pct","model":"a,\"b\"","value":1.5}]"#
        );
        assert_eq!(
            written(Format::Csv),
            "time,metric,model,value\r\n0,cpu_pct,\"=c\",2.0\r\n1000,cpu_pct,\"a,\"\"b\"\"\",1.5\r\n"
        );
        assert_eq!(written(Format::Ndjson).lines().count(), 2);
    }
}
