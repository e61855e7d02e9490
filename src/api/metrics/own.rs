//! What the queen says about herself.

use super::exposition::{Exposition, Kind, labels};
use crate::counters::{Counters, Distribution};
use crate::feed::Feed;
use crate::history::{Files, Storage, Writer};
use crate::registry::{HiveRegistry, State};
use Kind::{Counter, Gauge, Histogram};

/// Where it stands.
pub(super) struct Own<'a> {
    pub(super) counters: &'a Counters,
    pub(super) writer: &'a Writer,
    pub(super) feed: &'a Feed,
    pub(super) files: &'a Files,
}

impl Own<'_> {
    pub(super) fn write(&self, registry: &HiveRegistry, out: &mut Exposition) {
        out.family("queen_build_info", Gauge, "What this is; always 1.");
        out.sample("queen_build_info", &labels(&[("version", env!("CARGO_PKG_VERSION"))]), 1);
        self.write_ingest(out);
        self.write_storage(out);
        let streams = self.feed.streams();
        out.single("queen_streams", Gauge, "Clients on the live feed.", streams);
        out.single(
            "queen_streams_lagged_total",
            Counter,
            "How often a client was too slow for the live feed, and read on from the history.",
            self.feed.lagged(),
        );
        let hives = registry.hives();
        out.family("queen_hives", Gauge, "Hives that are known, by how recent they are.");
        for (state, name) in
            [(State::Live, "live"), (State::Stale, "stale"), (State::Offline, "offline")]
        {
            let count = hives.iter().filter(|hive| registry.state(hive) == state).count();
            out.sample("queen_hives", &labels(&[("state", name)]), count);
        }
    }

    fn write_ingest(&self, out: &mut Exposition) {
        let counters = self.counters;
        out.single(
            "queen_heartbeats_stored_total",
            Counter,
            "Heartbeats that were stored and acknowledged.",
            counters.stored(),
        );
        out.single(
            "queen_heartbeats_duplicate_total",
            Counter,
            "Heartbeats that were there before and were acknowledged again.",
            counters.duplicates(),
        );
        let rejected = "queen_heartbeat_requests_rejected_total";
        out.family(rejected, Counter, "Requests with heartbeats that were refused, by reason.");
        for (reason, count) in counters.rejections() {
            out.sample(rejected, &labels(&[("reason", reason)]), count);
        }
        let ack = "queen_acknowledgement_duration_seconds";
        let help = "Time from a request's heartbeats being read to their acknowledgement.";
        out.family(ack, Histogram, help);
        let Distribution { buckets, count, sum } = counters.acknowledgements();
        let bucket = format!("{ack}_bucket");
        for (bound, count) in buckets {
            let bound = bound.as_secs_f64().to_string();
            out.sample(&bucket, &labels(&[("le", &bound)]), count);
        }
        out.sample(&bucket, &labels(&[("le", "+Inf")]), count);
        out.sample(&format!("{ack}_sum"), "", sum.as_secs_f64());
        out.sample(&format!("{ack}_count"), "", count);
        out.single(
            "queen_write_queue_bytes",
            Gauge,
            "Heartbeats that wait for the disk, as they came in.",
            self.writer.waiting_bytes(),
        );
    }

    fn write_storage(&self, out: &mut Exposition) {
        let counters = self.counters;
        let ready = u8::from(self.writer.storage() == Storage::Ready);
        out.single("queen_storage_ready", Gauge, "Whether the last commit succeeded.", ready);
        out.single(
            "queen_commits_total",
            Counter,
            "Transactions that stored heartbeats.",
            counters.commits(),
        );
        out.single(
            "queen_commits_failed_total",
            Counter,
            "Transactions with heartbeats that the disk refused.",
            counters.failed_commits(),
        );
        out.single(
            "queen_blocks_sealed_total",
            Counter,
            "Blocks of readings that were sealed since the database was made.",
            counters.sealed_blocks(),
        );
        out.single(
            "queen_live_samples",
            Gauge,
            "Worker-samples that wait to be sealed.",
            counters.waiting_samples(),
        );
        let sizes = self.files.sizes();
        for (name, help, bytes) in [
            ("queen_database_size_bytes", "Size of the database file.", sizes.database),
            ("queen_wal_size_bytes", "Size of the write-ahead log.", Some(sizes.log)),
            ("queen_disk_free_bytes", "What is free of the database's disk.", sizes.free),
        ] {
            if let Some(bytes) = bytes {
                out.single(name, Gauge, help, bytes);
            }
        }
    }
}
