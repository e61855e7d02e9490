//! What a collection cannot wait for, found out beside it: how busy the servers are, as they
//! say themselves, and what Ollama calls a model.
//!
//! Invariant: a collection never waits for an answer. It takes the newest one that came, and
//! none where that is stale. One thread asks; nothing is asked that would load or wake up a
//! model.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hive_contract::text::ModelName;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::discover::Home;
use super::place::Member;
use super::server::{Model, Queue};
use crate::clock::Clock;

#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod http;
mod json;
mod ollama;
mod prometheus;

use http::{Connection, Error, Target};

/// How often a server is asked that answers.
const PERIOD: Duration = Duration::from_secs(1);
/// How old an answer may get before it is not known any more.
const FRESH: Duration = Duration::from_secs(3);
/// When to ask again after a failure, so that it does not cost what an answer does.
const RETRY: Duration = Duration::from_secs(5);
/// When to ask again who does not offer this.
const RETRY_NOT_OFFERED: Duration = Duration::from_secs(60);
/// What nobody has wanted to know for so long is forgotten.
const WANTED: Duration = Duration::from_secs(150);
/// The most servers that are asked at the same time.
const MAX_AT_ONCE: usize = 32;

/// How busy a server is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) running: Option<f64>,
    pub(super) waiting: Option<f64>,
    pub(super) kv_cache_pct: Option<f64>,
}

/// One thing to find out about one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Subject {
    member: Member,
    port: u16,
    path: &'static str,
}

/// Finds things out, from the first question on.
pub(super) struct Inquiry {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    proc_root: PathBuf,
    /// Otherwise it only looks up names.
    pub(super) asks_servers: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct State {
    busy: HashMap<Subject, Asked>,
    models: HashMap<Member, Named>,
    is_over: bool,
}

/// A server that is asked again and again.
struct Asked {
    target: Target,
    wanted_at: Duration,
    ask_at: Duration,
    is_asked: bool,
    answer: Option<(Duration, Result<Figures, String>)>,
    kept: Option<Connection>,
}

/// A file of Ollama's store, whose name is looked up once.
struct Named {
    blob: PathBuf,
    wanted_at: Duration,
    is_asked: bool,
    name: Option<ModelName>,
}

impl Inquiry {
    pub(super) fn new(clock: Arc<dyn Clock>, proc_root: &Path) -> Self {
        let shared = Shared { state: Mutex::default(), changed: Notify::new(), clock };
        Self {
            shared: Arc::new(shared),
            thread: None,
            proc_root: proc_root.to_owned(),
            asks_servers: true,
        }
    }

    /// The newest answer of a server, or why there is none where that is its fault.
    pub(super) fn figures(
        &mut self,
        member: Member,
        port: u16,
        queue: Queue,
    ) -> Result<Figures, String> {
        if !self.asks_servers {
            return Ok(Figures::default());
        }
        let now = self.shared.clock.monotonic();
        let endpoint = queue.endpoint;
        let port = queue.port.unwrap_or(port);
        let subject = Subject { member, port, path: endpoint.path };
        let mut state = self.shared.state();
        if let Some(asked) = state.busy.get_mut(&subject) {
            asked.wanted_at = now;
            return match &asked.answer {
                Some((at, Ok(figures))) if now.saturating_sub(*at) <= FRESH => Ok(*figures),
                Some((_, Err(reason))) => Err(reason.clone()),
                _ => Ok(Figures::default()),
            };
        }
        let Some((network, own_network)) = networks(&self.proc_root, member.pid) else {
            return Ok(Figures::default());
        };
        let target = Target { port, endpoint, network, own_network };
        let asked = Asked {
            target,
            wanted_at: now,
            ask_at: now,
            is_asked: false,
            answer: None,
            kept: None,
        };
        state.busy.insert(subject, asked);
        drop(state);
        self.wake();
        Ok(Figures::default())
    }

    /// A model's name, as soon as it is known.
    pub(super) fn name(&mut self, member: Member, model: &Model) -> Option<ModelName> {
        let blob = match model {
            Model::Name(name) => return Some(name.clone()),
            Model::OllamaBlob(blob) => blob,
        };
        let now = self.shared.clock.monotonic();
        let mut state = self.shared.state();
        if let Some(named) = state.models.get_mut(&member) {
            named.wanted_at = now;
            return named.name.clone();
        }
        let named = Named { blob: blob.clone(), wanted_at: now, is_asked: false, name: None };
        state.models.insert(member, named);
        drop(state);
        self.wake();
        None
    }

    /// Wakes the thread up, which is started with the first question.
    fn wake(&mut self) {
        if self.thread.is_none() {
            let (shared, proc_root) = (Arc::clone(&self.shared), self.proc_root.clone());
            // Without a thread there are no answers; the next question tries again.
            self.thread = thread::Builder::new()
                .name("hive-inquiry".into())
                .spawn(move || {
                    let _ = inquire(&shared, &proc_root);
                })
                .ok();
        }
        self.shared.changed.notify_one();
    }
}

impl Drop for Inquiry {
    fn drop(&mut self) {
        self.shared.state().is_over = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It waits for no answer any more.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Never held while anything is waited for.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The network of a process, where it is another than this machine's, and the machine's own;
/// `None` where it is another one that cannot be entered.
#[expect(clippy::type_complexity, reason = "a pair that is taken apart at once")]
fn networks(proc_root: &Path, pid: u32) -> Option<(Option<Arc<File>>, Option<Arc<File>>)> {
    let mut buffer = super::Buffer::default();
    let home = Home::of(proc_root, pid, &mut buffer).ok()?;
    if home.is_on_host_network {
        return Some((None, None));
    }
    let open =
        |process: &str| File::open(proc_root.join(process).join("ns/net")).ok().map(Arc::new);
    Some((Some(open(&pid.to_string())?), Some(open("thread-self")?)))
}

/// Asks whoever is due, until it is over.
fn inquire(shared: &Arc<Shared>, proc_root: &Path) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()?;
    runtime.block_on(async {
        let mut asking = JoinSet::new();
        loop {
            let wait = {
                let mut state = shared.state();
                if state.is_over {
                    return;
                }
                let now = shared.clock.monotonic();
                state.forget_unwanted(now);
                state.look_up_names(shared, proc_root);
                state.ask_whoever_is_due(now, &mut asking);
                // At the bound, only an answer makes room.
                if asking.len() < MAX_AT_ONCE { state.next_due(now) } else { WANTED }
            };
            tokio::select! {
                () = shared.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
                Some(answered) = asking.join_next() => {
                    // One that panicked is a defect; its server is not asked again.
                    if let Ok((subject, kept, result)) = answered {
                        let now = shared.clock.monotonic();
                        shared.state().take_answer(subject, kept, result, now);
                    }
                }
            }
        }
    });
    // A file system that hangs must not hold up the end.
    runtime.shutdown_background();
    Ok(())
}

type Answered = (Subject, Option<Connection>, Result<Figures, Error>);

impl State {
    fn forget_unwanted(&mut self, now: Duration) {
        let is_wanted = |wanted_at: Duration| now.saturating_sub(wanted_at) < WANTED;
        self.busy.retain(|_, asked| is_wanted(asked.wanted_at));
        self.models.retain(|_, named| is_wanted(named.wanted_at));
    }

    fn ask_whoever_is_due(&mut self, now: Duration, asking: &mut JoinSet<Answered>) {
        for (&subject, asked) in &mut self.busy {
            if asked.is_asked || now < asked.ask_at {
                continue;
            }
            if asking.len() >= MAX_AT_ONCE {
                return;
            }
            asked.is_asked = true;
            let (target, kept) = (asked.target.clone(), asked.kept.take());
            asking.spawn(async move {
                let (kept, result) = http::ask(&target, kept).await;
                (subject, kept, result)
            });
        }
    }

    fn take_answer(
        &mut self,
        subject: Subject,
        kept: Option<Connection>,
        result: Result<Figures, Error>,
        now: Duration,
    ) {
        let Some(asked) = self.busy.get_mut(&subject) else { return };
        asked.is_asked = false;
        asked.kept = kept;
        let (wait, answer) = match result {
            Ok(figures) => (PERIOD, Ok(figures)),
            Err(Error::NotListening) => (RETRY, Ok(Figures::default())),
            Err(Error::NotOffered(_)) => (RETRY_NOT_OFFERED, Ok(Figures::default())),
            Err(error) => (RETRY, Err(error.to_string())),
        };
        // Counted from when it was due, so that the answers come at an even pace.
        asked.ask_at = (asked.ask_at + wait).max(now + wait / 2);
        asked.answer = Some((now, answer));
    }

    fn look_up_names(&mut self, shared: &Arc<Shared>, proc_root: &Path) {
        for (&member, named) in &mut self.models {
            if std::mem::replace(&mut named.is_asked, true) {
                continue;
            }
            let (shared, blob) = (Arc::clone(shared), named.blob.clone());
            let root = proc_root.join(member.pid.to_string()).join("root");
            // Its file system may be one that hangs.
            tokio::task::spawn_blocking(move || {
                let name = ollama::name(&root, &blob);
                if let Some(named) = shared.state().models.get_mut(&member) {
                    named.name = name;
                }
            });
        }
    }

    /// How long to wait until someone is due who is not being asked.
    fn next_due(&self, now: Duration) -> Duration {
        let waits = self.busy.values().filter(|asked| !asked.is_asked);
        let next = waits.map(|asked| asked.ask_at.saturating_sub(now)).min();
        next.map_or(WANTED, |wait| wait.max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests;
