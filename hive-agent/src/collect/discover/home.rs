//! Where a process lives: its cgroup, its container, its network.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::collect::file::Buffer;
use crate::collect::text::lines;

/// The longest `/proc/PID/cgroup`, in bytes.
const MAX_LEN: usize = 64 << 10;
/// The characters of a container's id.
const ID_LEN: usize = 64;
/// The characters of a container's id that people use.
const SHORT_ID_LEN: usize = 12;

/// What surrounds one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::collect) struct Home {
    /// Its cgroup of version 2, below the mount point.
    pub(in crate::collect) cgroup: Option<PathBuf>,
    /// The short id of its container.
    pub(in crate::collect) container: Option<String>,
    /// Its ports are those of this machine.
    pub(in crate::collect) is_on_host_network: bool,
}

impl Home {
    pub(in crate::collect) fn of(
        proc_root: &Path,
        pid: u32,
        buffer: &mut Buffer,
    ) -> io::Result<Self> {
        let dir = proc_root.join(pid.to_string());
        let mut home = Self::parse(buffer.read_once(&dir.join("cgroup"), MAX_LEN)?);
        let network = |dir: &Path| fs::read_link(dir.join("ns/net")).ok();
        let own = network(&proc_root.join("self"));
        home.is_on_host_network = match own.zip(network(&dir)) {
            Some((own, its)) => own == its,
            // Not shown to this user: a container nearly always has a network of its own.
            None => home.container.is_none(),
        };
        Ok(home)
    }

    /// What `/proc/PID/cgroup` says.
    pub(in crate::collect) fn parse(text: &[u8]) -> Self {
        let v2 = lines(text).find_map(|line| line.strip_prefix(b"0::/"));
        let container = lines(text).find_map(|line| {
            line.split(|byte| b"/-.:".contains(byte)).find(|part| is_container_id(part))
        });
        Self {
            cgroup: v2
                .map(|path| Path::new(OsStr::from_bytes(path)))
                .filter(|path| {
                    // What lies outside the collector's own view of the tree begins with `..`.
                    let is_below =
                        path.components().all(|part| matches!(part, Component::Normal(_)));
                    is_below && !path.as_os_str().as_bytes().ends_with(b" (deleted)")
                })
                .map(Path::to_owned),
            container: container
                .map(|id| String::from_utf8_lossy(&id[..SHORT_ID_LEN]).into_owned()),
            is_on_host_network: false,
        }
    }

    /// The cgroup of the service or container that the process runs in, if it is in one whose
    /// name says so.
    pub(in crate::collect) fn unit(&self) -> Option<&Path> {
        self.cgroup.as_ref()?.ancestors().find(|path| path.file_name().is_some_and(is_unit))
    }
}

fn is_container_id(text: &[u8]) -> bool {
    text.len() == ID_LEN && text.iter().all(u8::is_ascii_hexdigit)
}

/// Whether a cgroup's name is that of a service or a container. A session of a user is
/// neither: whatever the user starts is in it.
fn is_unit(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let stem = |suffix: &str| name.strip_suffix(suffix.as_bytes());
    if is_container_id(name) {
        return true;
    }
    if let Some(service) = stem(".service") {
        return !service.starts_with(b"user@");
    }
    stem(".scope").is_some_and(|scope| {
        let id = scope.rsplit(|&byte| byte == b'-').next().unwrap_or_default();
        is_container_id(id) || scope.starts_with(b"run-")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn services_and_containers_are_found_at_any_depth() {
        let id = "0123456789ab".repeat(5) + "cdef";
        for (path, unit, container) in [
            ("/system.slice/ollama.service".into(), "system.slice/ollama.service".into(), false),
            (
                format!("/system.slice/docker-{id}.scope/init/x"),
                format!("system.slice/docker-{id}.scope"),
                true,
            ),
            (format!("/docker/{id}"), format!("docker/{id}"), true),
            (
                format!("/a.slice/libpod-{id}.scope/container"),
                format!("a.slice/libpod-{id}.scope"),
                true,
            ),
            (
                format!("/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-{id}.scope"),
                format!("kubepods.slice/kubepods-pod1_2.slice/cri-containerd-{id}.scope"),
                true,
            ),
            (
                "/user.slice/user@1.service/app.slice/a b (x).service".into(),
                "user.slice/user@1.service/app.slice/a b (x).service".into(),
                false,
            ),
            ("/user.slice/user-1.slice/session-3.scope".into(), String::new(), false),
            ("/user.slice/user@1.service/vte-spawn-1.scope".into(), String::new(), false),
            ("/".into(), String::new(), false),
            ("/../../other.service".into(), String::new(), false),
            ("/a.service (deleted)".into(), String::new(), false),
        ] {
            let (path, unit): (String, String) = (path, unit);
            let home = Home::parse(format!("1:name=systemd:/x\n0::{path}\n").as_bytes());
            let found = home.unit().unwrap_or(Path::new(""));
            assert_eq!(found, Path::new(&unit), "{path}");
            assert_eq!(home.container.as_deref(), container.then_some("0123456789ab"), "{path}");
        }
        let v1 = format!("4:memory:/docker/{id}\n1:name=systemd:/docker/{id}\n");
        let home = Home::parse(v1.as_bytes());
        assert_eq!((home.cgroup, home.container.as_deref()), (None, Some("0123456789ab")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = Home::parse(&bytes).unit();
            let _ = Home::parse(&[b"0::/".as_slice(), &bytes].concat()).unit();
        }
    }
}
