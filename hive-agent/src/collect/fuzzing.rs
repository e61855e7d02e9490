//! What must hold of the readers of kernel files and command lines, whatever is in them. Only
//! the fuzz targets of `fuzz/` are built with this.

use std::path::{Component, Path};
use std::time::Duration;

use super::cgroup::{parse_mounts, parse_pids};
use super::discover::Home;
use super::node::{parse_cpu, parse_load, parse_memory};
use super::process::{parse_io, parse_resident_pages, parse_stat};
use super::server::{self, Model, Server};
use super::storage::Storage;
use super::text::{keyed, lines};
use super::{gpu, inquiry, model};

pub use gpu::fuzzing::clients as gpu_clients;
pub use inquiry::fuzzing::answer as server_answer;

/// Where nothing is.
const NOWHERE: &str = "/nonexistent";

fn holds(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

/// No number is given that does not stand there.
fn holds_number(text: &[u8], number: u64) -> bool {
    holds(text, number.to_string().as_bytes())
}

/// One file of `/proc` or of a cgroup; `kind` says which.
pub fn kernel_file(kind: u8, text: &[u8]) {
    match kind % 10 {
        0 => stat(text),
        1 => assert!(parse_resident_pages(text).is_none_or(|pages| holds_number(text, pages))),
        2 => {
            if let Some((read, written)) = parse_io(text) {
                assert!(holds_number(text, read) && holds_number(text, written));
            }
        }
        3 => {
            for key in ["usage_usec", "anon", "file_mapped", "populated"] {
                assert!(keyed(text, key).is_none_or(|value| holds_number(text, value)));
            }
        }
        4 => io_stat(text),
        5 => assert!(parse_mounts(text).is_none() || holds(text, b"cgroup2")),
        6 => assert!(parse_pids(text).all(|pid| pid != 0 && holds_number(text, pid.into()))),
        7 => assert!(parse_cpu(text).is_none_or(|cpu| cpu.count as usize <= lines(text).count())),
        8 => {
            assert!(
                parse_memory(text).is_none_or(|memory| memory.used_bytes <= memory.total_bytes)
            );
            assert!(parse_load(text).is_none_or(|load| load.get().is_finite()));
        }
        _ => home(text),
    }
}

/// Written plainly, it says the same.
fn stat(text: &[u8]) {
    let Some(stat) = parse_stat(text) else { return };
    let (state, threads) = if stat.is_zombie { ("Z", 1) } else { ("S", 2) };
    let mut plain = b"7 (".to_vec();
    plain.extend_from_slice(&stat.comm);
    plain.extend_from_slice(
        format!(
            ") {state} {} 7 7 0 -1 0 0 0 0 0 {} 0 0 0 20 0 {threads} 0 {} 0\n",
            stat.parent, stat.cpu_ticks, stat.started_ticks
        )
        .as_bytes(),
    );
    assert_eq!(parse_stat(&plain), Some(stat));
}

/// Readings one after the other, between NULs.
fn io_stat(texts: &[u8]) {
    let mut storage = Storage::default();
    for (second, text) in (0..).zip(texts.split(|&byte| byte == 0).take(8)) {
        let (read, written) = storage.per_s(text, Duration::from_secs(second), Path::new(NOWHERE));
        for rate in [read, written].into_iter().flatten() {
            assert!(rate.is_finite() && rate >= 0.0);
        }
    }
}

fn home(text: &[u8]) {
    let home = Home::parse(text);
    if let Some(cgroup) = &home.cgroup {
        assert!(cgroup.components().all(|part| matches!(part, Component::Normal(_))));
        assert!(home.unit().is_none_or(|unit| cgroup.starts_with(unit)));
    }
    let is_short_id = |id: &String| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(home.container.as_ref().is_none_or(is_short_id));
}

/// A command line: its arguments, each of which ends in NUL.
pub fn command_line(cmdline: &[u8]) {
    let nowhere = Path::new(NOWHERE);
    let found = [
        server::recognise(cmdline, nowhere),
        server::recognise_anywhere(cmdline, nowhere),
        server::recognise_named(cmdline, "server"),
    ];
    for server in found.iter().flatten() {
        said(cmdline, server);
    }
    // A query and an authority may be secret.
    const SECRET: &str = "dont-tell";
    if !holds(cmdline, SECRET.as_bytes()) {
        let url = [b"https://me:dont-tell@host/".as_slice(), cmdline, b"?key=dont-tell"].concat();
        let name = model::name(&url);
        assert!(name.is_none_or(|name| !name.as_str().contains(SECRET)));
    }
}

fn said(cmdline: &[u8], server: &Server) {
    let port = server.port.map(u64::from);
    assert!(port.is_none_or(|port| port != 0 && holds_number(cmdline, port)));
    match &server.model {
        Some(Model::OllamaBlob(path)) => {
            assert!(holds(cmdline, path.as_os_str().as_encoded_bytes()));
        }
        // A path of the Hugging Face cache has dashes for the bar of a repository.
        Some(Model::Name(name)) => {
            let name = name.as_str();
            let text = String::from_utf8_lossy(cmdline);
            assert!(text.contains(name) || text.contains(&name.replace('/', "--")), "{name:?}");
        }
        None => {}
    }
}
