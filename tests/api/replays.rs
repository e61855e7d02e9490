//! Whatever a stream's filters are, wherever it begins and wherever it is cut: what comes before
//! and after is what was taken, each once. Compared with a second, plain way to say what that is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::support::client::JSON;
use crate::support::heartbeat::{heartbeat, now_ms, wire};
use crate::support::queen::ack;
use crate::support::stream::Stream;
use crate::support::{Home, Queen};

const HIVES: [&str; 3] = ["h0", "h1", "h2"];
const GROUPS: [&str; 2] = ["llm", "tts"];
const MODELS: [&str; 2] = ["a", "b"];

/// A hive's reading: how far from the newest one, and its workers.
#[derive(Debug, Clone)]
struct Step {
    hive: usize,
    /// ms; not above 0: late, or there already.
    ahead: i64,
    workers: BTreeSet<Worker>,
}

/// Group, instance, model.
type Worker = (&'static str, usize, Option<&'static str>);

/// Where a stream begins.
#[derive(Debug, Clone)]
enum Start {
    Snapshot,
    Now,
    /// After one of the readings that are there already, in hundredths of them.
    After(usize),
    /// At the time of its receipt.
    At(usize),
    Ago,
}

#[derive(Debug, Clone)]
struct Subscriber {
    hives: Vec<&'static str>,
    groups: Vec<&'static str>,
    models: Vec<&'static str>,
    /// Besides the state of the fleet, which shows where nothing more is to come.
    events: Vec<&'static str>,
    backfill: bool,
    lines: bool,
    start: Start,
    /// How much of what is to come is read before the connection breaks, in hundredths.
    cut: usize,
}

#[derive(Debug, Clone)]
struct Plan {
    /// What is there before the streams begin, what comes then, and what comes after they broke.
    parts: [Vec<Step>; 3],
    /// What is there is sealed before the streams begin, and before they begin again.
    sealed: [bool; 2],
    killed: bool,
    subscribers: Vec<Subscriber>,
}

fn step() -> impl Strategy<Value = Step> {
    let model = prop::option::of(select(&MODELS[..]));
    let worker = (select(&GROUPS[..]), 0..2_usize, model);
    let ahead = prop_oneof![4 => 1..2000_i64, 1 => -4000..1_i64, 1 => Just(0)];
    (0..HIVES.len(), ahead, prop::collection::vec(worker, 0..4)).prop_map(
        |(hive, ahead, workers)| {
            // A worker stands in a reading once.
            let unique: BTreeMap<_, _> =
                workers.into_iter().map(|(group, port, model)| ((group, port), model)).collect();
            let workers = unique.into_iter().map(|((group, port), model)| (group, port, model));
            Step { hive, ahead, workers: workers.collect() }
        },
    )
}

fn subscriber() -> impl Strategy<Value = Subscriber> {
    // Nobody is called "x".
    let hives = subsequence(vec!["h0", "h1", "h2", "x"], 0..=2);
    let groups = subsequence(GROUPS.to_vec(), 0..=1);
    let models = subsequence(vec!["a", "b", "x"], 0..=2);
    let events = prop_oneof![
        3 => Just(vec![]),
        2 => Just(vec!["heartbeat", "queen"]),
        1 => Just(vec!["lifecycle", "queen"]),
        1 => Just(vec!["heartbeat", "lifecycle", "queen"]),
    ];
    let start = prop_oneof![
        Just(Start::Snapshot),
        Just(Start::Now),
        (0..100_usize).prop_map(Start::After),
        (0..100_usize).prop_map(Start::At),
        Just(Start::Ago),
    ];
    // Half of the filters of each kind are left out.
    let some = |names| prop_oneof![Just(vec![]), names];
    (
        some(hives.boxed()),
        some(groups.boxed()),
        some(models.boxed()),
        events,
        any::<bool>(),
        prop::bool::weighted(0.25),
        start,
        0..=100_usize,
    )
        .prop_map(|(hives, groups, models, events, backfill, lines, start, cut)| Subscriber {
            hives,
            groups,
            models,
            events,
            backfill,
            lines,
            start,
            cut,
        })
}

fn plan() -> impl Strategy<Value = Plan> {
    let part = |least| prop::collection::vec(step(), least..30);
    (
        [part(1), part(0), part(0)],
        any::<[bool; 2]>(),
        any::<bool>(),
        prop::collection::vec(subscriber(), 12),
    )
        .prop_map(|(parts, sealed, killed, subscribers)| Plan {
            parts,
            sealed,
            killed,
            subscribers,
        })
}

/// A reading that was taken, or what a stream said of one. In the order of ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    id: i64,
    hive: String,
    timestamp: String,
    late: bool,
    workers: BTreeSet<(String, String, Option<String>)>,
}

/// What happened, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Happened {
    id: i64,
    hive: Option<String>,
    group: Option<String>,
    models: Vec<String>,
}

/// What was taken, and of when each hive's newest reading is.
struct Taken {
    start: i64,
    newest: [Option<i64>; 3],
    readings: Vec<Told>,
}

impl Taken {
    /// Posts a part, each hive's by a thread of its own.
    fn take(&mut self, queen: &Queen, steps: &[Step]) {
        let readings = Mutex::new(&mut self.readings);
        let client = queen.client();
        thread::scope(|scope| {
            for (hive, newest) in self.newest.iter_mut().enumerate() {
                let (readings, client, start) = (&readings, &client, self.start);
                scope.spawn(move || {
                    for step in steps.iter().filter(|step| step.hive == hive) {
                        let ms = newest.unwrap_or(start) + step.ahead;
                        let body = reading(HIVES[hive], ms, &step.workers).to_string();
                        let path = "/v1/hive-heartbeat";
                        let ack = ack(&client.send("POST", path, &[JSON], body.as_bytes()));
                        if !ack.duplicate {
                            let late = Some(ms) < *newest;
                            let told = told(ack.id, HIVES[hive], ms, late, &step.workers);
                            readings.lock().unwrap().push(told);
                        }
                        *newest = Some(ms).max(*newest);
                    }
                });
            }
        });
        self.readings.sort();
    }

    fn last_id(&self) -> i64 {
        self.readings.last().map_or(0, |last| last.id)
    }

    fn at(&self, hundredths: usize) -> i64 {
        self.readings[self.readings.len() * hundredths / 100].id
    }
}

fn reading(hive: &str, ms: i64, workers: &BTreeSet<Worker>) -> Value {
    let mut reading = heartbeat(hive, ms);
    // It counts as live all the while.
    reading["interval_ms"] = json!(60_000);
    let worker = |(group, port, model): &Worker| json!({"pid": 1, "group": group, "instance": port.to_string(), "model": model});
    reading["workers"] = workers.iter().map(worker).collect();
    reading
}

fn told(id: i64, hive: &str, ms: i64, late: bool, workers: &BTreeSet<Worker>) -> Told {
    let worker = |(group, port, model): &Worker| {
        ((*group).to_owned(), port.to_string(), model.map(ToOwned::to_owned))
    };
    let workers = workers.iter().map(worker).collect();
    Told { id, hive: hive.into(), timestamp: wire(ms), late, workers }
}

fn is_among(wanted: &[&str], value: Option<&str>) -> bool {
    wanted.is_empty() || value.is_some_and(|value| wanted.contains(&value))
}

impl Subscriber {
    fn query(&self, since: Option<i64>) -> String {
        let mut query = format!("?backfill={}", self.backfill);
        for (name, values) in [
            ("hive", &self.hives),
            ("group", &self.groups),
            ("model", &self.models),
            ("event", &self.events),
        ] {
            values.iter().for_each(|value| query += &format!("&{name}={value}"));
        }
        match (&self.start, since) {
            (Start::Snapshot, _) => {}
            (Start::Now, _) => query += "&snapshot=false",
            (Start::Ago, _) => query += "&since=-1h",
            (Start::At(_), Some(id)) => query += &format!("&since={}", wire(id / 1000)),
            (_, id) => query += &format!("&since={}", id.unwrap_or_default()),
        }
        query
    }

    fn open(&self, queen: &Queen, query: &str, after: Option<i64>) -> Stream {
        let after = after.map(|id| id.to_string());
        let mut headers: Vec<_> = after.iter().map(|id| ("last-event-id", id.as_str())).collect();
        if self.lines {
            headers.push(("accept", "application/x-ndjson"));
        }
        Stream::open(&queen.client(), query, &headers)
    }

    /// What is to come of these readings.
    fn wanted(&self, readings: impl IntoIterator<Item = Told>) -> Vec<Told> {
        let trimmed = |mut told: Told| {
            let all = self.groups.is_empty() && self.models.is_empty();
            told.workers.retain(|(group, _, model)| {
                is_among(&self.groups, Some(group)) && is_among(&self.models, model.as_deref())
            });
            let wanted = is_among(&self.events, Some("heartbeat"))
                && is_among(&self.hives, Some(&told.hive))
                && (self.backfill || !told.late)
                && (all || !told.workers.is_empty());
            wanted.then_some(told)
        };
        readings.into_iter().filter_map(trimmed).collect()
    }

    fn wants(&self, happened: &Happened) -> bool {
        let of_worker = happened.group.is_none()
            || is_among(&self.groups, happened.group.as_deref())
                && (self.models.is_empty()
                    || happened.models.iter().any(|model| self.models.contains(&model.as_str())));
        is_among(&self.events, Some("lifecycle"))
            && (happened.hive.is_none() || is_among(&self.hives, happened.hive.as_deref()))
            && of_worker
    }
}

/// What a stream has said so far.
#[derive(Default)]
struct Seen {
    readings: Vec<Told>,
    happened: BTreeSet<i64>,
    last_id: Option<i64>,
}

impl Seen {
    /// Takes the next of the stream; whether it is the state of the fleet.
    fn next(&mut self, stream: &mut Stream, lines: bool) -> bool {
        let (id, data) = if lines {
            let line = stream.line().expect("the stream goes on");
            let data: Value = serde_json::from_str(&line).unwrap();
            (data["id"].as_i64(), data)
        } else {
            let frame = stream.frame().expect("the stream goes on");
            (frame.id, frame.data)
        };
        if let Some(id) = id {
            assert!(self.last_id < Some(id), "{id} comes after {:?}", self.last_id);
            self.last_id = Some(id);
        }
        match data["type"].as_str() {
            Some("hive_telemetry") => {
                let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
                let worker = |worker: &Value| {
                    let name = |name: &str| text(&worker[name]).unwrap();
                    (name("group"), name("instance"), text(&worker["model"]))
                };
                self.readings.push(Told {
                    id: id.expect("it is stored"),
                    hive: text(&data["hive_id"]).unwrap(),
                    timestamp: text(&data["timestamp"]).unwrap(),
                    late: data["backfill"] == true,
                    workers: data["workers"].as_array().unwrap().iter().map(worker).collect(),
                });
            }
            Some("lifecycle") => {
                self.happened.insert(id.expect("it is stored"));
            }
            Some("queen") => return true,
            None => {}
            Some(_) => panic!("{data}"),
        }
        false
    }

    /// Reads on until there are so many readings.
    fn read(&mut self, stream: &mut Stream, lines: bool, readings: usize) {
        while self.readings.len() < readings {
            self.next(stream, lines);
        }
    }
}

fn after(readings: &[Told], id: i64) -> Vec<Told> {
    readings.iter().filter(|told| told.id > id).cloned().collect()
}

fn seal(queen: Queen) -> Queen {
    let queen = queen.stop().start(&["--seal-after", "1s"]);
    queen.until_sealed();
    queen
}

/// Everything that happened, as it is stored.
fn happened(home: &Home) -> Vec<Happened> {
    let sql = "SELECT event, hives.id AS hive, worker, detail
                 FROM events LEFT JOIN hives USING (hive) ORDER BY event";
    let happened = |row: Value| {
        let text = |name: &str| row[name].as_str().map(ToOwned::to_owned);
        let detail: Value = serde_json::from_str(row["detail"].as_str().unwrap()).unwrap();
        let models = ["model", "from", "to"].map(|name| detail[name].as_str());
        Happened {
            id: row["event"].as_f64().unwrap() as i64,
            hive: text("hive"),
            group: text("worker").map(|worker| worker.split_once('/').unwrap().0.to_owned()),
            models: models.into_iter().flatten().map(ToOwned::to_owned).collect(),
        }
    };
    home.rows(sql).into_iter().map(happened).collect()
}

fn last_event(home: &Home) -> i64 {
    home.value("SELECT ifnull(max(event), 0) FROM events").as_f64().unwrap() as i64
}

/// One subscriber's way through a plan.
struct Way<'a> {
    subscriber: &'a Subscriber,
    query: String,
    /// Readings up to this id are not for it, except in a snapshot.
    from: i64,
    /// What happened up to this id need not be told.
    told: i64,
    snapshot: Vec<Told>,
    seen: Seen,
    stream: Stream,
}

impl<'a> Way<'a> {
    fn begin(subscriber: &'a Subscriber, queen: &Queen, taken: &Taken) -> Self {
        let id = match subscriber.start {
            Start::After(place) | Start::At(place) => Some(taken.at(place)),
            _ => None,
        };
        let query = subscriber.query(id);
        let stream = subscriber.open(queen, &query, None);
        let from = match subscriber.start {
            Start::Snapshot | Start::Now => taken.last_id(),
            Start::After(_) => id.unwrap_or_default(),
            // To the millisecond.
            Start::At(_) => id.unwrap_or_default() / 1000 * 1000 - 1,
            Start::Ago => 0,
        };
        let told = match subscriber.start {
            Start::Snapshot | Start::Now => last_event(queen),
            _ => from,
        };
        let newest = |hive: &&str| {
            let of_hive = taken.readings.iter().filter(|told| told.hive == *hive && !told.late);
            of_hive.max_by_key(|told| told.id).cloned()
        };
        let mut snapshot: Vec<Told> = match subscriber.start {
            Start::Snapshot => subscriber.wanted(HIVES.iter().filter_map(newest)),
            _ => Vec::new(),
        };
        snapshot.sort();
        Self { subscriber, query, from, told, snapshot, seen: Seen::default(), stream }
    }

    /// What is to come of what was taken, if the connection holds.
    fn expected(&self, taken: &Taken) -> Vec<Told> {
        let mut expected = self.snapshot.clone();
        expected.extend(self.subscriber.wanted(after(&taken.readings, self.from)));
        expected
    }

    /// Reads a part of it.
    fn read_until_the_cut(&mut self, taken: &Taken) {
        let expected = self.expected(taken);
        let cut = expected.len() * self.subscriber.cut / 100;
        self.seen.read(&mut self.stream, self.subscriber.lines, cut);
        assert_eq!(self.seen.readings, expected[..cut], "{}", self.query);
    }

    /// Goes on after the last that it saw, or begins anew.
    fn resume(&mut self, queen: &Queen, taken: &Taken) {
        self.stream = self.subscriber.open(queen, &self.query, self.seen.last_id);
        match self.seen.last_id {
            Some(id) => (self.from, self.told, self.snapshot) = (id, id, Vec::new()),
            None => *self = Self::begin(self.subscriber, queen, taken),
        }
        self.seen.readings.clear();
    }

    fn read_to_the_end(&mut self, taken: &Taken, stored: &[Happened]) {
        let expected = self.expected(taken);
        self.seen.read(&mut self.stream, self.subscriber.lines, expected.len());
        assert_eq!(self.seen.readings, expected, "{} from {}", self.query, self.from);
        let last = expected.last().map_or(0, |last| last.id);
        let wanted = |happened: &&Happened| {
            self.told < happened.id && happened.id < last && self.subscriber.wants(happened)
        };
        for happened in stored.iter().filter(wanted) {
            assert!(self.seen.happened.contains(&happened.id), "{}: {happened:?}", self.query);
        }
    }
}

/// All of it again, from the file alone: neither less nor more.
fn read_again(subscribers: &[Subscriber], queen: &Queen, taken: &Taken, stored: &[Happened]) {
    let open = |subscriber: &Subscriber| {
        let query = Subscriber { start: Start::After(0), ..subscriber.clone() }.query(None);
        let stream = subscriber.open(queen, &query, None);
        (query, stream)
    };
    let streams: Vec<_> = subscribers.iter().map(open).collect();
    for (subscriber, (query, mut stream)) in subscribers.iter().zip(streams) {
        let mut seen = Seen::default();
        // With the state of the fleet it begins, and it comes again after what was missed.
        while !seen.next(&mut stream, subscriber.lines) {}
        assert!(seen.readings.is_empty(), "{query}");
        while !seen.next(&mut stream, subscriber.lines) {}
        assert_eq!(seen.readings, subscriber.wanted(taken.readings.clone()), "{query}");
        // That a hive was heard again may be recorded meanwhile.
        seen.happened.retain(|id| Some(*id) <= stored.last().map(|last| last.id));
        let happened = stored.iter().filter(|happened| subscriber.wants(happened));
        assert_eq!(seen.happened, happened.map(|happened| happened.id).collect(), "{query}");
    }
}

fn follow(plan: &Plan) {
    let mut queen = Queen::with(&["--seal-after", "1h"]);
    let mut taken = Taken { start: now_ms() - 300_000, newest: [None; 3], readings: Vec::new() };
    taken.take(&queen, &plan.parts[0]);
    if plan.sealed[0] {
        queen = seal(queen);
        // After a start a hive is in no snapshot until it was heard.
        let step = |hive| Step { hive, ahead: 1, workers: BTreeSet::new() };
        taken.take(&queen, &[0, 1, 2].map(step));
    }
    let begin = |subscriber| Way::begin(subscriber, &queen, &taken);
    let mut ways: Vec<_> = plan.subscribers.iter().map(begin).collect();
    taken.take(&queen, &plan.parts[1]);
    ways.iter_mut().for_each(|way| way.read_until_the_cut(&taken));
    if plan.sealed[1] {
        queen = seal(queen);
    }
    if plan.killed {
        queen = queen.kill().start(&["--seal-after", "1h"]);
    }
    // Some of what was missed stands in the file, and some comes when they are there again.
    taken.take(&queen, &plan.parts[2]);
    ways.iter_mut().for_each(|way| way.resume(&queen, &taken));
    let everyone = GROUPS.into_iter().flat_map(|group| {
        MODELS.into_iter().enumerate().map(move |(port, model)| (group, port, Some(model)))
    });
    let workers: BTreeSet<Worker> = everyone.collect();
    let last = |hive| Step { hive, ahead: 1, workers: workers.clone() };
    taken.take(&queen, &[0, 1, 2].map(last));
    let stored = happened(&queen);
    ways.iter_mut().for_each(|way| way.read_to_the_end(&taken, &stored));
    read_again(&plan.subscribers, &queen, &taken, &stored);
}

#[test]
fn whatever_is_asked_for_comes_once_however_it_is_interrupted() {
    // A failing plan is made smaller a few times only: each takes seconds.
    let config =
        Config { cases: 5, max_shrink_iters: 20, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&plan(), |plan| {
        follow(&plan);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}
