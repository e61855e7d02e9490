//! What this user may read, and how many files it may hold open.

use std::fs::{self, File};
use std::io;

use rustix::process::{Resource, geteuid, getrlimit};

use super::Finding;
use crate::collect::Roots;
use crate::collect::cgroup::find_root;

const SUBJECT: &str = "permissions";
/// Enough for some 100 workers of a few processes.
const ENOUGH_FILES: u64 = 8192;
/// Capabilities by their numbers, and what is not known without them.
const CAPABILITIES: [(u32, &str, &str); 2] = [
    (
        19,
        "CAP_SYS_PTRACE",
        "of other users' processes, the storage traffic and what their servers take from the \
         environment is not known",
    ),
    (
        21,
        "CAP_SYS_ADMIN",
        "servers in containers with a network of their own cannot be asked for their queues",
    ),
];

pub(super) fn examine(roots: &Roots) -> Vec<Finding> {
    let mut findings = Vec::new();
    let user = geteuid().as_raw();
    let status = fs::read_to_string(roots.proc.join("self/status")).unwrap_or_default();
    let capabilities = capabilities(&status).unwrap_or(0);
    for (bit, name, without) in CAPABILITIES {
        if capabilities & (1 << bit) == 0 {
            findings.push(Finding::note(
                SUBJECT,
                format!("user {user} without {name}: {without}"),
                format!("run as root, or give the service {name} (AmbientCapabilities=)"),
            ));
        }
    }
    if findings.is_empty() {
        let seen = format!("user {user} may read the processes of all users and enter containers");
        findings.push(Finding::fine(SUBJECT, seen));
    }
    if let Some(option) =
        hidepid(&fs::read_to_string(roots.proc.join("mounts")).unwrap_or_default())
    {
        findings.push(Finding::note(
            SUBJECT,
            format!("/proc is mounted with {option}: a user sees its own processes only"),
            "run as root, or in the group that the mount option gid= names",
        ));
    }
    let root = roots.cgroup.clone().or_else(|| find_root(&roots.proc).ok());
    if let Some(procs) = root.map(|root| root.join("cgroup.procs"))
        && let Err(error) = File::options().write(true).open(&procs)
        && error.kind() != io::ErrorKind::NotFound
    {
        findings.push(Finding::note(
            SUBJECT,
            format!(
                "{} cannot be written ({error}): `hive-agent spawn` cannot work",
                procs.display()
            ),
            "run spawn as root, or inside a systemd service with Delegate=yes and User= your user",
        ));
    }
    let files = getrlimit(Resource::Nofile).maximum;
    if files.is_some_and(|files| files < ENOUGH_FILES) {
        findings.push(Finding::note(
            SUBJECT,
            format!("at most {} files can be open, a few for every process", files.unwrap_or(0)),
            format!("set LimitNOFILE={ENOUGH_FILES} in the service, or ulimit -n {ENOUGH_FILES}"),
        ));
    }
    findings
}

/// The capabilities in effect, from `/proc/self/status`.
fn capabilities(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

/// The option of `/proc` that hides processes, if it is set.
fn hidepid(mounts: &str) -> Option<&str> {
    let options = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        (fields.next() == Some("/proc")).then(|| fields.nth(1)).flatten()
    })?;
    let hides = |option: &&str| {
        option.strip_prefix("hidepid=").is_some_and(|mode| !matches!(mode, "0" | "off"))
    };
    options.split(',').find(hides)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn capabilities_are_read() {
        let status = "Name:\ta b\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n";
        assert_eq!(capabilities(status), Some(0x1ff_ffff_ffff));
        assert_eq!(capabilities("CapEff:\tx\n"), None);
        assert_eq!(capabilities(""), None);
    }

    #[test]
    fn a_proc_that_hides_is_noticed() {
        let mounts = |options: &str| format!("none / ext4 rw 0 0\nproc /proc proc {options} 0 0\n");
        assert_eq!(hidepid(&mounts("rw,hidepid=2,gid=7")), Some("hidepid=2"));
        assert_eq!(hidepid(&mounts("rw,hidepid=invisible")), Some("hidepid=invisible"));
        for open in ["rw", "rw,hidepid=0", "rw,hidepid=off", ""] {
            assert_eq!(hidepid(&mounts(open)), None, "{open}");
        }
        assert_eq!(hidepid(""), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC*", words in "(CapEff:|/proc| |\t|\n|,|hidepid=|[0-9a-f]){0,20}") {
            let _ = (capabilities(&text), hidepid(&text));
            let _ = (capabilities(&words), hidepid(&words));
        }
    }
}
