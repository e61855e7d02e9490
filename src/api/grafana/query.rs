//! `POST /grafana/query`: the targets of a panel, or of an annotation.

use axum::extract::State;
use axum::response::Response;
use hive_contract::{Code, Problem};
use serde_json::Value;

use super::MAX_ASKED;
use super::annotations;
use super::asked::{Members, invalid, list, members, number, object, range, shown, text};
use super::conditions::{literals, of_filters, of_payload, texts};
use super::frames::{self, Frame};
use crate::api::body::JsonBody;
use crate::api::problem::ApiError;
use crate::api::response::json;
use crate::clock::Clock;
use crate::history::Reader;
use crate::history::metric::{METRICS, Metric};
use crate::history::query::request::{MAX_POINTS, MAX_SERIES};
use crate::history::query::{self, Across, Agg, Fill, Label, Matcher, Request, Step};

/// The most targets of one request.
const MAX_TARGETS: usize = 100;
/// The most values of all targets of a request together: what a panel can hold, and memory too.
const MAX_VALUES: usize = 2_000_000;
/// Points of a series where none are asked for.
const DEFAULT_POINTS: f64 = 1000.0;

/// The group of those who want everything in one series.
pub(super) const ALL_IN_ONE: &str = "all";

/// What all targets of a request have in common.
pub(super) struct Context {
    /// ms since the epoch.
    pub(super) start: i64,
    /// ms since the epoch, exclusive.
    pub(super) end: i64,
    points: i64,
    /// Ad hoc filters.
    pub(super) filters: Vec<Matcher>,
    /// The dashboard's variables.
    pub(super) scoped: Members,
}

impl Context {
    fn parse(asked: &Members, now: i64) -> Result<Self, ApiError> {
        let (start, end) = range(asked, "range", now)?;
        let mut points = number(asked, "maxDataPoints")?.unwrap_or(DEFAULT_POINTS);
        // The least width of a bucket, where the panel asks for one.
        if let Some(interval) = number(asked, "intervalMs")? {
            points = points.min((end - start) as f64 / interval + 1.0);
        }
        let points = points.clamp(1.0, MAX_POINTS as f64) as i64;
        let scoped = object(asked, "scopedVars")?;
        Ok(Self { start, end, points, filters: of_filters(asked)?, scoped })
    }
}

/// Answers all targets, in their order.
pub(in crate::api) async fn query(
    State(reader): State<Reader>,
    State(clock): State<Clock>,
    JsonBody(body): JsonBody<MAX_ASKED>,
) -> Result<Response, ApiError> {
    let asked = members(&body)?;
    let context = Context::parse(&asked, clock.now().millis())?;
    let targets = list(&asked, "targets")?;
    if targets.len() > MAX_TARGETS {
        return Err(invalid("targets", &format!("are more than {MAX_TARGETS}")));
    }
    let mut frames: Vec<Frame> = Vec::new();
    let mut values = 0;
    for (at, target) in targets.iter().enumerate() {
        let target = target
            .as_object()
            .ok_or_else(|| invalid(&format!("targets[{at}]"), "must be an object"))?;
        let ref_id = text(target, "refId")?;
        let payload = object(target, "payload")?;
        match text(target, "target")? {
            // Nothing is chosen yet.
            "" => {}
            annotations::TARGET => {
                frames.push(annotations::table(&reader, ref_id, &payload, &context).await?);
            }
            name => {
                let (request, form) = request(name, &payload, &context)?;
                let answer = query::query(&reader, &request).await?;
                values += answer.series.len() * answer.times.len();
                if values > MAX_VALUES {
                    let detail = format!(
                        "have more than {MAX_VALUES} values; choose fewer series or group them, \
                         or give the panel a larger least interval"
                    );
                    return Err(invalid("targets", &detail));
                }
                match form {
                    Form::TimeSeries => frames.extend(frames::series(ref_id, &request, answer)),
                    Form::Table => frames.push(frames::table(ref_id, &request, &answer)),
                }
            }
        }
    }
    Ok(json(&frames))
}

/// The forms of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    TimeSeries,
    Table,
}

impl Form {
    fn named(name: &str) -> Option<Self> {
        match name {
            "timeseries" => Some(Self::TimeSeries),
            "table" => Some(Self::Table),
            _ => None,
        }
    }
}

/// The names of [`Form`].
pub(super) const FORMS: [&str; 2] = ["timeseries", "table"];

fn request(name: &str, payload: &Members, context: &Context) -> Result<(Request, Form), ApiError> {
    let metrics = metrics(name)?;
    let Context { start, end, points, filters, scoped } = context;
    let agg = one_of(payload, "agg", scoped, Agg::named, Agg::ALL.iter().map(|agg| agg.name()))?;
    let across = Across::ALL.iter().map(|across| across.name());
    let across = one_of(payload, "across", scoped, Across::named, across)?;
    let form = one_of(payload, "format", scoped, Form::named, FORMS.into_iter())?;
    let form = form.unwrap_or(Form::TimeSeries);
    let (step, usual) = match form {
        Form::TimeSeries => (Step::AtMost(*points), Agg::Avg),
        Form::Table => (Step::AtMost(1), Agg::Last),
    };
    let mut matchers = of_payload(payload, scoped)?;
    matchers.extend(filters.iter().cloned());
    let group_by = group_by(payload, scoped, &metrics)?;
    let request = Request {
        start: *start,
        end: *end,
        step,
        agg: agg.unwrap_or(usual),
        group_by,
        across: across.unwrap_or(Across::Avg),
        matchers,
        fill: Fill::Null,
        limit: MAX_SERIES,
        metrics,
    };
    Ok((request, form))
}

/// One metric, or several as a variable writes them: `(a|b)`.
fn metrics(name: &str) -> Result<Vec<&'static Metric>, ApiError> {
    let mut metrics = Vec::new();
    for name in literals(name).unwrap_or_else(|| vec![name.into()]) {
        let metric = Metric::named(&name).ok_or_else(|| {
            let known: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
            let (name, known) = (shown(&name), known.join(", "));
            let detail = format!("there is no metric {name:?}; the metrics are {known}");
            Problem::new(Code::UnknownMetric, detail)
        })?;
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    Ok(metrics)
}

/// A payload member that has one of some names.
fn one_of<T>(
    payload: &Members,
    member: &str,
    scoped: &Members,
    named: impl Fn(&str) -> Option<T>,
    allowed: impl Iterator<Item = &'static str>,
) -> Result<Option<T>, ApiError> {
    let texts = texts(member, payload.get(member).unwrap_or(&Value::Null), scoped)?;
    let Some(texts) = texts else { return Ok(None) };
    let found = match texts.as_slice() {
        [one] => named(one),
        _ => None,
    };
    found.map(Some).ok_or_else(|| {
        let allowed: Vec<_> = allowed.collect();
        let (given, allowed) = (shown(&texts.join(", ")), allowed.join(", "));
        invalid(member, &format!("{given:?} is not one of {allowed}"))
    })
}

/// The labels to group by; an empty list, or [`ALL_IN_ONE`], is one group of everything.
fn group_by(
    payload: &Members,
    scoped: &Members,
    metrics: &[&'static Metric],
) -> Result<Option<Vec<Label>>, ApiError> {
    const MEMBER: &str = "group_by";
    let texts = texts(MEMBER, payload.get(MEMBER).unwrap_or(&Value::Null), scoped)?;
    let Some(texts) = texts else { return Ok(None) };
    let mut labels = Vec::new();
    let names = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    for name in names.filter(|name| !name.is_empty() && *name != ALL_IN_ONE) {
        let of = |label: &Label| metrics.iter().any(|metric| label.is_of(metric.subject));
        let label = Label::named(name).filter(of).ok_or_else(|| {
            let known: Vec<_> = Label::ALL.iter().filter(|l| of(l)).map(|l| l.name()).collect();
            let (name, known) = (shown(name), known.join(", "));
            invalid(MEMBER, &format!("{name:?} is not a label of the metric; it has {known}"))
        })?;
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    Ok(Some(labels))
}
