//! What became of each worker that was looked at: in numbers, and in a sentence for operators.

use std::fmt::{Display, Formatter, Result};

use hive_contract::units::Mebibytes;
use serde::Serialize;

use super::{Candidate, Filter, MAX_LEASES_PER_WORKER, Wanted};

/// How many workers were looked at, and why how many of them were not chosen. Each is counted
/// once; those that could have been chosen are the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// Workers that are known, of the group asked for.
    pub workers: usize,
    /// They serve another model, or it is not known which.
    pub without_model: usize,
    /// Their GPUs do something, or it is not known whether.
    pub busy: usize,
    /// They have not enough free GPU memory, or it is not known how much.
    pub no_capacity: usize,
    /// Their hive was not heard lately.
    pub not_live: usize,
    /// The request excludes them.
    #[serde(skip_serializing_if = "is_zero")]
    pub excluded: usize,
    /// Another request was just sent to them.
    #[serde(skip_serializing_if = "is_zero")]
    pub leased: usize,
    /// Their instance is no port, so they have no URL.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_routable: usize,
    /// Of those not live: not heard since the queen started.
    #[serde(skip)]
    pub not_heard_yet: usize,
    /// Of those busy: GPU utilisation unknown.
    #[serde(skip)]
    pub utilisation_unknown: usize,
    /// Of those without capacity, the most that one has free, in thousandths of a MiB.
    #[serde(skip)]
    pub most_free_vram: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Considered {
    /// Whether a candidate does not satisfy a filter; it is then counted.
    pub(super) fn rejects(&mut self, candidate: &Candidate, filter: &Filter<'_>) -> bool {
        let Candidate { live_from_ms, live_until_ms, idle, leases, .. } = *candidate;
        let free = candidate.rank.free_vram.0;
        let reason = if !(live_from_ms..=live_until_ms).contains(&filter.now_ms) {
            self.not_heard_yet += usize::from(live_until_ms == i64::MIN);
            &mut self.not_live
        } else if !filter.exclude.is_empty() && filter.exclude.contains(&candidate.key) {
            &mut self.excluded
        } else if !candidate.routable {
            &mut self.not_routable
        } else if filter.idle_only && idle != Some(true) {
            self.utilisation_unknown += usize::from(idle.is_none());
            &mut self.busy
        } else if leases >= (if filter.idle_only { 1 } else { MAX_LEASES_PER_WORKER }) {
            &mut self.leased
        } else if filter.required_vram.is_some_and(|required| free <= required) {
            self.most_free_vram = self.most_free_vram.max(free);
            &mut self.no_capacity
        } else {
            return false;
        };
        *reason += 1;
        true
    }
}

/// A request that no worker can take now.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct NoWorker {
    /// What became of each worker.
    pub considered: Considered,
    /// Why, for a person.
    pub detail: String,
}

impl NoWorker {
    /// Says why.
    pub(crate) fn new(wanted: &Wanted<'_>, considered: Considered) -> Self {
        let detail = Sentence { wanted, considered: &considered }.to_string();
        Self { considered, detail }
    }

    /// No more leases are given.
    pub(crate) fn too_many_leases(considered: Considered, max: usize) -> Self {
        let detail = format!(
            "{max} leases are held, and no more are given; \
             release them when a request is done, or ask for shorter ones"
        );
        Self { considered, detail }
    }
}

struct Sentence<'a> {
    wanted: &'a Wanted<'a>,
    considered: &'a Considered,
}

impl Display for Sentence<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self { wanted, considered } = self;
        let Wanted { model, group, idle_only, .. } = wanted;
        write!(f, "no worker can take a request for model {model:?} now")?;
        let of_group = group.map_or(String::new(), |group| format!(" of group {group}"));
        if considered.workers == 0 {
            return write!(f, ": no worker{of_group} is known yet");
        }
        write!(f, ": of {}{of_group}, ", Counted(considered.workers, "worker"))?;
        let mut reasons = Vec::new();
        let mut reason = |count: usize, text: &dyn Fn() -> String| {
            if count > 0 {
                reasons.push(format!("{count} {}", text()));
            }
        };
        let do_or_does =
            |count, many: &str, one: &str| (if count == 1 { one } else { many }).into();
        reason(considered.without_model, &|| {
            do_or_does(considered.without_model, "do not serve it", "does not serve it")
        });
        reason(considered.not_live, &|| match considered.not_heard_yet {
            0 => "on hives that were not heard lately".into(),
            n => format!("on hives not heard lately ({n} not since the queen started)"),
        });
        reason(considered.excluded, &|| "excluded by the request".into());
        reason(considered.not_routable, &|| {
            "not routable (the instance is no port, so there is no URL)".into()
        });
        reason(considered.busy, &|| match considered.utilisation_unknown {
            0 => "busy".into(),
            n => format!("not known to be idle ({n} without a GPU utilisation)"),
        });
        reason(considered.leased, &|| {
            if *idle_only {
                "leased to another request".into()
            } else {
                format!("leased to {MAX_LEASES_PER_WORKER} requests, the most there may be")
            }
        });
        reason(considered.no_capacity, &|| self.no_capacity());
        f.write_str(&reasons.join(", "))
    }
}

impl Sentence<'_> {
    fn no_capacity(&self) -> String {
        let required = self.wanted.required_vram.map_or(0.0, Mebibytes::get);
        let most = self.considered.most_free_vram as f64 / 1000.0;
        format!("without {required} MiB of free VRAM (the most free is {most} MiB)")
    }
}

/// `1 worker`, `2 workers`.
struct Counted(usize, &'static str);

impl Display for Counted {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let Self(count, noun) = self;
        write!(f, "{count} {noun}{}", if *count == 1 { "" } else { "s" })
    }
}
