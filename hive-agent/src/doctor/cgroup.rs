//! The cgroup tree: its version, its root, and which controllers count.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::collect::Roots;
use crate::collect::cgroup::{SLICE, find_root};

const SUBJECT: &str = "cgroup";

/// A controller, and what is done without it.
const CONTROLLERS: [(&str, &str); 3] = [
    ("cpu", "limits of processor time cannot be set"),
    (
        "memory",
        "rss_mb is the sum over a worker's processes, in which shared memory counts for each",
    ),
    ("io", "io_r_mb_s and io_w_mb_s are the sums over a worker's processes"),
];

pub(super) fn examine(roots: &Roots) -> Vec<Finding> {
    let root = match &roots.cgroup {
        Some(root) => root.clone(),
        None => match find_root(&roots.proc) {
            Ok(root) => root,
            Err(error) => {
                let advice = "mount one: mount -t cgroup2 none /sys/fs/cgroup; until then only \
                              servers outside the slice are found, by their command lines";
                return vec![Finding::problem(SUBJECT, error.to_string(), advice)];
            }
        },
    };
    if !root.join("cgroup.procs").exists() {
        let seen = format!("{} is not in a cgroup v2 tree: it has no cgroup.procs", root.display());
        let advice = "leave --cgroup-root out, or name the directory that contains rbee.slice";
        return vec![Finding::problem(SUBJECT, seen, advice)];
    }
    let has_v1 = fs::read_to_string(roots.proc.join("mounts"))
        .is_ok_and(|mounts| mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup")));
    let beside = if has_v1 { ", beside version 1" } else { "" };
    let slice = root.join(SLICE);
    let groups = match slice.is_dir() {
        true => format!("{} is there", slice.display()),
        false => format!("{} will be made with the first worker in it", slice.display()),
    };
    let seen = format!("version 2 at {}{beside}; {groups}", root.display());
    let mut findings = vec![Finding::fine(SUBJECT, seen)];
    findings.extend(controllers(&root, &slice, has_v1));
    findings
}

fn controllers(root: &Path, slice: &Path, has_v1: bool) -> Vec<Finding> {
    let list = |file: &Path| fs::read_to_string(file).unwrap_or_default();
    let offered = list(&root.join("cgroup.controllers"));
    // What the groups below may use; before there is a slice, what it could be given.
    let used = match slice.is_dir() {
        true => list(&slice.join("cgroup.controllers")),
        false => offered.clone(),
    };
    let has = |list: &str, name: &str| list.split_whitespace().any(|listed| listed == name);
    let missing = |&(name, without): &(&str, &str)| {
        if has(&used, name) {
            return None;
        }
        let advice = if has(&offered, name) {
            format!("enable it: echo +{name} > {}/cgroup.subtree_control", root.display())
        } else if has_v1 {
            "boot with systemd.unified_cgroup_hierarchy=1: version 1 has taken it".to_owned()
        } else {
            format!(
                "enable it in cgroup.subtree_control of every directory above {}",
                root.display()
            )
        };
        Some(Finding::note(SUBJECT, format!("no {name} controller: {without}"), advice))
    };
    let mut findings: Vec<Finding> = CONTROLLERS.iter().filter_map(missing).collect();
    if findings.is_empty() {
        findings.push(Finding::fine(SUBJECT, "the controllers cpu, memory and io count"));
    }
    findings
}
