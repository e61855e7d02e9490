//! Files that vanish, tear anywhere, or grow, on a machine made of files: what of it is not known
//! is null and said, and nothing else is touched.

use super::*;

/// The files of one worker that is measured at its cgroup, and of one that is measured by its
/// process.
const FILES: &[(&str, &str)] = &[
    ("cgroup/rbee.slice/llm/hurt/cgroup.procs", "12\n13\n"),
    ("cgroup/rbee.slice/llm/hurt/cpu.stat", "usage_usec 1234567\nuser_usec 1000000\n"),
    ("cgroup/rbee.slice/llm/hurt/memory.stat", "anon 31457280\nfile 77\nfile_mapped 1048576\n"),
    (
        "cgroup/rbee.slice/llm/hurt/io.stat",
        "8:16 rbytes=123456 wbytes=234567 rios=3 wios=4 dbytes=0 dios=0\n253:0 \n",
    ),
    ("proc/12/stat", "12 (a) b) S 1 1 1 0 -1 0 0 0 0 0 5 0 0 0 20 0 1 0 99900 1000 20\n"),
    ("cgroup/rbee.slice/llm/hurt-bare/cgroup.procs", "14\n"),
    ("proc/14/stat", "14 (a) b) S 1 1 1 0 -1 0 0 0 0 0 5 0 0 0 20 0 1 0 99900 1000 20\n"),
    ("proc/14/statm", "1000 250 80 4 0 90 0\n"),
    ("proc/14/io", "rchar: 9\nwchar: 8\nread_bytes: 4096\nwrite_bytes: 8192\n"),
];
const NODE: &[(&str, &str)] = &[
    ("proc/stat", "cpu  100 0 0 900 0 0 0 0 0 0\ncpu0 1\ncpu1 1\n"),
    ("proc/meminfo", "MemTotal: 4096 kB\nMemAvailable: 1024 kB\n"),
    ("proc/loadavg", "0.50 0.40 0.30 1/100 7\n"),
];

fn machine() -> Machine {
    let machine = Machine::new();
    for pid in [10, 13] {
        machine.process(pid, 1, 5, "server -m /m/a.gguf");
    }
    for (path, text) in FILES.iter().chain(NODE) {
        machine.write(path, text);
    }
    for pid in [12, 14] {
        machine.write(&format!("proc/{pid}/cmdline"), "server\0-m\0/m/a.gguf\0");
    }
    machine.worker("llm/whole", "cgroup.procs", "10\n");
    machine.worker("llm/whole", "cpu.stat", "usage_usec 1000\n");
    machine.worker("llm/whole", "memory.stat", "anon 1048576\nfile_mapped 0\n");
    machine.worker("llm/whole", "io.stat", "8:0 rbytes=1 wbytes=1\n");
    machine
}

/// The figures of a worker, without the one that grows by itself.
fn figures(
    heartbeat: &Heartbeat,
    instance: &str,
) -> Option<serde_json::Map<String, serde_json::Value>> {
    let worker = heartbeat.workers.iter().find(|worker| worker.instance.as_str() == instance)?;
    let serde_json::Value::Object(mut figures) = serde_json::to_value(worker).unwrap() else {
        panic!("{worker:?}");
    };
    figures.remove("uptime_s");
    Some(figures)
}

fn node(heartbeat: &Heartbeat) -> serde_json::Value {
    let mut node = serde_json::to_value(heartbeat.node.as_ref().unwrap()).unwrap();
    node["uptime_s"].take();
    node
}

/// Of a worker whose file is hurt, every figure is what it was or null; with a null, or without
/// the worker, there is a sentence about it.
fn only_hurts_itself(heartbeat: &Heartbeat, before: &Heartbeat, what: &str) {
    for instance in ["hurt", "hurt-bare"] {
        let whole = figures(before, instance).unwrap();
        let left = figures(heartbeat, instance);
        for (name, value) in &whole {
            let found = left.as_ref().and_then(|left| left.get(name));
            let is_missing = found.is_none_or(serde_json::Value::is_null) && !value.is_null();
            assert!(is_missing || found == Some(value), "{what}: {name} is {found:?}");
            let is_said = errors(heartbeat).iter().any(|error| error.contains(instance));
            assert!(!is_missing || is_said, "{what}: {name} is null, and nobody says so");
        }
    }
    assert_eq!(figures(heartbeat, "whole"), figures(before, "whole"), "{what}");
}

#[test]
fn a_file_of_a_worker_that_is_torn_anywhere_costs_its_own_figure() {
    let machine = machine();
    let mut collector = machine.collector();
    machine.collect_after(&mut collector, 1);
    let before = machine.collect_after(&mut collector, 1);
    assert!(sentences(&before).is_empty(), "{:?}", sentences(&before));
    for (path, text) in FILES {
        // An empty list of processes is a whole one.
        let first = usize::from(path.ends_with("cgroup.procs"));
        for end in first..text.len() {
            machine.write(path, &text[..end]);
            let torn = machine.collect_after(&mut collector, 1);
            only_hurts_itself(&torn, &before, &format!("{path} cut at {end}"));
            assert_eq!(node(&torn), node(&before), "{path} cut at {end}");
            machine.write(path, text);
            // The rates need two readings again.
            machine.collect_after(&mut collector, 1);
            let after = machine.collect_after(&mut collector, 1);
            for instance in ["hurt", "hurt-bare", "whole"] {
                assert_eq!(
                    figures(&after, instance),
                    figures(&before, instance),
                    "{path} at {end}"
                );
            }
        }
    }
}

#[test]
fn a_file_of_the_machine_that_is_torn_anywhere_costs_its_own_figure() {
    let machine = machine();
    let mut collector = machine.collector();
    machine.collect_after(&mut collector, 1);
    let before = machine.collect_after(&mut collector, 1);
    for (path, text) in NODE {
        for end in 0..text.len() {
            machine.write(path, &text[..end]);
            let torn = machine.collect_after(&mut collector, 1);
            only_hurts_itself(&torn, &before, &format!("{path} cut at {end}"));
            machine.write(path, text);
            let after = machine.collect_after(&mut collector, 1);
            let (whole, left) = (node(&before), node(&torn));
            for (name, value) in whole.as_object().unwrap() {
                let found = &left[name];
                // How many processors there are cannot be told from a part of the list.
                let is_said = errors(&torn).iter().any(|error| error.contains(path));
                assert!(found == value || is_said || name == "cpu_count", "{path} cut at {end}");
                assert!(found == value || found.is_null() || name == "cpu_count", "{name} {found}");
            }
            assert_eq!(node(&after)["memory_total_mb"], whole["memory_total_mb"]);
        }
    }
}

#[test]
fn a_file_that_vanishes_costs_its_own_figure() {
    let before = {
        let machine = machine();
        let mut collector = machine.collector();
        machine.collect_after(&mut collector, 1);
        machine.collect_after(&mut collector, 1)
    };
    for (path, _) in FILES.iter().chain(NODE) {
        let machine = machine();
        machine.remove(path);
        let mut collector = machine.collector();
        machine.collect_after(&mut collector, 1);
        let heartbeat = machine.collect_after(&mut collector, 1);
        assert_eq!(figures(&heartbeat, "whole"), figures(&before, "whole"), "{path}");
        for instance in ["hurt", "hurt-bare"] {
            let Some(left) = figures(&heartbeat, instance) else { continue };
            for (name, value) in figures(&before, instance).unwrap() {
                let is_summed_up = name == "cpu_pct" || name == "rss_mb" || name == "pid";
                let found = left.get(&name);
                let is_missing = found.is_none_or(serde_json::Value::is_null);
                assert!(is_missing || is_summed_up || found == Some(&value), "{path}: {name}");
            }
        }
    }
}

#[test]
fn files_that_grew_since_are_read_as_before() {
    let machine = machine();
    let mut collector = machine.collector();
    machine.collect_after(&mut collector, 1);
    let before = machine.collect_after(&mut collector, 1);
    for (path, text) in FILES.iter().chain(NODE).filter(|(path, _)| !path.ends_with("procs")) {
        let line = text.strip_suffix('\n').unwrap();
        let grown = match path.rsplit('/').next().unwrap() {
            "stat" if path.contains("/1") => format!("{line} 1 2 3\n"),
            "statm" | "loadavg" => format!("{line} 1 2 3\n"),
            "stat" => format!("{text}brand_new 1 2 3\n"),
            _ => format!("brand_new 1 2 3\nanonymous 4\n: \n{text}brand_newer 5\n"),
        };
        machine.write(path, grown);
    }
    machine.collect_after(&mut collector, 1);
    let after = machine.collect_after(&mut collector, 1);
    assert!(sentences(&after).is_empty(), "{:?}", sentences(&after));
    for instance in ["hurt", "hurt-bare", "whole"] {
        assert_eq!(figures(&after, instance), figures(&before, instance));
    }
    assert_eq!(node(&after), node(&before));
}

#[test]
fn a_process_that_started_in_the_future_has_no_age_yet() {
    let machine = Machine::new();
    machine.process_since(10, 1, 0, u64::MAX / 2, "server -m a.gguf");
    machine.worker("llm/8080", "cgroup.procs", "10\n");
    assert_eq!(machine.collector().collect(0).workers[0].uptime_s.unwrap().get(), 0.0);
}
