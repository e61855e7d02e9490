//! How much GPU memory a model needs, from what its workers used.
//!
//! Invariant: only sums are read, hour by hour where there are hours, so that a week of a large
//! fleet takes less than a second. Each hour (or minute) of each worker run counts with the
//! highest reading in it and with as many samples as it has: the estimate is the real percentile
//! or a little more, never less.

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt;
use hive_contract::text::ModelName;
use hive_contract::units::Mebibytes;
use sqlx::SqliteConnection;
use tokio_util::sync::CancellationToken;

use super::metric::VRAM;
use super::reader::{ReadError, Reader};
use super::rollup::{Column, HOUR_MS};

/// How far back is looked.
const WINDOW_MS: i64 = 7 * 24 * HOUR_MS;
/// Of this many samples one may lie above the estimate.
const ONE_IN: u64 = 100;

/// GPU memory that a model needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// The 99th percentile of the memory that a worker of the model used.
    pub vram: Mebibytes,
    /// Readings that it rests on.
    pub samples: u64,
}

/// The estimates of all models, from the seven days before `now_ms` (since the epoch) as far as
/// they are sealed. `None` if it was stopped before.
///
/// # Errors
/// The history cannot be read now.
pub async fn estimates(
    reader: &Reader,
    now_ms: i64,
    stop: &CancellationToken,
) -> Result<Option<HashMap<ModelName, Estimate>>, ReadError> {
    let mut read = reader.begin().await?;
    let usage = tokio::select! {
        usage = Usage::read(now_ms, &mut read) => Some(usage),
        () = stop.cancelled() => None,
    };
    let usage = usage.transpose().map_err(|error| read.error(error));
    // Also when it was stopped: the file can only be closed cleanly when nobody reads.
    read.end().await;
    Ok(usage?.map(Usage::estimates))
}

/// What was used, model by model.
#[derive(Debug, Default)]
struct Usage {
    /// Numbers of the models, by run.
    model_of: HashMap<u64, usize>,
    models: Vec<(ModelName, Histogram)>,
}

impl Usage {
    async fn read(now_ms: i64, connection: &mut SqliteConnection) -> sqlx::Result<Self> {
        let mut usage = Self::default();
        usage.read_runs(connection).await?;
        let progress =
            sqlx::query_file!("queries/progress.sql").fetch_one(&mut *connection).await?;
        let (from, metric) = ((now_ms - WINDOW_MS).max(0), i64::from(VRAM));
        let mut hours =
            sqlx::query_file!("queries/vram_hours.sql", metric, from, progress.rolled_ts)
                .fetch(&mut *connection);
        while let Some(row) = hours.try_next().await? {
            usage.add(row.count, &row.series, &row.n, &row.max);
            tokio::task::coop::consume_budget().await;
        }
        drop(hours);
        let from = from.max(progress.rolled_ts);
        let mut minutes =
            sqlx::query_file!("queries/vram_minutes.sql", metric, from).fetch(connection);
        while let Some(row) = minutes.try_next().await? {
            usage.add(row.count, &row.series, &row.n, &row.max);
            tokio::task::coop::consume_budget().await;
        }
        drop(minutes);
        Ok(usage)
    }

    async fn read_runs(&mut self, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        let mut numbers: HashMap<String, Option<usize>> = HashMap::new();
        let mut runs = sqlx::query_file!("queries/vram_runs.sql").fetch(connection);
        while let Some(row) = runs.try_next().await? {
            let number = *numbers.entry(row.model).or_insert_with_key(|model| {
                // What somebody else wrote into the file may be no name.
                let model = ModelName::new(model.as_str()).ok()?;
                self.models.push((model, Histogram::default()));
                Some(self.models.len() - 1)
            });
            if let Some(number) = number {
                self.model_of.insert(row.run.unsigned_abs(), number);
            }
        }
        Ok(())
    }

    /// Adds the columns of a row of sums.
    fn add(&mut self, count: i64, series: &[u8], n: &[u8], max: &[u8]) {
        let count = usize::try_from(count).unwrap_or_default();
        let [series, n, max] = [series, n, max].map(|bytes| Column::new(bytes, count));
        for i in 0..count {
            if let Some(&model) = self.model_of.get(&series.get(i)) {
                self.models[model].1.add(max.get(i), n.get(i));
            }
        }
    }

    fn estimates(self) -> HashMap<ModelName, Estimate> {
        let models = self.models.into_iter();
        models.filter_map(|(model, usage)| Some((model, usage.estimate()?))).collect()
    }
}

/// How many samples there are of each amount, in MiB, rounded up.
#[derive(Debug, Default)]
struct Histogram(BTreeMap<u64, u64>);

impl Histogram {
    /// Adds an amount in thousandths of a MiB.
    fn add(&mut self, vram: u64, samples: u64) {
        let mebibytes = vram.div_ceil(1000);
        // To one in 32,768, so that there is a bound to how many there are.
        let step = (mebibytes >> 16).next_power_of_two();
        *self.0.entry(mebibytes.next_multiple_of(step)).or_default() += samples;
    }

    /// The least amount that all but one in [`ONE_IN`] of the samples do not exceed.
    fn estimate(&self) -> Option<Estimate> {
        let samples: u64 = self.0.values().sum();
        let mut above = samples;
        let (&mebibytes, _) = self.0.iter().find(|(_, n)| {
            above -= **n;
            above <= samples / ONE_IN
        })?;
        Some(Estimate { vram: Mebibytes::from_integer(mebibytes).ok()?, samples })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn estimate(readings: &[(u64, u64)]) -> Option<(f64, u64)> {
        let mut histogram = Histogram::default();
        readings.iter().for_each(|&(vram, samples)| histogram.add(vram * 1000, samples));
        histogram.estimate().map(|estimate| (estimate.vram.get(), estimate.samples))
    }

    #[test]
    fn one_in_a_hundred_may_lie_above() {
        assert_eq!(estimate(&[]), None);
        assert_eq!(estimate(&[(8192, 1)]), Some((8192.0, 1)));
        assert_eq!(estimate(&[(8192, 99), (9000, 1)]), Some((8192.0, 100)));
        assert_eq!(estimate(&[(8192, 98), (9000, 1), (9999, 1)]), Some((9000.0, 100)));
        assert_eq!(estimate(&[(8192, 98), (9000, 1)]), Some((9000.0, 99)));
    }

    proptest! {
        #[test]
        fn it_is_the_percentile_or_a_little_more(
            mut readings in prop::collection::vec(0..10_000_000_u64, 1..500),
        ) {
            let mut histogram = Histogram::default();
            readings.iter().for_each(|&vram| histogram.add(vram * 1000, 1));
            readings.sort_unstable();
            let exact = readings[readings.len() - 1 - readings.len() / 100] as f64;
            let estimated = histogram.estimate().unwrap().vram.get();
            prop_assert!(estimated >= exact && estimated <= exact * (1.0 + 1.0 / 32_768.0));
        }
    }
}
