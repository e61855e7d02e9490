//! What a metric comes down to: which figures are read, and how they become values.

use super::request::{Across, Agg, Label};
use crate::history::metric::{self, Metric, Source, Subject};

/// Where the figures are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    /// In a column of the subject's table.
    Column(&'static str),
    /// With what a hive says of itself: the memory of the machine.
    Description,
    /// With the subject's name: the same for each of its readings.
    Identity,
    /// In there being a reading: 1 for each.
    Presence,
}

/// How the values of a group's series combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Combine {
    Across(Across),
    /// How many are above 0.
    Positive,
}

/// One metric as it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) subject: Subject,
    /// The number under which its sums stand in the file.
    pub(super) stored: u8,
    pub(super) figure: Figure,
    pub(super) agg: Agg,
    pub(super) combine: Combine,
    /// It counts workers or hives: a series is one of them.
    pub(super) counts: bool,
}

impl Measure {
    /// Of a metric, as asked for. Metrics that count are what they are, whatever is asked for.
    pub(super) fn of(metric: &Metric, agg: Agg, across: Across) -> Self {
        let measure = Self {
            subject: metric.subject,
            stored: metric.number,
            figure: Figure::Presence,
            agg,
            combine: Combine::Across(across),
            counts: false,
        };
        match (metric.source, metric.subject) {
            // A worker whose GPU is not known is neither busy nor idle.
            (Source::Presence, _) if metric.number == metric::BUSY => Self {
                stored: metric::GPU_UTIL,
                figure: Figure::Column("gpu_util_pct"),
                agg: Agg::Max,
                combine: Combine::Positive,
                counts: true,
                ..measure
            },
            (Source::Presence, _) => Self {
                agg: Agg::Count,
                combine: Combine::Across(Across::Count),
                counts: true,
                ..measure
            },
            (Source::Column("memory_total_mb"), Subject::Hive) => {
                Self { figure: Figure::Description, ..measure }
            }
            (Source::Column(column), _) => Self { figure: Figure::Column(column), ..measure },
            (Source::Identity, subject) => {
                Self { stored: present(subject), figure: Figure::Identity, ..measure }
            }
        }
    }

    /// The presence of a subject.
    pub(super) fn presence(subject: Subject) -> Self {
        Self {
            subject,
            stored: present(subject),
            figure: Figure::Presence,
            agg: Agg::Count,
            combine: Combine::Across(Across::Count),
            counts: true,
        }
    }

    /// The same figures, only counted.
    pub(super) fn counted(&self) -> Self {
        Self { agg: Agg::Count, combine: Combine::Across(Across::Count), ..*self }
    }

    pub(super) fn is_identity(&self) -> bool {
        self.figure == Figure::Identity
    }

    /// The labels that tell its series apart, besides those that are asked for.
    pub(super) fn series_labels(&self) -> &'static [Label] {
        match self.subject {
            // A worker that changes its model is still one worker.
            Subject::Worker if self.counts => &[Label::Hive, Label::Group, Label::Instance],
            subject => Label::usual(subject),
        }
    }

    /// The labels of its groups where none are asked for.
    pub(super) fn usual_groups(&self) -> &'static [Label] {
        if self.counts { &[] } else { Label::usual(self.subject) }
    }
}

fn present(subject: Subject) -> u8 {
    match subject {
        Subject::Worker => metric::WORKER_PRESENT,
        Subject::Gpu => metric::GPU_PRESENT,
        Subject::Hive => metric::HIVE_PRESENT,
    }
}
