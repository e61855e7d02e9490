//! Which series a query is about: the subjects (runs, GPUs, hives) that its conditions admit,
//! the series that they are readings of, and the group of each series.
//!
//! Invariant: groups are in order of their labels, and series in order of first appearance of
//! their subjects: the same question always adds up in the same order.

use std::borrow::Cow;
use std::collections::HashMap;

use hive_contract::units::Mebibytes;
use serde::Deserialize;
use sqlx::SqliteConnection;

use super::matcher::Matcher;
use super::measure::Measure;
use super::request::Label;
use crate::history::metric::Subject;

/// Subjects read in one statement: bounds the memory of one row.
const PAGE: i64 = 20_000;
/// Labels that there are.
const LABELS: usize = Label::ALL.len();
/// Subjects up to which each is sought by itself, whatever share of all it is.
const FEW: usize = 64;

/// What a query is about.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// By number of the subject: its series plus one; 0 for those that are not asked for.
    pub(super) series_of: Vec<u32>,
    /// By number of the subject: the figure that stands with its name, in thousandths.
    pub(super) value_of: Vec<u64>,
    /// The subjects, where it is worth while to seek each by itself; growing.
    pub(super) few: Option<Vec<i64>>,
    /// The hives that they are on, where conditions leave some out.
    pub(super) hives: Option<Vec<i64>>,
    /// By series: its group.
    pub(super) group_of: Vec<u32>,
    /// The labels of each group, in the order asked for.
    pub(super) groups: Vec<Vec<String>>,
}

impl Selection {
    /// The series of a subject.
    pub(super) fn series(&self, subject: i64) -> Option<u32> {
        let at = usize::try_from(subject).ok()?;
        self.series_of.get(at)?.checked_sub(1)
    }

    /// Keeps the series of some groups, which are given by their numbers, growing.
    pub(super) fn keep(&mut self, groups: &[usize]) {
        let mut number = vec![None; self.groups.len()];
        for (new, &old) in groups.iter().enumerate() {
            number[old] = Some(new as u32);
        }
        let mut series = vec![0; self.group_of.len()];
        let mut group_of = Vec::new();
        for (old, &group) in self.group_of.iter().enumerate() {
            if let Some(group) = number[group as usize] {
                group_of.push(group);
                series[old] = group_of.len() as u32;
            }
        }
        let mut kept = Vec::new();
        for (subject, of) in self.series_of.iter_mut().enumerate() {
            if let Some(old) = of.checked_sub(1) {
                *of = series[old as usize];
                if *of > 0 {
                    kept.push(subject as i64);
                }
            }
        }
        self.few = few(kept, self.series_of.len());
        self.group_of = group_of;
        self.groups = groups.iter().map(|&old| std::mem::take(&mut self.groups[old])).collect();
    }
}

/// Seeking costs about as much as reading a dozen readings of others.
fn few(subjects: Vec<i64>, all: usize) -> Option<Vec<i64>> {
    (subjects.len() <= FEW || subjects.len() < all / 16).then_some(subjects)
}

/// Finds the series of a measure that conditions admit, in the groups that some labels make.
pub(super) async fn select(
    measure: &Measure,
    group_by: &[Label],
    matchers: &[Matcher],
    connection: &mut SqliteConnection,
) -> sqlx::Result<Selection> {
    let subject = measure.subject;
    let hives = Hives::read(matchers, connection).await?;
    let mut builder = Builder::new(measure, group_by, matchers, &hives);
    match subject {
        Subject::Hive => builder.take_hives(),
        Subject::Worker => {
            let mut last = 0;
            while let Some((page, next)) = runs(last, hives.wanted.as_deref(), connection).await? {
                builder.take_runs(&page)?;
                last = next;
            }
        }
        Subject::Gpu => {
            let mut last = 0;
            while let Some((page, next)) = gpus(last, hives.wanted.as_deref(), connection).await? {
                builder.take_gpus(&page)?;
                last = next;
            }
        }
    }
    let Builder { selection, mut taken, subjects, .. } = builder;
    taken.sort_unstable();
    let mut selection = selection.sorted();
    // With a condition on the hive only its subjects were looked at: a few of all.
    let all = if hives.wanted.is_some() { usize::MAX } else { subjects };
    selection.few = few(taken, all);
    selection.hives = hives.wanted;
    Ok(selection)
}

/// A page of runs as JSON, and the last of them.
async fn runs(
    after: i64,
    hives: Option<&[i64]>,
    connection: &mut SqliteConnection,
) -> sqlx::Result<Option<(String, i64)>> {
    let hives = hives.map(|hives| serde_json::Value::from(hives).to_string());
    let page = match hives {
        Some(hives) => {
            let row = sqlx::query_file!("queries/runs_of_hives.sql", after, PAGE, hives)
                .fetch_one(connection)
                .await?;
            row.last.map(|last| (row.runs, last))
        }
        None => {
            let row =
                sqlx::query_file!("queries/runs.sql", after, PAGE).fetch_one(connection).await?;
            row.last.map(|last| (row.runs, last))
        }
    };
    Ok(page)
}

/// A page of GPUs as JSON, and the last of them.
async fn gpus(
    after: i64,
    hives: Option<&[i64]>,
    connection: &mut SqliteConnection,
) -> sqlx::Result<Option<(String, i64)>> {
    let hives = hives.map(|hives| serde_json::Value::from(hives).to_string());
    let row =
        sqlx::query_file!("queries/gpus.sql", after, PAGE, hives).fetch_one(connection).await?;
    Ok(row.last.map(|last| (row.gpus, last)))
}

/// The hives: their names, and those that conditions on the hive admit.
struct Hives {
    /// By number.
    names: HashMap<i64, String>,
    /// Growing; `None`: all.
    wanted: Option<Vec<i64>>,
}

impl Hives {
    async fn read(matchers: &[Matcher], connection: &mut SqliteConnection) -> sqlx::Result<Self> {
        let on_hive = || matchers.iter().filter(|matcher| matcher.label == Label::Hive);
        let only = on_hive().find_map(Matcher::only);
        let row = sqlx::query_file!("queries/hives_named.sql", only).fetch_one(connection).await?;
        let all: Vec<(i64, String)> = parse(&row.hives)?;
        let names: HashMap<i64, String> = all
            .into_iter()
            .filter(|(_, name)| on_hive().all(|matcher| matcher.admits(name)))
            .collect();
        let wanted = on_hive().next().map(|_| {
            let mut wanted: Vec<i64> = names.keys().copied().collect();
            wanted.sort_unstable();
            wanted
        });
        Ok(Self { names, wanted })
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> sqlx::Result<T> {
    serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// A text of a page, not copied unless it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// run, hive, group, instance, pid, model, `total_vram_mb`.
#[derive(Deserialize)]
struct Run<'a>(i64, i64, #[serde(borrow)] Text<'a>, Text<'a>, i64, Option<Text<'a>>, Option<f64>);

/// gpu, hive, uuid, index, name, `memory_total_mb`.
#[derive(Deserialize)]
struct Gpu<'a>(
    i64,
    i64,
    #[serde(borrow)] Option<Text<'a>>,
    Option<i64>,
    Option<Text<'a>>,
    Option<f64>,
);

/// The numbers of a subject's labels, by [`Label`]; 0 is the empty one.
type Key = [u32; LABELS];

/// Gives each text a number.
#[derive(Default)]
struct Names {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Names {
    fn number(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(&number) = self.numbers.get(text) {
            return number;
        }
        self.texts.push(text.to_owned());
        let number = self.texts.len() as u32;
        self.numbers.insert(text.to_owned(), number);
        number
    }

    fn text(&self, number: u32) -> &str {
        number.checked_sub(1).map_or("", |at| &self.texts[at as usize])
    }
}

struct Builder<'a> {
    measure: &'a Measure,
    group_by: &'a [Label],
    series_labels: Vec<Label>,
    hives: &'a Hives,
    names: Names,
    /// Conditions, each with what it said of a text, by its number: 0 unknown, 1 no, 2 yes.
    matchers: Vec<(&'a Matcher, Vec<u8>)>,
    series: HashMap<Key, u32>,
    groups: HashMap<Key, u32>,
    subjects: usize,
    taken: Vec<i64>,
    selection: Selection,
}

impl<'a> Builder<'a> {
    fn new(
        measure: &'a Measure,
        group_by: &'a [Label],
        matchers: &'a [Matcher],
        hives: &'a Hives,
    ) -> Self {
        let mut series_labels = measure.series_labels().to_vec();
        series_labels.extend(group_by.iter().filter(|label| label.is_of(measure.subject)));
        // Hives were admitted already.
        let matchers = matchers.iter().filter(|matcher| matcher.label != Label::Hive);
        Self {
            measure,
            group_by,
            series_labels,
            hives,
            names: Names::default(),
            matchers: matchers.map(|matcher| (matcher, Vec::new())).collect(),
            series: HashMap::new(),
            groups: HashMap::new(),
            subjects: 0,
            taken: Vec::new(),
            selection: Selection::default(),
        }
    }

    fn take_hives(&mut self) {
        let mut hives: Vec<_> = self.hives.names.iter().collect();
        hives.sort_unstable();
        for (&hive, name) in hives {
            let mut key = Key::default();
            key[Label::Hive as usize] = self.names.number(name);
            self.take(hive, &key, None);
        }
    }

    fn take_runs(&mut self, page: &str) -> sqlx::Result<()> {
        for Run(run, hive, group, instance, pid, model, total) in parse::<Vec<Run<'_>>>(page)? {
            let Some(hive) = self.hives.names.get(&hive) else { continue };
            let mut key = Key::default();
            key[Label::Hive as usize] = self.names.number(hive);
            key[Label::Group as usize] = self.names.number(&group.0);
            key[Label::Instance as usize] = self.names.number(&instance.0);
            let model = model.as_ref().map_or("", |model| &model.0);
            key[Label::Model as usize] = self.names.number(model);
            let wants_pid = self.series_labels.contains(&Label::Pid)
                || self.matchers.iter().any(|(matcher, _)| matcher.label == Label::Pid);
            if wants_pid {
                key[Label::Pid as usize] = self.names.number(itoa::Buffer::new().format(pid));
            }
            self.take(run, &key, total);
        }
        Ok(())
    }

    fn take_gpus(&mut self, page: &str) -> sqlx::Result<()> {
        for Gpu(gpu, hive, uuid, index, name, total) in parse::<Vec<Gpu<'_>>>(page)? {
            let Some(hive) = self.hives.names.get(&hive) else { continue };
            let mut key = Key::default();
            let text = |text: Option<&Text<'_>>| text.map_or(String::new(), |t| t.0.to_string());
            key[Label::Hive as usize] = self.names.number(hive);
            key[Label::Gpu as usize] = self.names.number(&text(uuid.as_ref()));
            let index = index.map_or(String::new(), |index| index.to_string());
            key[Label::Index as usize] = self.names.number(&index);
            key[Label::Name as usize] = self.names.number(&text(name.as_ref()));
            self.take(gpu, &key, total);
        }
        Ok(())
    }

    /// Takes a subject if the conditions admit it.
    fn take(&mut self, subject: i64, key: &Key, total: Option<f64>) {
        self.subjects += 1;
        for (matcher, said) in &mut self.matchers {
            let number = key[matcher.label as usize];
            let at = number as usize;
            if said.len() <= at {
                said.resize(at + 1, 0);
            }
            if said[at] == 0 {
                said[at] = 1 + u8::from(matcher.admits(self.names.text(number)));
            }
            if said[at] == 1 {
                return;
            }
        }
        let value = total.and_then(|total| Mebibytes::new(total).ok()).map(Mebibytes::thousandths);
        if self.measure.is_identity() && value.is_none() {
            return;
        }
        let Ok(at) = usize::try_from(subject) else { return };
        let (mut series, mut group) = (Key::default(), Key::default());
        for &label in &self.series_labels {
            series[label as usize] = key[label as usize];
        }
        for &label in self.group_by {
            group[label as usize] = key[label as usize];
        }
        let Selection { series_of, value_of, group_of, groups, .. } = &mut self.selection;
        let series = *self.series.entry(series).or_insert_with(|| {
            let next = groups.len() as u32;
            let group = *self.groups.entry(group).or_insert_with(|| {
                let text = |label: &Label| self.names.text(group[*label as usize]).to_owned();
                groups.push(self.group_by.iter().map(text).collect());
                next
            });
            group_of.push(group);
            group_of.len() as u32 - 1
        });
        if series_of.len() <= at {
            // Doubles its room by itself; the subjects come in growing order.
            series_of.resize(at + 1, 0);
        }
        series_of[at] = series + 1;
        if let Some(value) = value.filter(|_| self.measure.is_identity()) {
            value_of.resize(at + 1, 0);
            value_of[at] = value;
        }
        self.taken.push(subject);
    }
}

impl Selection {
    /// Puts the groups in order of their labels.
    fn sorted(mut self) -> Self {
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        order.sort_by(|&a, &b| self.groups[a].cmp(&self.groups[b]));
        let mut number = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            number[old] = new as u32;
        }
        for group in &mut self.group_of {
            *group = number[*group as usize];
        }
        self.groups = order.iter().map(|&old| std::mem::take(&mut self.groups[old])).collect();
        self
    }
}
