//! The registry with a clock that the tests move.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicI64;

use hive_contract::WorkerKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::scheduler::{Leased, Rank, rank};

const START_MS: i64 = 1_764_000_000_000;

struct Fixture {
    registry: HiveRegistry,
    micros: &'static AtomicI64,
}

impl Fixture {
    fn new() -> Self {
        let micros: &'static AtomicI64 = Box::leak(Box::new(AtomicI64::new(START_MS * 1000)));
        let registry = HiveRegistry::new(100, Liveness::default(), Clock::manual(micros));
        Self { registry, micros }
    }

    fn now_ms(&self) -> i64 {
        self.micros.load(Ordering::Relaxed) / 1000
    }

    fn advance(&self, ms: i64) {
        self.micros.fetch_add(ms * 1000, Ordering::Relaxed);
    }

    /// A reading of a moment, heard now.
    fn hear_of(&self, hive: &str, ms: i64, workers: &[Value]) -> Update {
        let heartbeat = json!({"hive": {"id": hive}, "workers": workers}).to_string();
        let at = |ms| Timestamp::from_millis(ms).unwrap();
        let heartbeat = Heartbeat::parse(heartbeat.as_bytes(), at(ms)).unwrap();
        self.registry.update_workers(&Arc::new(heartbeat), at(self.now_ms())).unwrap()
    }

    fn hear(&self, hive: &str, workers: &[Value]) -> Update {
        self.hear_of(hive, self.now_ms(), workers)
    }

    fn state(&self, hive: &str) -> State {
        self.registry.state(&self.registry.get(hive).unwrap())
    }

    fn route(&self, lease_ms: u64) -> Result<Route, NoWorker> {
        self.registry.route(&Wanted::idle("m"), Duration::from_millis(lease_ms))
    }

    fn leases(&self) -> usize {
        let counts = self.registry.leases();
        self.registry.get_all_workers().iter().map(|worker| counts.of(worker)).sum()
    }
}

fn idle(instance: &str) -> Value {
    json!({"pid": 1, "group": "llm", "instance": instance, "model": "m", "gpu_util_pct": 0.0,
           "vram_mb": 1000, "total_vram_mb": 10_000})
}

#[test]
fn an_idle_worker_is_given_once() {
    let fixture = Fixture::new();
    fixture.hear("h", &[idle("1"), idle("2")]);
    let (first, second) = (fixture.route(2000).unwrap(), fixture.route(2000).unwrap());
    assert_ne!(first.worker.instance, second.worker.instance);
    assert_ne!(first.lease, second.lease);
    assert_eq!(fixture.route(2000).unwrap_err().considered.leased, 2);
    assert_eq!(fixture.leases(), 2);
    assert!(fixture.registry.release(first.lease));
    assert!(!fixture.registry.release(first.lease));
    assert_eq!(fixture.route(2000).unwrap().worker.instance, first.worker.instance);
}

#[test]
fn a_lease_ends_with_its_time() {
    let fixture = Fixture::new();
    fixture.hear("h", &[idle("1")]);
    let route = fixture.route(300).unwrap();
    assert_eq!(route.expires.millis(), START_MS + 300);
    fixture.advance(299);
    assert!(fixture.route(300).is_err());
    fixture.advance(1);
    assert_eq!(fixture.leases(), 0);
    assert!(fixture.route(300).is_ok());
}

#[test]
fn a_lease_ends_with_the_second_newer_reading() {
    let fixture = Fixture::new();
    fixture.hear("h", &[idle("1")]);
    fixture.route(60_000).unwrap();
    fixture.advance(1000);
    fixture.hear("h", &[idle("1")]);
    assert_eq!(fixture.leases(), 1, "it may have been taken before the request arrived");
    fixture.hear("h", &[idle("1")]);
    assert_eq!(fixture.leases(), 1, "the same reading again says nothing new");
    fixture.hear_of("h", START_MS + 1, &[idle("1")]);
    assert_eq!(fixture.leases(), 1, "nor does an older one");
    fixture.advance(1000);
    fixture.hear("h", &[idle("1")]);
    assert_eq!(fixture.leases(), 0);
    assert!(fixture.route(60_000).is_ok());
}

#[test]
fn a_lease_ends_with_its_worker() {
    let with = |member: &str, value: Value| {
        let mut worker = idle("1");
        worker[member] = value;
        worker
    };
    for after in [
        vec![],
        vec![idle("2")],
        vec![with("pid", json!(2))],
        vec![with("model", json!("other"))],
        vec![with("model", Value::Null)],
    ] {
        let fixture = Fixture::new();
        fixture.hear("h", &[idle("1")]);
        let route = fixture.route(60_000).unwrap();
        fixture.advance(1000);
        fixture.hear("h", &after);
        assert_eq!(fixture.leases(), 0, "{after:?}");
        assert!(!fixture.registry.release(route.lease), "{after:?}");
        fixture.advance(1000);
        fixture.hear("h", &[idle("1")]);
        assert!(fixture.route(60_000).is_ok(), "{after:?}");
    }
}

#[test]
fn a_lease_takes_memory() {
    let fixture = Fixture::new();
    fixture.hear("h", &[idle("1")]);
    let wanted = Wanted {
        required_vram: Mebibytes::from_integer(4000).ok(),
        idle_only: false,
        ..Wanted::idle("m")
    };
    let route = || fixture.registry.route(&wanted, Duration::from_secs(2));
    assert!(route().is_ok());
    assert!(route().is_ok());
    let refusal = route().unwrap_err();
    assert_eq!(refusal.considered.no_capacity, 1);
    assert!(refusal.detail.contains("the most free is 1000 MiB"), "{}", refusal.detail);
}

#[test]
fn leases_have_a_bound() {
    let fixture = Fixture::new();
    let most = crate::scheduler::MAX_LEASES_PER_WORKER as usize;
    let workers: Vec<Value> = (1..=65).map(|port| idle(&port.to_string())).collect();
    let any = Wanted { idle_only: false, ..Wanted::idle("m") };
    let route = || fixture.registry.route(&any, Duration::from_secs(60));
    fixture.hear("h", &workers[..1]);
    for _ in 0..most {
        route().unwrap();
    }
    let refusal = route().unwrap_err();
    assert_eq!(refusal.considered.leased, 1);
    assert!(refusal.detail.contains("leased to 1024 requests"), "{}", refusal.detail);
    fixture.hear("h2", &workers[1..]);
    for _ in most..MAX_LEASES {
        route().unwrap();
    }
    assert_eq!(fixture.leases(), MAX_LEASES);
    let refusal = route().unwrap_err();
    assert!(refusal.detail.contains("65536 leases are held"), "{}", refusal.detail);
    fixture.advance(60_000);
    fixture.hear("h2", &workers[1..]);
    assert_eq!(fixture.leases(), 0);
    assert!(route().is_ok());
}

#[test]
fn a_hive_that_comes_and_goes_is_damped() {
    let fixture = Fixture::new();
    let hear = || {
        fixture.hear("h", &[idle("1")]);
        let state = fixture.state("h");
        assert_eq!(fixture.route(1).is_ok(), state == State::Live, "only live hives are scheduled");
        fixture.advance(1);
        state
    };
    assert_eq!(hear(), State::Live);
    fixture.advance(6000);
    assert_eq!(fixture.state("h"), State::Stale);
    assert_eq!(hear(), State::Live, "one silence is forgiven");
    fixture.advance(40_000);
    assert_eq!(fixture.state("h"), State::Offline);
    assert_eq!(hear(), State::Stale, "the second is not");
    for _ in 0..4 {
        fixture.advance(999);
        assert_eq!(hear(), State::Stale);
    }
    fixture.advance(1000);
    assert_eq!(hear(), State::Live, "it was heard for five seconds");
    assert_eq!(fixture.registry.silences(&fixture.registry.get("h").unwrap()), 2);
}

#[test]
fn what_is_heard_late_shows_that_the_hive_lives() {
    let fixture = Fixture::new();
    fixture.hear("h", &[idle("1")]);
    for seconds in 1..40 {
        fixture.advance(1000);
        let update = fixture.hear_of("h", START_MS - 3_600_000 + seconds * 1000, &[idle("2")]);
        assert_eq!(update, Update::Older);
    }
    assert_eq!(fixture.state("h"), State::Live);
    let hive = fixture.registry.get("h").unwrap();
    assert_eq!(fixture.registry.age_ms(&hive), 0);
    assert_eq!(hive.received.millis(), START_MS + 39_000);
    assert_eq!(hive.heartbeat.timestamp.millis(), START_MS);
    assert_eq!(fixture.route(1).unwrap().worker.instance.as_str(), "1");
}

#[test]
fn what_was_before_the_start_is_not_scheduled() {
    let fixture = Fixture::new();
    let heartbeat = json!({"hive": {"id": "h"}, "workers": [idle("1")]}).to_string();
    let now = Timestamp::from_millis(START_MS).unwrap();
    let heartbeat = Arc::new(Heartbeat::parse(heartbeat.as_bytes(), now).unwrap());
    fixture.registry.prime(heartbeat, now).unwrap();
    let refusal = fixture.route(1).unwrap_err();
    assert_eq!(refusal.considered.not_live, 1);
    assert!(refusal.detail.contains("(1 not since the queen started)"), "{}", refusal.detail);
    fixture.advance(1);
    fixture.hear("h", &[idle("1")]);
    assert!(fixture.route(1).is_ok());
}

#[test]
fn many_at_once_never_get_the_same_worker() {
    let fixture = Fixture::new();
    let workers: Vec<Value> = (1..=100).map(|port| idle(&port.to_string())).collect();
    fixture.hear("h", &workers);
    let routes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..20).map(|_| fixture.route(2000)).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut given: Vec<_> = routes.iter().flatten().map(|route| route.url.clone()).collect();
    assert_eq!(given.len(), 100);
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 100);
}

/// What happens to a registry.
#[derive(Debug, Clone)]
enum Happening {
    Reading {
        hive: usize,
        ms_ago: i64,
        workers: Vec<Value>,
    },
    Pass(i64),
    Route {
        model: &'static str,
        group: Option<&'static str>,
        required: u64,
        idle_only: bool,
        lease_ms: i64,
    },
    Release(usize),
}

fn worker() -> impl Strategy<Value = Value> {
    let model = prop_oneof![1 => Just(None), 4 => Just(Some("x")), 2 => Just(Some("y"))];
    let util = prop_oneof![1 => Just(None), 3 => Just(Some(0)), 2 => Just(Some(50))];
    let requests = prop::option::of(0..2);
    (1..=2, model, util, prop::option::of(0..3), requests).prop_map(
        |(pid, model, util, vram, requests)| {
            json!({"pid": pid, "model": model, "gpu_util_pct": util, "vram_mb": vram,
                   "total_vram_mb": 4, "requests_running": requests})
        },
    )
}

/// Up to four workers, each with another key.
fn workers() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(worker(), 0..=4).prop_shuffle().prop_flat_map(|workers| {
        let keys = vec![("a", "1"), ("a", "2"), ("b", "1"), ("b", "x")];
        (Just(workers), Just(keys).prop_shuffle()).prop_map(|(mut workers, keys)| {
            for (worker, (group, instance)) in workers.iter_mut().zip(keys) {
                worker["group"] = group.into();
                worker["instance"] = instance.into();
            }
            workers
        })
    })
}

fn happening() -> impl Strategy<Value = Happening> {
    let route = (
        prop_oneof![4 => Just("x"), 2 => Just("y"), 1 => Just("z")],
        prop_oneof![3 => Just(None), 1 => Just(Some("a")), 1 => Just(Some("c"))],
        0..3_u64,
        any::<bool>(),
        1..3000_i64,
    );
    prop_oneof![
        3 => (0..3_usize, prop_oneof![4 => Just(0), 1 => 1..3000_i64], workers())
            .prop_map(|(hive, ms_ago, workers)| Happening::Reading { hive, ms_ago, workers }),
        2 => (1..2000_i64).prop_map(Happening::Pass),
        4 => route.prop_map(|(model, group, required, idle_only, lease_ms)| {
            Happening::Route { model, group, required, idle_only, lease_ms }
        }),
        1 => any::<usize>().prop_map(Happening::Release),
    ]
}

/// The same as the registry, in plain lists.
#[derive(Default)]
struct Reference {
    hives: BTreeMap<String, (i64, Vec<Worker>)>,
    leases: Vec<ReferenceLease>,
}

struct ReferenceLease {
    id: LeaseId,
    key: String,
    vram: u64,
    until_ms: i64,
    readings: u32,
}

impl Reference {
    fn hear(&mut self, hive: &str, ms: i64, workers: &[Value]) {
        let workers: Vec<Worker> =
            workers.iter().map(|worker| serde_json::from_value(worker.clone()).unwrap()).collect();
        let (newest, old) = self.hives.entry(hive.into()).or_default();
        if ms <= *newest {
            return;
        }
        let key = |worker: &Worker| format!("{hive}/{}/{}", worker.group, worker.instance);
        let stays = |old: &Worker| {
            let same = |w: &&Worker| key(w) == key(old) && w.pid == old.pid && w.model == old.model;
            workers.iter().any(|w| same(&w))
        };
        for worker in old.iter() {
            let (its, stays) = (key(worker), stays(worker));
            let of_it = self.leases.iter_mut().filter(|lease| lease.key == its);
            of_it.for_each(|lease| lease.readings += if stays { 1 } else { 2 });
        }
        self.leases.retain(|lease| lease.readings < 2);
        (*newest, *old) = (ms, workers);
    }

    fn of(&self, key: &str) -> Leased {
        let mine = self.leases.iter().filter(|lease| lease.key == key);
        mine.fold(Leased::default(), |sum, lease| Leased {
            requests: sum.requests + 1,
            vram: sum.vram + lease.vram,
        })
    }

    /// The ranks of the workers that can take the request, by key, and what became of the others.
    fn find(&self, wanted: &Wanted<'_>) -> (BTreeMap<String, Rank>, Considered) {
        let mut considered = Considered::default();
        let mut fit = BTreeMap::new();
        for (hive, (_, workers)) in &self.hives {
            for worker in workers {
                if wanted.group.is_some_and(|group| group != worker.group.as_str()) {
                    continue;
                }
                let key = format!("{hive}/{}/{}", worker.group, worker.instance);
                let leased = self.of(&key);
                let free = worker.free_vram_mb().map_or(0, Mebibytes::thousandths);
                let free = free.saturating_sub(leased.vram);
                let required = wanted.required_vram.unwrap().thousandths();
                considered.workers += 1;
                if worker.model.as_ref().is_none_or(|model| model.as_str() != wanted.model) {
                    considered.without_model += 1;
                } else if wanted.exclude.iter().any(|excluded| excluded.to_string() == key) {
                    considered.excluded += 1;
                } else if worker.instance.as_str() == "x" {
                    considered.not_routable += 1;
                } else if wanted.idle_only && worker.idle() != Some(true) {
                    considered.busy += 1;
                } else if wanted.idle_only && leased.requests > 0 {
                    considered.leased += 1;
                } else if free <= required {
                    considered.no_capacity += 1;
                } else {
                    fit.insert(key, rank(worker, leased));
                }
            }
        }
        (fit, considered)
    }
}

/// Without what only the sentence shows.
fn numbers(considered: &Considered) -> Value {
    serde_json::to_value(considered).unwrap()
}

proptest! {
    #[test]
    fn it_does_what_plain_lists_do(happenings in prop::collection::vec(happening(), 1..60)) {
        // Hives stay live here: intervals are longer than all that passes.
        let micros: &'static AtomicI64 = Box::leak(Box::new(AtomicI64::new(START_MS * 1000)));
        let liveness = Liveness { live_intervals: 1_000_000, stale_intervals: 2_000_000 };
        let registry = HiveRegistry::new(100, liveness, Clock::manual(micros));
        let fixture = Fixture { registry, micros };
        let mut reference = Reference::default();
        let mut given = Vec::new();
        let excluded: WorkerKey = "hive-1/a/1".parse().unwrap();
        for happening in happenings {
            let now_ms = fixture.now_ms();
            reference.leases.retain(|lease| lease.until_ms > now_ms);
            match happening {
                Happening::Reading { hive, ms_ago, workers } => {
                    let hive = format!("hive-{hive}");
                    fixture.hear_of(&hive, now_ms - ms_ago, &workers);
                    reference.hear(&hive, now_ms - ms_ago, &workers);
                }
                Happening::Pass(ms) => fixture.advance(ms),
                Happening::Release(which) => {
                    if given.is_empty() {
                        continue;
                    }
                    let id: LeaseId = given[which % given.len()];
                    let held = reference.leases.iter().any(|lease| lease.id == id);
                    // One whose time is up may still be there until somebody asks.
                    prop_assert!(fixture.registry.release(id) || !held);
                    reference.leases.retain(|lease| lease.id != id);
                }
                Happening::Route { model, group, required, idle_only, lease_ms } => {
                    let exclude = if lease_ms % 2 == 0 { std::slice::from_ref(&excluded) } else { &[] };
                    let required_vram = Mebibytes::from_integer(required).ok();
                    let wanted = Wanted { model, required_vram, group, exclude, idle_only };
                    let (fit, considered) = reference.find(&wanted);
                    match fixture.registry.route(&wanted, Duration::from_millis(lease_ms.unsigned_abs())) {
                        Ok(route) => {
                            let key = route.worker.key().to_string();
                            prop_assert_eq!(Some(&fit[&key]), fit.values().min());
                            prop_assert_eq!(numbers(&route.considered), numbers(&considered));
                            given.push(route.lease);
                            reference.leases.push(ReferenceLease {
                                id: route.lease,
                                key,
                                vram: required * 1000,
                                until_ms: now_ms + lease_ms,
                                readings: 0,
                            });
                        }
                        Err(refusal) => {
                            prop_assert!(fit.is_empty(), "{}", refusal.detail);
                            prop_assert_eq!(numbers(&refusal.considered), numbers(&considered));
                        }
                    }
                }
            }
            let now_ms = fixture.now_ms();
            reference.leases.retain(|lease| lease.until_ms > now_ms);
            let counts = fixture.registry.leases();
            for worker in fixture.registry.get_all_workers() {
                let expected = reference.of(&worker.key().to_string()).requests as usize;
                prop_assert_eq!(counts.of(&worker), expected, "{}", worker.key());
            }
            for model in ["x", "y", "z"] {
                let all = fixture.registry.get_all_workers();
                let of_model = |w: &&WorkerRef| w.model.as_ref().is_some_and(|m| m.as_str() == model);
                let expected: Vec<_> = all.iter().filter(of_model).map(WorkerRef::key).collect();
                let found = fixture.registry.find_workers_with_model(model);
                prop_assert_eq!(found.iter().map(WorkerRef::key).collect::<Vec<_>>(), expected);
            }
        }
    }
}

#[test]
fn the_newest_readings_have_room_together_and_a_smaller_one_always_has() {
    let Fixture { registry, micros } = Fixture::new();
    let fixture = Fixture { registry: HiveRegistry { max_memory: 64 << 10, ..registry }, micros };
    let workers = |n: usize| -> Vec<Value> {
        (0..n).map(|i| json!({"pid": 1, "group": "g", "instance": i.to_string()})).collect()
    };
    let hear = |hive: &str, n: usize| {
        fixture.advance(1000);
        let heartbeat = json!({"hive": {"id": hive}, "workers": workers(n)}).to_string();
        let now = Timestamp::from_millis(fixture.now_ms()).unwrap();
        let heartbeat = Heartbeat::parse(heartbeat.as_bytes(), now).unwrap();
        fixture.registry.update_workers(&Arc::new(heartbeat), now)
    };
    let full = Err(Full::Memory { max: 64 << 10 });
    assert_eq!(hear("a", 100), Ok(Update::Newest));
    assert_eq!(hear("b", 500), full);
    assert!(fixture.registry.get("b").is_none());
    assert_eq!(hear("a", 500), full);
    assert_eq!(fixture.registry.get_workers("a").len(), 100);
    assert_eq!(hear("a", 1), Ok(Update::Newest));
    assert_eq!(hear("b", 100), Ok(Update::Newest));
    let held: usize = fixture.registry.hives().iter().map(|hive| hive.heartbeat.memory()).sum();
    assert_eq!(fixture.registry.memory.load(Ordering::Relaxed), held);
}
