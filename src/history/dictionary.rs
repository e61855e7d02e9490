//! Names to row numbers: hives, descriptions, worker runs, GPUs.
//!
//! Invariant: a pure cache of the file. Its memory follows the fleet as it is now, not as it
//! ever was: for each hive it keeps the last heartbeat and the numbers found for it, since the
//! next one nearly always names the same workers in the same order.
//!
//! Invariant: a number is used for a day at most after it was looked up, and its row says until
//! which day that is. So retention can delete, without asking anybody, what was used last before
//! anything that is kept. Each hive's day begins at a time of its own: not all names of a fleet are
//! looked up again at midnight.

mod day;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hive_contract::HiveId;
use hive_contract::heartbeat::{Gpu, Heartbeat, Worker, WorkerGpu};
use hive_contract::units::Mebibytes;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

pub(super) use self::day::Day;
use super::codec::RowIds;
use super::insert::{Values, bind_any, pieces};

#[derive(Debug, Default)]
pub(super) struct Dictionary {
    hives: HashMap<HiveId, Entry>,
    newest: Newest,
}

/// The newest numbers: a larger one is that of a new row.
#[derive(Debug, Default, Clone, Copy)]
struct Newest {
    run: i64,
    gpu: i64,
}

#[derive(Debug)]
struct Entry {
    hive: i64,
    last: Option<(Arc<Heartbeat>, RowIds)>,
    /// The hive's day on which the numbers of the last one were looked up.
    day: Day,
}

impl Entry {
    fn new(hive: i64) -> Self {
        Self { hive, last: None, day: Day::default() }
    }

    /// The last heartbeat, if its numbers may be used at this moment (ms since the epoch).
    fn last_at(&self, now_ms: i64) -> Option<&(Arc<Heartbeat>, RowIds)> {
        self.last.as_ref().filter(|_| self.day == Day::of_hive(self.hive, now_ms))
    }
}

/// What makes two readings of a worker the same run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RunIdentity {
    hive: i64,
    pid: i64,
    group: String,
    instance: String,
    model: Option<String>,
    total_vram_mb: Option<Mebibytes>,
}

/// What makes two GPU readings those of the same GPU.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct GpuIdentity {
    hive: i64,
    uuid: Option<String>,
    index: Option<i64>,
    name: Option<String>,
    memory_total_mb: Option<Mebibytes>,
}

/// Numbers found for what no last heartbeat named.
#[derive(Debug)]
pub(super) struct Found {
    now_ms: i64,
    runs: HashMap<RunIdentity, i64>,
    gpus: HashMap<GpuIdentity, i64>,
    newest: Newest,
    /// How many rows each hive got that were not there before.
    fresh: HashMap<i64, usize>,
}

impl RunIdentity {
    fn of(hive: i64, worker: &Worker) -> Self {
        Self {
            hive,
            pid: worker.pid.whole() as i64,
            group: worker.group.as_str().into(),
            instance: worker.instance.as_str().into(),
            model: worker.model.as_ref().map(|model| model.as_str().into()),
            total_vram_mb: worker.total_vram_mb,
        }
    }
}

fn same_run(a: &Worker, b: &Worker) -> bool {
    a.pid == b.pid
        && a.instance == b.instance
        && a.group == b.group
        && a.model == b.model
        && a.total_vram_mb == b.total_vram_mb
}

impl GpuIdentity {
    fn of(hive: i64, gpu: &Gpu) -> Self {
        Self {
            hive,
            uuid: gpu.uuid.as_ref().map(|uuid| uuid.as_str().into()),
            index: gpu.index.map(|index| index.whole() as i64),
            name: gpu.name.as_ref().map(|name| name.as_str().into()),
            memory_total_mb: gpu.memory_total_mb,
        }
    }

    /// A GPU that a worker names and the hive's list does not.
    fn unlisted(hive: i64, gpu: &WorkerGpu) -> Self {
        Self {
            hive,
            uuid: gpu.uuid.as_ref().map(|uuid| uuid.as_str().into()),
            index: None,
            name: None,
            memory_total_mb: None,
        }
    }
}

fn same_gpu(a: &Gpu, b: &Gpu) -> bool {
    a.uuid == b.uuid
        && a.index == b.index
        && a.name == b.name
        && a.memory_total_mb == b.memory_total_mb
}

/// The GPUs on which the workers sit.
fn parts(heartbeat: &Heartbeat) -> impl Iterator<Item = &WorkerGpu> {
    heartbeat.workers.iter().flat_map(|worker| &worker.gpus)
}

fn same_description(a: &Heartbeat, b: &Heartbeat) -> bool {
    let node = |h: &Heartbeat| h.node.as_ref().map(|n| (n.cpu_count, n.memory_total_mb));
    a.hive == b.hive
        && a.interval_ms == b.interval_ms
        && node(a).unwrap_or_default() == node(b).unwrap_or_default()
        && a.agent.as_ref().and_then(|x| x.version.as_ref())
            == b.agent.as_ref().and_then(|x| x.version.as_ref())
}

impl Dictionary {
    /// Reads the hives; their last heartbeats come with [`Dictionary::prime`].
    pub(super) async fn load(connection: &mut SqliteConnection) -> sqlx::Result<Self> {
        let newest =
            sqlx::query_file!("queries/last_names.sql").fetch_one(&mut *connection).await?;
        let newest = Newest { run: newest.run, gpu: newest.gpu };
        let hives = sqlx::query_file!("queries/hives.sql").fetch_all(connection).await?;
        let hives = hives
            .into_iter()
            .filter_map(|row| Some((HiveId::new(row.id).ok()?, Entry::new(row.hive))));
        Ok(Self { hives: hives.collect(), newest })
    }

    /// Takes over a heartbeat as it was read from the file.
    pub(super) fn prime(&mut self, heartbeat: &Arc<Heartbeat>, ids: RowIds) {
        let worker_gpus: usize = heartbeat.workers.iter().map(|worker| worker.gpus.len()).sum();
        let fits = ids.runs.len() == heartbeat.workers.len()
            && ids.gpus.len() == heartbeat.gpus.len()
            && ids.worker_gpus.len() == worker_gpus;
        if let Some(entry) = self.hives.get_mut(&heartbeat.hive.id).filter(|_| fits) {
            entry.last = Some((Arc::clone(heartbeat), ids));
        }
    }

    /// The number of a hive, if it has one.
    pub(super) fn hive(&self, id: &HiveId) -> Option<i64> {
        self.hives.get(id).map(|entry| entry.hive)
    }

    /// Whether a heartbeat names nothing but what the last one of its hive named.
    pub(super) fn knows(&self, heartbeat: &Heartbeat) -> bool {
        let last = self.hives.get(&heartbeat.hive.id).and_then(|entry| entry.last.as_ref());
        let Some((last, _)) = last else { return false };
        let known: HashSet<_> = parts(last).map(|part| &part.uuid).collect();
        let mut workers = heartbeat.workers.iter().enumerate();
        let mut gpus = heartbeat.gpus.iter().enumerate();
        same_description(last, heartbeat)
            && workers.all(|(i, worker)| position(&last.workers, i, worker, same_run).is_some())
            && gpus.all(|(i, gpu)| position(&last.gpus, i, gpu, same_gpu).is_some())
            && parts(heartbeat).all(|part| known.contains(&part.uuid))
    }

    /// Finds or makes the rows of everything in a batch that is not known at this moment (ms since
    /// the epoch), many a statement.
    pub(super) async fn find<'a>(
        &mut self,
        batch: impl Iterator<Item = &'a Arc<Heartbeat>> + Clone + Send,
        now_ms: i64,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<Found> {
        let new: HashSet<&HiveId> =
            batch.clone().map(|h| &h.hive.id).filter(|id| !self.hives.contains_key(*id)).collect();
        for (id, hive) in insert_hives(new.into_iter().collect(), connection).await? {
            self.hives.insert(id, Entry::new(hive));
        }
        let (mut runs, mut gpus) = (HashSet::new(), HashSet::new());
        for heartbeat in batch {
            let Some(entry) = self.hives.get(&heartbeat.hive.id) else { continue };
            let last = entry.last_at(now_ms).map(|(last, _)| &**last);
            for (i, worker) in heartbeat.workers.iter().enumerate() {
                if last.and_then(|last| position(&last.workers, i, worker, same_run)).is_none() {
                    runs.insert(RunIdentity::of(entry.hive, worker));
                }
            }
            for (i, gpu) in heartbeat.gpus.iter().enumerate() {
                if last.and_then(|last| position(&last.gpus, i, gpu, same_gpu)).is_none() {
                    gpus.insert(GpuIdentity::of(entry.hive, gpu));
                }
            }
        }
        let mut found = Found {
            now_ms,
            runs: HashMap::new(),
            gpus: HashMap::new(),
            newest: self.newest,
            fresh: HashMap::new(),
        };
        found.add_runs(runs.into_iter().collect(), connection).await?;
        found.add_gpus(gpus.into_iter().collect(), connection).await?;
        Ok(found)
    }

    /// Ends a batch: how many rows each hive got that were not there before.
    pub(super) fn finish(&mut self, found: Found) -> HashMap<i64, usize> {
        self.newest = found.newest;
        found.fresh
    }

    /// The numbers of a heartbeat's names: the hive's, and the others'.
    pub(super) async fn resolve(
        &mut self,
        heartbeat: &Arc<Heartbeat>,
        found: &mut Found,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<(i64, &RowIds)> {
        let entry = match self.hives.get_mut(&heartbeat.hive.id) {
            Some(entry) => entry,
            None => return Err(sqlx::Error::RowNotFound),
        };
        let (hive, now_ms) = (entry.hive, found.now_ms);
        let (today, until) = (Day::of_hive(hive, now_ms), Day::last_of_use(now_ms));
        let mut ids = RowIds::default();
        let described = entry.last.as_ref().filter(|(last, _)| same_description(last, heartbeat));
        let described = described.map(|(_, ids)| ids.description);
        ids.description = match described {
            Some(known) if entry.day == today => known,
            Some(known) if see_description(known, until, connection).await? => known,
            _ => {
                *found.fresh.entry(hive).or_default() += 1;
                insert_description(hive, heartbeat, until, connection).await?
            }
        };
        let last = entry.last_at(now_ms);
        for (i, worker) in heartbeat.workers.iter().enumerate() {
            let known = last.and_then(|(last, ids)| {
                position(&last.workers, i, worker, same_run).map(|at| ids.runs[at])
            });
            ids.runs.push(match known {
                Some(run) => run,
                None => found.run(RunIdentity::of(hive, worker), connection).await?,
            });
        }
        for (i, gpu) in heartbeat.gpus.iter().enumerate() {
            let known = last.and_then(|(last, ids)| {
                position(&last.gpus, i, gpu, same_gpu).map(|at| ids.gpus[at])
            });
            ids.gpus.push(match known {
                Some(gpu) => gpu,
                None => found.gpu(GpuIdentity::of(hive, gpu), connection).await?,
            });
        }
        for gpu in parts(heartbeat) {
            let listed = heartbeat.gpus.iter().position(|g| g.uuid.is_some() && g.uuid == gpu.uuid);
            ids.worker_gpus.push(match listed {
                Some(at) => ids.gpus[at],
                None => found.gpu(GpuIdentity::unlisted(hive, gpu), connection).await?,
            });
        }
        entry.day = today;
        let (_, ids) = entry.last.insert((Arc::clone(heartbeat), ids));
        Ok((hive, ids))
    }
}

/// Where an element stands in the last list: most often in the same place.
fn position<T>(
    last: &[T],
    expected: usize,
    element: &T,
    same: fn(&T, &T) -> bool,
) -> Option<usize> {
    match last.get(expected) {
        Some(candidate) if same(candidate, element) => Some(expected),
        _ => last.iter().position(|candidate| same(candidate, element)),
    }
}

impl Found {
    async fn add_runs(
        &mut self,
        identities: Vec<RunIdentity>,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let runs = upsert(identities, Day::last_of_use(self.now_ms), connection).await?;
        let new = runs.iter().filter(|(_, run)| **run > self.newest.run);
        new.for_each(|(identity, _)| *self.fresh.entry(identity.hive).or_default() += 1);
        self.newest.run = runs.values().copied().fold(self.newest.run, i64::max);
        self.runs.extend(runs);
        Ok(())
    }

    async fn add_gpus(
        &mut self,
        identities: Vec<GpuIdentity>,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<()> {
        let gpus = upsert(identities, Day::last_of_use(self.now_ms), connection).await?;
        let new = gpus.iter().filter(|(_, gpu)| **gpu > self.newest.gpu);
        new.for_each(|(identity, _)| *self.fresh.entry(identity.hive).or_default() += 1);
        self.newest.gpu = gpus.values().copied().fold(self.newest.gpu, i64::max);
        self.gpus.extend(gpus);
        Ok(())
    }

    async fn run(
        &mut self,
        identity: RunIdentity,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<i64> {
        if let Some(&run) = self.runs.get(&identity) {
            return Ok(run);
        }
        self.add_runs(vec![identity.clone()], connection).await?;
        self.runs.get(&identity).copied().ok_or(sqlx::Error::RowNotFound)
    }

    async fn gpu(
        &mut self,
        identity: GpuIdentity,
        connection: &mut SqliteConnection,
    ) -> sqlx::Result<i64> {
        if let Some(&gpu) = self.gpus.get(&identity) {
            return Ok(gpu);
        }
        self.add_gpus(vec![identity.clone()], connection).await?;
        self.gpus.get(&identity).copied().ok_or(sqlx::Error::RowNotFound)
    }
}

/// A row that is found by its identity or made.
trait Identity: Eq + std::hash::Hash + Sized {
    /// `INSERT INTO table (columns)`.
    const INSERT: &'static str;
    /// That one which is there was seen again, and the row's number and identity.
    const RETURNING: &'static str;
    /// All of them but the last, which is the day.
    fn bind(&self, values: &mut Values<'_>);
    fn read(row: &SqliteRow) -> sqlx::Result<(Self, i64)>;
}

async fn upsert<T: Identity>(
    identities: Vec<T>,
    until: Day,
    connection: &mut SqliteConnection,
) -> sqlx::Result<HashMap<T, i64>> {
    let mut found = HashMap::with_capacity(identities.len());
    for chunk in pieces(&identities) {
        let mut statement = QueryBuilder::<Sqlite>::new(T::INSERT);
        statement.push_values(chunk, |mut values, identity| {
            identity.bind(&mut values);
            values.push_bind(until.number());
        });
        statement.push(T::RETURNING);
        for row in statement.build().fetch_all(&mut *connection).await? {
            let (identity, number) = T::read(&row)?;
            found.insert(identity, number);
        }
    }
    Ok(found)
}

fn read_figure(row: &SqliteRow, column: usize) -> sqlx::Result<Option<Mebibytes>> {
    // The column holds INTEGER or REAL; SQLite converts.
    let value: Option<f64> = row.try_get_unchecked(column)?;
    Ok(value.and_then(|value| Mebibytes::new(value).ok()))
}

impl Identity for RunIdentity {
    const INSERT: &'static str =
        "INSERT INTO worker_runs (hive, pid, \"group\", instance, model, total_vram_mb, seen) ";
    const RETURNING: &'static str = " ON CONFLICT DO UPDATE SET seen = excluded.seen \
         RETURNING hive, pid, \"group\", instance, model, total_vram_mb, run";

    fn bind(&self, values: &mut Values<'_>) {
        values.push_bind(self.hive).push_bind(self.pid);
        values.push_bind(self.group.clone()).push_bind(self.instance.clone());
        values.push_bind(self.model.clone());
        bind_any(values, self.total_vram_mb.map(Mebibytes::thousandths));
    }

    fn read(row: &SqliteRow) -> sqlx::Result<(Self, i64)> {
        let identity = Self {
            hive: row.try_get(0)?,
            pid: row.try_get(1)?,
            group: row.try_get(2)?,
            instance: row.try_get(3)?,
            model: row.try_get(4)?,
            total_vram_mb: read_figure(row, 5)?,
        };
        Ok((identity, row.try_get(6)?))
    }
}

impl Identity for GpuIdentity {
    const INSERT: &'static str =
        "INSERT INTO gpus (hive, uuid, \"index\", name, memory_total_mb, seen) ";
    const RETURNING: &'static str = " ON CONFLICT DO UPDATE SET seen = excluded.seen \
         RETURNING hive, uuid, \"index\", name, memory_total_mb, gpu";

    fn bind(&self, values: &mut Values<'_>) {
        values.push_bind(self.hive).push_bind(self.uuid.clone());
        values.push_bind(self.index).push_bind(self.name.clone());
        bind_any(values, self.memory_total_mb.map(Mebibytes::thousandths));
    }

    fn read(row: &SqliteRow) -> sqlx::Result<(Self, i64)> {
        let identity = Self {
            hive: row.try_get(0)?,
            uuid: row.try_get(1)?,
            index: row.try_get(2)?,
            name: row.try_get(3)?,
            memory_total_mb: read_figure(row, 4)?,
        };
        Ok((identity, row.try_get(5)?))
    }
}

async fn insert_hives(
    new: Vec<&HiveId>,
    connection: &mut SqliteConnection,
) -> sqlx::Result<Vec<(HiveId, i64)>> {
    let mut inserted = Vec::with_capacity(new.len());
    for chunk in pieces(&new) {
        let mut statement = QueryBuilder::<Sqlite>::new("INSERT INTO hives (id) ");
        statement.push_values(chunk, |mut values, id| {
            values.push_bind(id.as_str());
        });
        statement.push(" RETURNING id, hive");
        for row in statement.build().fetch_all(&mut *connection).await? {
            let id = HiveId::new(row.try_get::<String, _>(0)?);
            inserted
                .push((id.map_err(|error| sqlx::Error::Decode(error.into()))?, row.try_get(1)?));
        }
    }
    Ok(inserted)
}

/// Notes that a description is still so; false where it is there no more.
async fn see_description(
    description: i64,
    until: Day,
    connection: &mut SqliteConnection,
) -> sqlx::Result<bool> {
    let until = until.number();
    let seen = sqlx::query_file!("queries/see_description.sql", description, until)
        .execute(connection)
        .await?;
    Ok(seen.rows_affected() > 0)
}

async fn insert_description(
    hive: i64,
    heartbeat: &Heartbeat,
    until: Day,
    connection: &mut SqliteConnection,
) -> sqlx::Result<i64> {
    let said = &heartbeat.hive;
    let node = heartbeat.node.as_ref();
    let mut statement = QueryBuilder::<Sqlite>::new(
        "INSERT INTO hive_descriptions (hive, hostname, port, operational_status, health_status, \
         version, interval_ms, cpu_count, memory_total_mb, agent_version, seen) ",
    );
    statement.push_values([()], |mut values, ()| {
        values.push_bind(hive);
        values.push_bind(said.hostname.as_ref().map(|text| text.as_str()));
        values.push_bind(said.port.map(i64::from));
        values.push_bind(said.operational_status.as_ref().map(|text| text.as_str()));
        values.push_bind(said.health_status.as_ref().map(|text| text.as_str()));
        values.push_bind(said.version.as_ref().map(|text| text.as_str()));
        values.push_bind(heartbeat.interval_ms.map(|interval| interval.get()));
        values.push_bind(node.and_then(|n| n.cpu_count).map(|count| count.whole() as i64));
        bind_any(&mut values, node.and_then(|n| n.memory_total_mb).map(Mebibytes::thousandths));
        let agent = heartbeat.agent.as_ref();
        values.push_bind(agent.and_then(|a| a.version.as_ref()).map(|text| text.as_str()));
        values.push_bind(until.number());
    });
    statement.push(" RETURNING description");
    statement.build_query_scalar().fetch_one(connection).await
}
