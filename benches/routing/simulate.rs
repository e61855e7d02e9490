//! An hour of requests over a fleet, in simulated time, with the registry itself and a clock that
//! the simulation moves.
//!
//! A worker serves one request at a time, the others wait in its queue. A hive reads its workers
//! once a second and its heartbeat takes a moment; so does a request on its way. Arrivals are a
//! Poisson process; service times are log-normal, as those of text generation are: most are
//! short, and some take many times as long. A client that gets no worker asks again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use hive_contract::{Heartbeat, Timestamp};
use queen::clock::Clock;
use queen::registry::{HiveRegistry, LeaseId, Liveness, WorkerRef};
use queen::scheduler::Wanted;

use crate::{Result, fleet};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// simulate: hives
    #[arg(long, default_value_t = 16)]
    sim_hives: usize,
    /// simulate: workers on each hive, all of one model
    #[arg(long, default_value_t = 4)]
    sim_workers: usize,
    /// simulate: minutes that are counted, after five that are not
    #[arg(long, default_value_t = 60)]
    sim_minutes: u64,
    /// simulate: mean service time in seconds
    #[arg(long, default_value_t = 8.0)]
    sim_service: f64,
    /// simulate: where the random numbers begin
    #[arg(long, default_value_t = 1)]
    sim_seed: u64,
}

/// Microseconds, the simulation's time.
type Micros = i64;

const START: Micros = 1_764_000_000_000_000;
const SECOND: Micros = 1_000_000;
/// What is not counted: the fleet fills up.
const WARM_UP: Micros = 300 * SECOND;
/// From reading the workers to the queen.
const HEARTBEAT_TAKES: Micros = 20_000;
/// From the client to the worker.
const REQUEST_TAKES: Micros = 5_000;
/// Until a client that got no worker asks again.
const ASKS_AGAIN: Micros = 100_000;
const LEASE: Duration = Duration::from_secs(2);
/// Spread of the logarithm of service times: one in a thousand takes more than eight times the mean.
const SIGMA: f64 = 0.8;
const MODEL: &str = "model-0";
/// What routing must come to at this load: this many times shorter waits at the 99th percentile
/// than by the first idle worker of the last readings, and no worker ever twice.
const GOAL_LOAD: f64 = 0.8;
const GOAL_RATIO: f64 = 3.0;

/// How a worker is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// `POST /v1/route`, idle workers only; the client releases its lease when it is done.
    Route,
    /// The same, and the client never releases.
    RouteWithoutRelease,
    /// `POST /v1/route` with `idle_only: false`: the best, busy or not. Workers tell requests.
    RouteAny,
    /// The first worker that is idle by the last readings.
    FirstIdle,
    RoundRobin,
    Random,
}

impl Policy {
    const ALL: [Self; 6] = [
        Self::Route,
        Self::RouteWithoutRelease,
        Self::RouteAny,
        Self::FirstIdle,
        Self::RoundRobin,
        Self::Random,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::RouteWithoutRelease => "route, leases not released",
            Self::RouteAny => "route, idle_only: false",
            Self::FirstIdle => "first idle by last readings",
            Self::RoundRobin => "round robin",
            Self::Random => "random",
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request comes, or a client asks again.
    Ask {
        request: usize,
    },
    /// A request is at its worker.
    Reach {
        request: usize,
        worker: usize,
    },
    Done {
        request: usize,
        worker: usize,
    },
    /// A hive reads its workers.
    Read {
        hive: usize,
    },
    /// The queen receives what a hive read: requests of each worker.
    Receive {
        hive: usize,
        read_at: Micros,
        requests: Vec<u64>,
    },
}

struct Request {
    came: Micros,
    service: Micros,
    lease: Option<LeaseId>,
}

#[derive(Default)]
struct Worker {
    queue: VecDeque<usize>,
    /// Requests that it has or that are on their way to it.
    has: usize,
}

struct Simulation<'a> {
    options: &'a Options,
    policy: Policy,
    registry: HiveRegistry,
    clock: &'static AtomicI64,
    now: Micros,
    events: BinaryHeap<Reverse<(Micros, usize, Event)>>,
    /// Events of one moment happen in the order in which they were planned.
    planned: usize,
    hives: Vec<Heartbeat>,
    workers: Vec<Worker>,
    requests: Vec<Request>,
    next_worker: usize,
    random: Rng,
    waits: Vec<Micros>,
    sent: usize,
    sent_to_busy: usize,
}

/// What came of it.
struct Outcome {
    /// In growing order, in seconds.
    waits: Vec<f64>,
    double_booked: f64,
    requests: usize,
}

impl Outcome {
    fn quantile(&self, q: f64) -> f64 {
        let last = self.waits.len().saturating_sub(1);
        self.waits.get(((self.waits.len() as f64 * q) as usize).min(last)).copied().unwrap_or(0.0)
    }

    fn mean(&self) -> f64 {
        self.waits.iter().sum::<f64>() / self.waits.len().max(1) as f64
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let workers = options.sim_hives * options.sim_workers;
    println!(
        "{workers} workers on {} hives, mean service {} s, {} minutes; waits in seconds",
        options.sim_hives, options.sim_service, options.sim_minutes
    );
    println!(
        "{:>5}  {:<28} {:>8} {:>8} {:>8} {:>8} {:>8} {:>14}",
        "load", "way", "requests", "mean", "p50", "p99", "max", "double-booked"
    );
    let (mut route, mut first_idle) = (None, None);
    for load in [0.5, GOAL_LOAD, 0.9] {
        for policy in Policy::ALL {
            let outcome = Simulation::new(options, policy)?.run(load)?;
            println!(
                "{:>4}%  {:<28} {:>8} {:>8.2} {:>8.2} {:>8.2} {:>8.1} {:>13.2}%",
                load * 100.0,
                policy.name(),
                outcome.requests,
                outcome.mean(),
                outcome.quantile(0.5),
                outcome.quantile(0.99),
                outcome.quantile(1.0),
                outcome.double_booked * 100.0,
            );
            match policy {
                Policy::Route if load == GOAL_LOAD => route = Some(outcome),
                Policy::FirstIdle if load == GOAL_LOAD => first_idle = Some(outcome),
                _ => {}
            }
        }
    }
    let (route, first_idle) = route.zip(first_idle).ok_or("nothing was simulated")?;
    let ratio = first_idle.quantile(0.99) / route.quantile(0.99);
    println!("at {}% p99 waits are {ratio:.1} times shorter than by first idle", GOAL_LOAD * 100.0);
    if route.double_booked > 0.0 || ratio < GOAL_RATIO {
        return Err("routing is worse than it must be".into());
    }
    Ok(())
}

impl<'a> Simulation<'a> {
    fn new(options: &'a Options, policy: Policy) -> Result<Self> {
        let clock: &'static AtomicI64 = Box::leak(Box::new(AtomicI64::new(START)));
        let hives: Result<Vec<Heartbeat>> =
            (0..options.sim_hives).map(|hive| fleet::hive(hive, options.sim_workers, 1)).collect();
        let workers = options.sim_hives * options.sim_workers;
        Ok(Self {
            options,
            policy,
            registry: HiveRegistry::new(10_000, Liveness::default(), Clock::manual(clock)),
            clock,
            now: START,
            events: BinaryHeap::new(),
            planned: 0,
            hives: hives?,
            workers: (0..workers).map(|_| Worker::default()).collect(),
            requests: Vec::new(),
            next_worker: 0,
            random: Rng::with_seed(options.sim_seed),
            waits: Vec::new(),
            sent: 0,
            sent_to_busy: 0,
        })
    }

    fn run(mut self, load: f64) -> Result<Outcome> {
        // Ties in the registry are decided by the thread's numbers.
        fastrand::seed(self.options.sim_seed);
        let end = START + WARM_UP + self.options.sim_minutes as i64 * 60 * SECOND;
        self.plan_requests(load, end);
        for hive in 0..self.hives.len() {
            let phase = self.random.i64(0..SECOND);
            self.plan(START + phase, Event::Read { hive });
        }
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > end {
                break;
            }
            self.now = at;
            self.clock.store(at, Ordering::Relaxed);
            self.happen(event)?;
        }
        let mut waits: Vec<f64> =
            self.waits.iter().map(|&wait| wait as f64 / SECOND as f64).collect();
        waits.sort_unstable_by(f64::total_cmp);
        let double_booked = self.sent_to_busy as f64 / self.sent.max(1) as f64;
        Ok(Outcome { requests: waits.len(), waits, double_booked })
    }

    fn plan(&mut self, at: Micros, event: Event) {
        self.events.push(Reverse((at, self.planned, event)));
        self.planned += 1;
    }

    /// All requests before the end, the same ones whatever the policy.
    fn plan_requests(&mut self, load: f64, end: Micros) {
        let mean = self.options.sim_service;
        let rate = load * self.workers.len() as f64 / mean;
        let location = mean.ln() - SIGMA * SIGMA / 2.0;
        let mut at = START as f64;
        loop {
            at += -(1.0 - self.random.f64()).ln() / rate * SECOND as f64;
            let came = at as Micros;
            if came > end {
                return;
            }
            let (u, v) = (1.0 - self.random.f64(), self.random.f64());
            let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
            let service = (location + SIGMA * normal).exp() * SECOND as f64;
            let request = self.requests.len();
            self.requests.push(Request { came, service: service as Micros, lease: None });
            self.plan(came, Event::Ask { request });
        }
    }

    fn happen(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Ask { request } => match self.choose(request) {
                Some(worker) => self.send(request, worker),
                None => self.plan(self.now + ASKS_AGAIN, Event::Ask { request }),
            },
            Event::Reach { request, worker } => {
                self.workers[worker].queue.push_back(request);
                if self.workers[worker].queue.len() == 1 {
                    self.begin(worker);
                }
            }
            Event::Done { request, worker } => {
                self.workers[worker].queue.pop_front();
                self.workers[worker].has -= 1;
                self.begin(worker);
                if let Some(lease) = self.requests[request].lease
                    && self.policy != Policy::RouteWithoutRelease
                {
                    self.registry.release(lease);
                }
            }
            Event::Read { hive } => {
                let first = hive * self.options.sim_workers;
                let workers = &self.workers[first..first + self.options.sim_workers];
                let requests = workers.iter().map(|worker| worker.queue.len() as u64).collect();
                let read_at = self.now;
                self.plan(read_at + HEARTBEAT_TAKES, Event::Receive { hive, read_at, requests });
                self.plan(read_at + SECOND, Event::Read { hive });
            }
            Event::Receive { hive, read_at, requests } => {
                let time = |at: Micros| Timestamp::from_millis(at / 1000).ok_or("no such time");
                let told = self.policy == Policy::RouteAny;
                let reading =
                    fleet::reading(&self.hives[hive], time(read_at)?, |at| requests[at], told)?;
                self.registry.update_workers(&reading, time(self.now)?)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, request: usize, worker: usize) {
        if self.requests[request].came >= START + WARM_UP {
            self.sent += 1;
            self.sent_to_busy += usize::from(self.workers[worker].has > 0);
        }
        self.workers[worker].has += 1;
        self.plan(self.now + REQUEST_TAKES, Event::Reach { request, worker });
    }

    /// Begins with the request at the front of a worker's queue.
    fn begin(&mut self, worker: usize) {
        let Some(&request) = self.workers[worker].queue.front() else { return };
        let Request { came, service, .. } = self.requests[request];
        if came >= START + WARM_UP {
            self.waits.push(self.now - came);
        }
        self.plan(self.now + service, Event::Done { request, worker });
    }

    fn choose(&mut self, request: usize) -> Option<usize> {
        let all = self.workers.len();
        match self.policy {
            Policy::Random => Some(self.random.usize(..all)),
            Policy::RoundRobin => {
                self.next_worker = (self.next_worker + 1) % all;
                Some(self.next_worker)
            }
            Policy::FirstIdle => {
                let mut candidates = self.registry.find_workers_with_model(MODEL);
                candidates.retain(|worker| worker.idle() == Some(true));
                candidates.first().map(|worker| self.number(worker))
            }
            Policy::Route | Policy::RouteWithoutRelease | Policy::RouteAny => {
                let idle_only = self.policy != Policy::RouteAny;
                let wanted = Wanted { idle_only, ..Wanted::idle(MODEL) };
                let route = self.registry.route(&wanted, LEASE).ok()?;
                self.requests[request].lease = Some(route.lease);
                Some(self.number(&route.worker))
            }
        }
    }

    fn number(&self, worker: &WorkerRef) -> usize {
        let same = |hive: &Heartbeat| hive.hive.id == worker.hive().heartbeat.hive.id;
        let hive = self.hives.iter().position(same).unwrap_or_default();
        let workers = &self.hives[hive].workers;
        let at = workers.iter().position(|other| other.instance == worker.instance);
        hive * self.options.sim_workers + at.unwrap_or_default()
    }
}
