//! What came in, in the order of time: pages of whole heartbeats.
//!
//! Invariant: the pages of one export are of one moment. A page knows up to which id it gives
//! readings and hands that on with its end, so that together they hold every reading that had
//! been received when the first page was asked for, each once.

use std::borrow::Cow;
use std::sync::Arc;

use hive_contract::Heartbeat;
use hive_contract::heartbeat::{Worker, Workers};

use super::query::{Label, Matcher};
use super::reader::{ReadError, Reader};
use super::readings::{self, ByTime, HiveFilter, Place, Reading};

/// Which heartbeats are wanted, and which of their workers: all conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct Selection(Vec<Matcher>);

impl Selection {
    /// Everything that satisfies all conditions.
    #[must_use]
    pub fn new(matchers: Vec<Matcher>) -> Self {
        Self(matchers)
    }

    fn of_hives(&self) -> impl Iterator<Item = &Matcher> {
        self.0.iter().filter(|matcher| matcher.label == Label::Hive)
    }

    fn of_workers(&self) -> impl Iterator<Item = &Matcher> {
        self.0.iter().filter(|matcher| matcher.label != Label::Hive)
    }

    fn admits(&self, worker: &Worker) -> bool {
        let value = |label| match label {
            Label::Group => worker.group.as_str().into(),
            Label::Instance => worker.instance.as_str().into(),
            Label::Model => worker.model.as_ref().map_or("", |model| model.as_str()).into(),
            Label::Pid => worker.pid.to_string().into(),
            // Of other things than workers.
            Label::Hive | Label::Gpu | Label::Index | Label::Name => Cow::from(""),
        };
        self.of_workers().all(|matcher| matcher.admits(&value(matcher.label)))
    }

    /// The heartbeat with the wanted workers only; none where no worker is wanted.
    fn trim(&self, heartbeat: Heartbeat) -> Option<Heartbeat> {
        if self.of_workers().next().is_none() {
            return Some(heartbeat);
        }
        let wanted: Vec<Worker> =
            heartbeat.workers.iter().filter(|worker| self.admits(worker)).cloned().collect();
        if wanted.is_empty() {
            return None;
        }
        let workers = Workers::new(wanted).ok()?;
        Some(Heartbeat { workers, ..heartbeat })
    }
}

/// A range of the history, after a place in it.
#[derive(Debug, Clone)]
pub struct Range {
    /// What is up to here was given.
    pub after: Place,
    /// ms since the epoch, exclusive.
    pub end: i64,
    /// Only what had been received by then: an id. Without it, by now.
    pub through_id: Option<i64>,
}

/// A page on its way out.
pub struct Page {
    reader: Reader,
    selection: Arc<Selection>,
    readings: ByTime,
    /// The last reading that was given, or where the page began.
    place: Place,
    end: i64,
    through_id: i64,
    /// How many may still be given.
    left: u64,
}

impl Page {
    /// A page of at most `limit` heartbeats.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn open(
        reader: Reader,
        selection: Selection,
        range: Range,
        limit: Option<u64>,
    ) -> Result<Self, ReadError> {
        let through_id = match range.through_id {
            Some(id) => id,
            None => {
                let mut read = reader.begin().await?;
                let last = readings::last_id(&mut read).await?;
                read.end().await;
                last
            }
        };
        let selection = Arc::new(selection);
        let Range { after: place, end, .. } = range;
        let readings = by_time(&reader, &selection, place.clone(), end, through_id);
        let left = limit.unwrap_or(u64::MAX);
        Ok(Self { reader, selection, readings, place, end, through_id, left })
    }

    /// The next heartbeats of the page; none at its end.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn next(&mut self) -> Result<Vec<Reading>, ReadError> {
        while self.left > 0 {
            let chunk = self.readings.next().await?;
            if chunk.is_empty() {
                self.left = 0;
                break;
            }
            let trim = |reading: Reading| {
                let heartbeat = self.selection.trim(reading.heartbeat)?;
                Some(Reading { heartbeat, ..reading })
            };
            let mut wanted: Vec<Reading> = chunk.into_iter().filter_map(trim).collect();
            wanted.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            if let Some(last) = wanted.last() {
                self.left -= wanted.len() as u64;
                self.place = Place {
                    ts: last.heartbeat.timestamp.millis(),
                    hive: last.heartbeat.hive.id.as_str().into(),
                };
                return Ok(wanted);
            }
        }
        Ok(Vec::new())
    }

    /// Whether everything of the page was given.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// What follows this page, if anything does: looks ahead without giving anything.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn rest(&self) -> Result<Option<Range>, ReadError> {
        let at = self.place.clone();
        let ahead = by_time(&self.reader, &self.selection, at.clone(), self.end, self.through_id);
        let after = if self.selection.of_workers().next().is_none() {
            passed(ahead, at, self.left).await?
        } else {
            let mut page = Self {
                reader: self.reader.clone(),
                selection: Arc::clone(&self.selection),
                readings: ahead,
                place: at,
                end: self.end,
                through_id: self.through_id,
                left: self.left,
            };
            while !page.next().await?.is_empty() {}
            let after = page.place.clone();
            let ahead =
                by_time(&self.reader, &self.selection, after.clone(), self.end, self.through_id);
            page = Self { readings: ahead, left: 1, ..page };
            (!page.next().await?.is_empty()).then_some(after)
        };
        let range = |after| Range { after, end: self.end, through_id: Some(self.through_id) };
        Ok(after.map(range))
    }
}

fn by_time(
    reader: &Reader,
    selection: &Arc<Selection>,
    after: Place,
    end: i64,
    through_id: i64,
) -> ByTime {
    let filter = selection.of_hives().next().is_some().then(|| {
        let selection = Arc::clone(selection);
        let admits = move |hive: &str| selection.of_hives().all(|matcher| matcher.admits(hive));
        Box::new(admits) as HiveFilter
    });
    ByTime::new(reader.clone(), after, end, through_id, filter)
}

/// The place after `count` more readings, if any reading follows it.
async fn passed(mut ahead: ByTime, mut at: Place, count: u64) -> Result<Option<Place>, ReadError> {
    if count > 0 {
        if ahead.skip(count).await? < count {
            return Ok(None);
        }
        at = ahead.place().clone();
    }
    Ok((ahead.skip(1).await? > 0).then_some(at))
}
