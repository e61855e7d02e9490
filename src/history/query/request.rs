//! What can be asked of the history, and what comes back.

use super::grid::Step;
use super::matcher::Matcher;
use crate::history::metric::{Metric, Subject};

/// The most points of one series.
pub const MAX_POINTS: i64 = 11_000;
/// The most series of one answer.
pub const MAX_SERIES: usize = 1000;

/// A question. `start` and `end` are ms since the epoch, `end` exclusive.
#[derive(Debug, Clone)]
pub struct Request {
    /// What was measured; each metric gives its own series.
    pub metrics: Vec<&'static Metric>,
    /// The first moment.
    pub start: i64,
    /// The moment after the last.
    pub end: i64,
    /// The width of a bucket.
    pub step: Step,
    /// How the readings of one series in one bucket become a value.
    pub agg: Agg,
    /// The labels that make a group; without it each series stands apart.
    pub group_by: Option<Vec<Label>>,
    /// How the series of one group combine.
    pub across: Across,
    /// All of them must hold.
    pub matchers: Vec<Matcher>,
    /// What stands in empty buckets.
    pub fill: Fill,
    /// The most series in the answer, 1 to [`MAX_SERIES`].
    pub limit: usize,
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// As asked: ms since the epoch.
    pub start: i64,
    /// As asked: ms since the epoch.
    pub end: i64,
    /// The width of a bucket in ms.
    pub step_ms: i64,
    /// The coarsest sums that were read.
    pub resolution: Resolution,
    /// The start of each bucket: ms since the epoch.
    pub times: Vec<i64>,
    /// By metric in the order asked for, then by labels. Those without any value are left out.
    pub series: Vec<Series>,
    /// There were more series than the limit.
    pub truncated: bool,
}

/// One series of an [`Answer`].
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What was measured.
    pub metric: &'static Metric,
    /// The labels that tell it apart; one that is not known is empty.
    pub labels: Vec<(Label, String)>,
    /// One for each of the answer's times.
    pub values: Vec<Option<f64>>,
}

/// What an answer was computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resolution {
    /// Single readings.
    Raw,
    /// Sums by minute.
    Minute,
    /// Sums by hour.
    Hour,
}

impl Resolution {
    /// Its contract name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Minute => "1m",
            Self::Hour => "1h",
        }
    }
}

/// An enum whose members have contract names.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$member_doc:meta])* $member:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$member_doc])* $member,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$member,)*];

            /// Its contract name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$member => $text,)* }
            }

            /// The one of a contract name.
            #[must_use]
            pub fn named(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$member),)* _ => None }
            }
        }
    };
}

named! {
    /// How the readings of one series in one bucket become a value.
    Agg {
        /// Their mean.
        Avg = "avg",
        /// The smallest.
        Min = "min",
        /// The largest.
        Max = "max",
        /// Their sum.
        Sum = "sum",
        /// Their number.
        Count = "count",
        /// The earliest.
        First = "first",
        /// The latest.
        Last = "last",
        /// Their median.
        P50 = "p50",
        /// Their 95th percentile.
        P95 = "p95",
        /// Their 99th percentile.
        P99 = "p99",
    }
}

impl Agg {
    /// The share of readings below it, for a percentile.
    #[must_use]
    pub fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.50),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
            _ => None,
        }
    }
}

named! {
    /// How the series of one group combine.
    Across {
        /// The mean of their values.
        Avg = "avg",
        /// The sum of their values.
        Sum = "sum",
        /// The smallest value.
        Min = "min",
        /// The largest value.
        Max = "max",
        /// How many have a value.
        Count = "count",
    }
}

named! {
    /// What stands in an empty bucket.
    Fill {
        /// Null.
        Null = "null",
        /// Nothing: buckets that are empty in every series are left out.
        None = "none",
        /// The value before it.
        Previous = "previous",
        /// Zero.
        Zero = "zero",
    }
}

named! {
    /// What tells series apart.
    Label {
        /// The machine.
        Hive = "hive",
        /// The worker's group.
        Group = "group",
        /// Which one of its group a worker is.
        Instance = "instance",
        /// The model that the worker serves.
        Model = "model",
        /// The worker's main process.
        Pid = "pid",
        /// The GPU's uuid.
        Gpu = "gpu",
        /// The GPU's number on its hive.
        Index = "index",
        /// The GPU's product name.
        Name = "name",
    }
}

impl Label {
    /// The labels of a subject's series, where nothing else is asked for.
    #[must_use]
    pub fn usual(subject: Subject) -> &'static [Self] {
        match subject {
            Subject::Worker => &[Self::Hive, Self::Group, Self::Instance, Self::Model],
            Subject::Gpu => &[Self::Hive, Self::Gpu, Self::Index, Self::Name],
            Subject::Hive => &[Self::Hive],
        }
    }

    /// Whether readings of a subject have it.
    #[must_use]
    pub fn is_of(self, subject: Subject) -> bool {
        Self::usual(subject).contains(&self) || (self == Self::Pid && subject == Subject::Worker)
    }
}
