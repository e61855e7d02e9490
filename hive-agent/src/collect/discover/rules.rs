//! How workers outside the slice are named, and which of them are left alone.

use hive_contract::ids::MAX_NAME_LEN;
use hive_contract::{Group, Instance};
use serde::{Deserialize, Deserializer};

use super::home::Home;
use crate::collect::server::{self, Kind, Server};

/// The group of processes that use a GPU and are no known server.
const GPU_GROUP: &str = "gpu";

/// Whether and how workers outside the slice are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// They are looked for.
    pub is_on: bool,
    /// How they are named; the first rule that fits counts.
    pub rules: Vec<Rule>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { is_on: true, rules: Vec::new() }
    }
}

/// One rule. A condition that is absent holds for every worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Condition: the kind of the server.
    pub server: Option<KnownServer>,
    /// Condition: the file or Python module that it runs, which makes a worker also of a
    /// server of an unknown kind.
    pub program: Option<String>,
    /// Condition: its port.
    pub port: Option<u16>,
    /// The worker's group, instead of the server's kind.
    pub group: Option<Group>,
    /// The worker's instance, instead of its port.
    pub instance: Option<Instance>,
    /// It is no worker.
    pub ignore: bool,
}

/// The name of a kind of server that is known.
#[derive(Debug, Clone, Copy)]
pub struct KnownServer(&'static Kind);

impl PartialEq for KnownServer {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for KnownServer {}

impl<'de> Deserialize<'de> for KnownServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        server::kind_named(&name).map(Self).ok_or_else(|| {
            let known = server::kind_names().collect::<Vec<_>>().join(", ");
            serde::de::Error::custom(format!("{name:?} is not a known server; known are {known}"))
        })
    }
}

impl Rule {
    /// Whether it says something about this process.
    pub(super) fn fits(&self, server: &Server, cmdline: &[u8]) -> bool {
        let is_server = self
            .server
            .is_none_or(|KnownServer(kind)| server.kind.is_some_and(|its| its.name == kind.name));
        let is_program = self
            .program
            .as_ref()
            .is_none_or(|program| server::recognise_named(cmdline, program).is_some());
        let is_port = self.port.is_none_or(|port| server.port_or_default() == Some(port));
        is_server && is_program && is_port
    }
}

/// The name of a worker. One that cannot be reached at its port from this machine's address
/// does not get the bare port for a name.
pub(super) fn name(
    server: &Server,
    rule: Option<&Rule>,
    home: &Home,
    pid: u32,
) -> (Group, Instance) {
    let group = rule.and_then(|rule| {
        let program =
            || Group::new(rule.program.as_deref()?).ok().filter(|_| server.kind.is_none());
        rule.group.clone().or_else(program)
    });
    let group = group.unwrap_or_else(|| {
        let name = server.kind.map_or(GPU_GROUP, |kind| kind.name);
        Group::new(name).expect("the kinds have valid names")
    });
    let instance = rule.and_then(|rule| rule.instance.clone());
    (group, instance.unwrap_or_else(|| by_port(server, home, pid)))
}

fn by_port(server: &Server, home: &Home, pid: u32) -> Instance {
    let Some(port) = server.port_or_default() else { return valid(format!("pid-{pid}")) };
    let is_internal = server.kind.is_some_and(|kind| kind.is_internal);
    match &home.container {
        _ if is_internal => valid(format!("runner-{port}")),
        _ if home.is_on_host_network => valid(port.to_string()),
        Some(container) => valid(format!("{port}@{container}")),
        None => valid(format!("{port}@pid-{pid}")),
    }
}

/// The same name for another worker.
pub(super) fn with_pid(instance: &Instance, pid: u32) -> Instance {
    let suffix = format!("@pid-{pid}");
    let kept = instance.as_str().len().min(MAX_NAME_LEN - suffix.len());
    valid(format!("{}{suffix}", &instance.as_str()[..kept]))
}

fn valid(name: String) -> Instance {
    Instance::new(name).expect("ports, ids and PIDs are made of allowed characters")
}
