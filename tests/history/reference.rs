//! The same questions, answered in the plainest way over a list of readings.

use std::collections::{BTreeMap, BTreeSet};

use super::fleet::{Kind, Reading};

/// A question; `end` is exclusive, times are ms since the epoch.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) metric: &'static str,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) step: i64,
    pub(crate) agg: &'static str,
    pub(crate) group_by: Option<Vec<&'static str>>,
    pub(crate) across: &'static str,
    pub(crate) fill: &'static str,
    pub(crate) condition: Option<Condition>,
}

/// A condition, and what it means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Condition {
    pub(crate) text: &'static str,
    pub(crate) label: &'static str,
    pub(crate) holds: fn(&str) -> bool,
}

/// Labels, and a value for each time.
pub(crate) type Series = (Vec<(String, String)>, Vec<Option<f64>>);

impl Question {
    pub(crate) fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = vec![
            ("metric", self.metric.to_owned()),
            ("start", self.start.to_string()),
            ("end", self.end.to_string()),
            ("step", format!("{}ms", self.step)),
            ("agg", self.agg.to_owned()),
            ("across", self.across.to_owned()),
            ("fill", self.fill.to_owned()),
            ("limit", "1000".to_owned()),
        ];
        if let Some(labels) = &self.group_by {
            parameters.push(("group_by", labels.join(",")));
        }
        if let Some(condition) = &self.condition {
            parameters.push(("match", condition.text.to_owned()));
        }
        parameters
    }

    fn counts(&self) -> bool {
        ["workers_online", "workers_busy", "hives_online"].contains(&self.metric)
    }

    fn kind(&self) -> Kind {
        match self.metric {
            "hives_online" => Kind::Hive,
            metric if metric.starts_with("gpu_") && metric != "gpu_util_pct" => Kind::Gpu,
            metric if metric.starts_with("node_") => Kind::Hive,
            _ => Kind::Worker,
        }
    }

    fn figure(&self, reading: &Reading) -> Option<u64> {
        match self.metric {
            "workers_online" | "hives_online" => Some(1000),
            "workers_busy" => reading.figures.get("gpu_util_pct").copied(),
            metric => reading.figures.get(metric).copied(),
        }
    }

    /// The labels of a series before groups are made.
    fn series_labels(&self) -> Vec<&'static str> {
        let mut labels = match self.kind() {
            Kind::Worker if self.counts() => vec!["hive", "group", "instance"],
            Kind::Worker => vec!["hive", "group", "instance", "model"],
            Kind::Gpu => vec!["hive", "gpu", "index", "name"],
            Kind::Hive => vec!["hive"],
        };
        for &label in self.group_by.iter().flatten() {
            if !labels.contains(&label) {
                labels.push(label);
            }
        }
        labels
    }

    /// Times and series.
    pub(crate) fn answer(&self, readings: &[Reading]) -> (Vec<i64>, Vec<Series>) {
        let mut times: Vec<i64> = Vec::new();
        let mut time = self.start.div_euclid(self.step) * self.step;
        while time < self.end {
            times.push(time);
            time += self.step;
        }
        let usual = if self.counts() { Vec::new() } else { self.series_labels() };
        let group_labels = self.group_by.clone().unwrap_or(usual);
        let series_labels = self.series_labels();
        // group → series → place → (ts, figure)
        type Places = BTreeMap<usize, Vec<(i64, u64)>>;
        let mut groups: BTreeMap<Vec<String>, BTreeMap<Vec<String>, Places>> = BTreeMap::new();
        for reading in readings {
            let label = |name: &&str| reading.labels.get(*name).cloned().unwrap_or_default();
            let wanted = self.condition.is_none_or(|c| (c.holds)(&label(&c.label)));
            if reading.kind != self.kind()
                || !(self.start..self.end).contains(&reading.ts)
                || !wanted
            {
                continue;
            }
            let Some(figure) = self.figure(reading) else { continue };
            let place = times.iter().rposition(|time| *time <= reading.ts).unwrap();
            groups
                .entry(group_labels.iter().map(label).collect())
                .or_default()
                .entry(series_labels.iter().map(label).collect())
                .or_default()
                .entry(place)
                .or_default()
                .push((reading.ts, figure));
        }
        let mut answer: Vec<Series> = Vec::new();
        for (labels, series) in groups {
            let values = (0..times.len()).map(|place| {
                let values: Vec<f64> = series
                    .values()
                    .filter_map(|places| places.get(&place))
                    .map(|readings| self.over_time(readings))
                    .collect();
                self.over_series(&values)
            });
            let values = values.collect();
            let names = group_labels.iter().map(|label| (*label).to_owned());
            answer.push((names.zip(labels).collect(), values));
        }
        self.fill(&mut times, &mut answer);
        (times, answer)
    }

    fn over_time(&self, readings: &[(i64, u64)]) -> f64 {
        let mut in_time = readings.to_vec();
        in_time.sort_unstable();
        let mut figures: Vec<f64> = readings.iter().map(|r| r.1 as f64 / 1000.0).collect();
        figures.sort_unstable_by(f64::total_cmp);
        let percentile = |share: f64| {
            let rank = share * (figures.len() as f64 - 1.0);
            let below = figures[rank.floor() as usize];
            let above = figures[rank.ceil() as usize];
            below + (above - below) * rank.fract()
        };
        match (self.counts(), self.agg) {
            (true, _) => figures[figures.len() - 1],
            (_, "avg") => {
                readings.iter().map(|r| r.1).sum::<u64>() as f64 / 1000.0 / readings.len() as f64
            }
            (_, "min") => figures[0],
            (_, "max") => figures[figures.len() - 1],
            (_, "sum") => readings.iter().map(|r| r.1).sum::<u64>() as f64 / 1000.0,
            (_, "count") => readings.len() as f64,
            (_, "first") => in_time[0].1 as f64 / 1000.0,
            (_, "last") => in_time[in_time.len() - 1].1 as f64 / 1000.0,
            (_, "p50") => percentile(0.5),
            (_, "p95") => percentile(0.95),
            (_, "p99") => percentile(0.99),
            (_, other) => panic!("{other}"),
        }
    }

    fn over_series(&self, values: &[f64]) -> Option<f64> {
        if values.is_empty() {
            return None;
        }
        if self.counts() {
            return Some(values.iter().filter(|value| **value > 0.0).count() as f64);
        }
        Some(match self.across {
            "avg" => values.iter().sum::<f64>() / values.len() as f64,
            "sum" => values.iter().sum(),
            "min" => values.iter().copied().fold(f64::INFINITY, f64::min),
            "max" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            "count" => values.len() as f64,
            other => panic!("{other}"),
        })
    }

    fn fill(&self, times: &mut Vec<i64>, series: &mut [Series]) {
        match self.fill {
            "null" => {}
            "zero" => series
                .iter_mut()
                .flat_map(|(_, values)| values)
                .for_each(|value| *value = value.or(Some(0.0))),
            "previous" => {
                for (_, values) in series {
                    for at in 1..values.len() {
                        values[at] = values[at].or(values[at - 1]);
                    }
                }
            }
            "none" => {
                let used: BTreeSet<usize> = (0..times.len())
                    .filter(|&at| series.iter().any(|(_, values)| values[at].is_some()))
                    .collect();
                let kept = |at: &usize| used.contains(at);
                *times = (0..times.len()).filter(kept).map(|at| times[at]).collect();
                for (_, values) in series {
                    *values = (0..values.len()).filter(kept).map(|at| values[at]).collect();
                }
            }
            other => panic!("{other}"),
        }
    }
}
