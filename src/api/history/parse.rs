//! Parameters to a [`Request`], each error with the parameter's name and what is allowed.

use hive_contract::{Code, Problem};

use super::given::Given;
use super::time;
use crate::api::problem::ApiError;
use crate::history::metric::{METRICS, Metric};
use crate::history::query::grid::Step;
use crate::history::query::matcher::MAX_MATCHERS;
use crate::history::query::request::{MAX_POINTS, MAX_SERIES};
use crate::history::query::{Across, Agg, Fill, Label, Matcher, Request};

/// Every parameter of a question.
pub(super) const PARAMETERS: [&str; 12] = [
    "metric",
    "start",
    "end",
    "step",
    "max_points",
    "agg",
    "group_by",
    "across",
    "match",
    "fill",
    "limit",
    "format",
];

const DEFAULT_POINTS: i64 = 1000;
const DEFAULT_SERIES: usize = 100;
const DEFAULT_RANGE_MS: i64 = 3_600_000;

/// Names in a row.
pub(super) fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// The whole question. `now` is ms since the epoch.
pub(super) fn request(given: &Given, now: i64) -> Result<Request, ApiError> {
    let metrics = metrics(given)?;
    let (start, end) = range(given, now)?;
    let group_by = group_by(given, &metrics)?;
    Ok(Request {
        start,
        end,
        step: step(given)?,
        agg: named(given, "agg", Agg::named, Agg::ALL.iter().map(|agg| agg.name()), Agg::Avg)?,
        group_by,
        across: named(
            given,
            "across",
            Across::named,
            Across::ALL.iter().map(|across| across.name()),
            Across::Avg,
        )?,
        matchers: matchers(given)?,
        fill: named(given, "fill", Fill::named, Fill::ALL.iter().map(|f| f.name()), Fill::Null)?,
        limit: whole(given, "limit", MAX_SERIES as i64)?.map_or(DEFAULT_SERIES, |n| n as usize),
        metrics,
    })
}

fn metrics(given: &Given) -> Result<Vec<&'static Metric>, ApiError> {
    let mut metrics: Vec<&'static Metric> = Vec::new();
    for name in given.all("metric") {
        let metric = Metric::named(name.trim()).ok_or_else(|| {
            let shown: String = name.chars().take(100).collect();
            let known = names(METRICS.iter().map(|metric| metric.name));
            let detail = format!("there is no metric {shown:?}; the metrics are {known}");
            Problem::field(Code::UnknownMetric, "metric", &detail)
        })?;
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    if metrics.is_empty() {
        let known = names(METRICS.iter().map(|metric| metric.name));
        return Err(given.invalid("metric", &format!("is required: one or more of {known}")));
    }
    Ok(metrics)
}

/// The range: from `start`, one hour ago by default, to before `end`, now by default.
pub(super) fn range(given: &Given, now: i64) -> Result<(i64, i64), ApiError> {
    let moment = |name: &str, default: i64| match given.first(name) {
        None => Ok(default),
        Some(text) => time::moment(text, now).map_err(|error| given.invalid(name, &error)),
    };
    let (start, end) = (moment("start", now - DEFAULT_RANGE_MS)?, moment("end", now)?);
    if start >= end {
        return Err(given.invalid("end", "must be after start"));
    }
    Ok((start, end))
}

fn step(given: &Given) -> Result<Step, ApiError> {
    let points = whole(given, "max_points", MAX_POINTS)?;
    match (given.first("step"), points) {
        (Some(_), Some(_)) => {
            Err(given.invalid("step", "and max_points exclude each other; give one of them"))
        }
        (Some(text), None) => {
            let step = time::span(text).filter(|&step| step > 0).ok_or_else(|| {
                let shown: String = text.chars().take(50).collect();
                let detail = format!("{shown:?} is not a length of time such as 15s, 1m, 6h or 1d");
                given.invalid("step", &detail)
            })?;
            Ok(Step::Fixed(step))
        }
        (None, points) => Ok(Step::AtMost(points.unwrap_or(DEFAULT_POINTS))),
    }
}

pub(super) fn whole(given: &Given, name: &str, max: i64) -> Result<Option<i64>, ApiError> {
    let parse = |text: &str| {
        text.parse().ok().filter(|number| (1..=max).contains(number)).ok_or_else(|| {
            let shown: String = text.chars().take(50).collect();
            given.invalid(name, &format!("{shown:?} is not a whole number from 1 to {max}"))
        })
    };
    given.first(name).map(parse).transpose()
}

pub(super) fn named<T>(
    given: &Given,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
    allowed: impl Iterator<Item = &'static str>,
    default: T,
) -> Result<T, ApiError> {
    match given.first(name) {
        None => Ok(default),
        Some(text) => parse(text).ok_or_else(|| {
            let shown: String = text.chars().take(50).collect();
            given.invalid(name, &format!("{shown:?} is not one of {}", names(allowed)))
        }),
    }
}

fn group_by(given: &Given, metrics: &[&'static Metric]) -> Result<Option<Vec<Label>>, ApiError> {
    let mut labels = None;
    for text in given.all("group_by") {
        let labels: &mut Vec<Label> = labels.get_or_insert_default();
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let of = |label: &Label| metrics.iter().any(|metric| label.is_of(metric.subject));
            let label = Label::named(name).filter(of).ok_or_else(|| {
                let shown: String = name.chars().take(50).collect();
                let known = names(Label::ALL.iter().filter(|l| of(l)).map(|l| l.name()));
                let detail =
                    format!("{shown:?} is not a label of the metric; its labels are {known}");
                given.invalid("group_by", &detail)
            })?;
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
    }
    Ok(labels)
}

/// The conditions on labels.
pub(super) fn matchers(given: &Given) -> Result<Vec<Matcher>, ApiError> {
    let mut matchers = Vec::new();
    for text in given.all("match").filter(|text| !text.trim().is_empty()) {
        if matchers.len() == MAX_MATCHERS {
            return Err(given.invalid("match", &format!("more than {MAX_MATCHERS} of them")));
        }
        let matcher = text.parse().map_err(|error| {
            let error: crate::history::query::matcher::InvalidMatcher = error;
            given.invalid("match", &error.to_string())
        })?;
        matchers.push(matcher);
    }
    Ok(matchers)
}
