//! The fault suite: what goes wrong, and what then happens. Real programs, real files, real
//! signals; the disk and the clock are made bad by a library before the C library (`bad_disk.c`) or
//! by a small file system, as root.
//!
//! | fault | tests |
//! | --- | --- |
//! | queen killed | [`crate::crash`] `queen_killed_…` and while she seals, [`crate::restart`]; `benches/restart.sh` on gigabytes |
//! | queen down | [`outage`] `queen_down_…`, [`herd`]; hive-agent's `delivery/tests.rs` `twenty_agents_…`; `benches/herd.sh`: an hour, a thousand agents |
//! | agent killed | [`outage`] `agent_killed_…`; hive-agent's `tests/outage`, and `spool/segments/tests.rs` `damage_costs_only_what_it_hits` |
//! | disk full | [`disk`] `disk_full_…`; the agent's: hive-agent's `tests/outage` `a_full_disk_…`, `a_disk_that_becomes_full_…` |
//! | disk read-only | [`errors`] `disk_read_only_…`; the agent's: hive-agent's `tests/outage` `a_read_only_disk_…` |
//! | disk with errors, or that loses what it could not sync | [`errors`] `disk_errors_…`, `disk_that_…` |
//! | disk slow | [`pressure`] `disk_slow_…` |
//! | database corrupt, foreign, newer | [`file`] `database_…` |
//! | second queen | [`file`] `second_queen_…` |
//! | disk floor | [`disk`] `disk_floor_…` |
//! | worker dies during collection, cgroup vanishes | hive-agent's `collect/tests.rs` `one_broken_worker_…`, `what_has_no_living_process_…`, `collect/tests/real.rs` |
//! | GPU lost | hive-agent's `tests/gpu.rs` `gpus_that_get_lost_…` |
//! | NVML hangs | hive-agent's `tests/gpu.rs` `a_hanging_driver_never_delays_a_heartbeat` |
//! | clock of a hive ahead or behind | [`crate::moments`], [`crate::late`] |
//! | clock of the queen steps | [`clock`] `clock_…`; hive-agent's `delivery/tests.rs` `nothing_is_dropped_while_the_queens_clock_is_behind` |
//! | queen stopped for a while | [`crate::events`] `a_pause_of_the_queen_…`, [`pressure`] `a_pause_…`; for a minute: `benches/soak.sh` |
//! | overload | [`pressure`] `a_full_queue_…` |
//! | hostile input | [`crate::hostile`], [`crate::fields`], [`crate::bodies`], [`crate::bulk`] |
//! | slow or dead SSE client | [`crate::stream`] `a_reader_that_is_too_slow_…`, `a_slow_reader_…`, [`crate::shutdown`] `a_reader_that_does_not_read_is_cut` |
//! | large answers that nobody takes | `src/api/answers.rs` |
//! | too many hives, workers, streams | [`crate::problems`], [`crate::fields`], [`crate::stream`] `beyond_the_last_place_…` |
//! | new names all the time | [`growth`] |
//! | days of it | `benches/soak.sh` |
//!
//! `QUEEN_TEST_ROUNDS=100` kills the queen (`queen_killed`) and the agent (`agent_killed`) so often.

mod bad_disk;
mod clock;
mod disk;
mod errors;
mod file;
mod growth;
mod herd;
mod outage;
mod pressure;
