//! What the agent is told: by flags, by the environment, by a TOML file, by default, in that
//! order of precedence.
//!
//! Invariant: a [`Config`] holds parsed values only; nothing behind it checks again.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use hive_contract::HiveId;
use hive_contract::ids::MAX_NAME_LEN;
use hive_contract::text::{InvalidText, Text};
use rustix::fs::Access;
use serde::{Deserialize, Deserializer};

use crate::client::QueenUrl;
use crate::collect::discover::{self, Rule};
use crate::collect::own::OwnCost;
use crate::collect::{Roots, Settings};
use crate::spool;

mod values;

pub use values::{Age, ByteSize, Interval, InvalidValue};

const DEFAULT_QUEEN: &str = "http://127.0.0.1:7833";
/// Where a service keeps its files. It is used where it exists, and never made: an agent that is
/// only tried out leaves nothing behind.
const SERVICE_DIR: &str = "/var/lib/hive-agent";

/// Everything the agent is told, parsed.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the heartbeats go.
    pub queen: QueenUrl,
    /// The hive's name, unique in the fleet.
    pub hive_id: HiveId,
    /// The name or address under which the hive's workers are reached.
    pub hostname: Text,
    /// How often a heartbeat is collected.
    pub interval: Interval,
    /// The bounds of what waits while the queen is away.
    pub spool: spool::Limits,
    /// Where it is written down; without it everything waits in memory.
    pub spool_dir: Option<PathBuf>,
    /// Where the kernel's files are.
    pub roots: Roots,
    /// What is measured as the agent's own cost.
    pub own_cost: OwnCost,
    /// Whether and how workers outside the slice are found.
    pub discovery: discover::Settings,
    /// Whether servers are asked how busy they are.
    pub asks_servers: bool,
}

impl Config {
    /// The defaults, for this machine and for a collector that runs inside another program.
    #[must_use]
    pub fn in_process(queen: QueenUrl) -> Self {
        Self { own_cost: OwnCost::Thread, ..Self::with_defaults(queen, &machine_hostname()) }
    }

    fn with_defaults(queen: QueenUrl, machine: &str) -> Self {
        let is_local = queen.host() == "localhost"
            || queen.host().parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        Self {
            hive_id: hive_id_from(machine),
            hostname: Text::cut(if is_local { "127.0.0.1" } else { machine }),
            interval: Interval::default(),
            spool: spool::Limits::default(),
            spool_dir: None,
            roots: Roots::default(),
            own_cost: OwnCost::Process,
            discovery: discover::Settings::default(),
            asks_servers: true,
            queen,
        }
    }

    /// What the collector needs of it.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            hive_id: self.hive_id.clone(),
            hostname: self.hostname.clone(),
            interval: Some(self.interval.get()),
            roots: self.roots.clone(),
            own_cost: self.own_cost,
            discovery: self.discovery.clone(),
            asks_servers: self.asks_servers,
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file says something that is not understood.
    #[error("the configuration file {path} is not valid")]
    Parse {
        /// Its path.
        path: PathBuf,
        /// The reason, with the key.
        source: Box<toml::de::Error>,
    },
}

/// What names the hive and says where to look, on every command that collects.
#[derive(Debug, Clone, Default, Args)]
pub struct HiveOptions {
    /// A TOML file with any of these options as keys: hive_id = "gpu-7"
    #[arg(long, env = "HIVE_AGENT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The queen's address [default: http://127.0.0.1:7833]
    #[arg(long, env = "HIVE_AGENT_QUEEN", value_name = "URL")]
    pub queen: Option<QueenUrl>,
    /// This machine's name in the fleet [default: its hostname]
    #[arg(long, env = "HIVE_AGENT_HIVE_ID", value_name = "NAME")]
    pub hive_id: Option<HiveId>,
    /// The name or address under which the workers are reached [default: the machine's
    /// hostname; 127.0.0.1 if the queen is on this machine]
    #[arg(long, env = "HIVE_AGENT_HOSTNAME", value_name = "HOST", value_parser = hostname)]
    pub hostname: Option<Text>,
    /// The directory that contains rbee.slice [default: where cgroup v2 is mounted]
    #[arg(long, env = "HIVE_AGENT_CGROUP_ROOT", value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
    /// Find workers outside rbee.slice too, by their command lines; worker_rules in the TOML
    /// file name them [default: true]
    #[arg(long, env = "HIVE_AGENT_DISCOVER", value_name = "BOOL", num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub discover: Option<bool>,
    /// Ask the servers on this machine for their queues, where they export them
    /// [default: true]
    #[arg(long, env = "HIVE_AGENT_ASK_SERVERS", value_name = "BOOL", num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    pub ask_servers: Option<bool>,
    /// The library of NVIDIA's driver, a path or a name [default: libnvidia-ml.so.1]
    #[arg(long, env = "HIVE_AGENT_NVML_LIBRARY", value_name = "FILE")]
    pub nvml_library: Option<PathBuf>,
}

/// Everything that `run` can be told.
#[derive(Debug, Clone, Default, Args)]
pub struct RunOptions {
    /// What is the same for all commands that collect.
    #[command(flatten)]
    pub hive: HiveOptions,
    /// How often to collect and send: 100ms to 60s [default: 1s]
    #[arg(long, env = "HIVE_AGENT_INTERVAL", value_name = "TIME")]
    pub interval: Option<Interval>,
    /// Where to keep what cannot be sent, so that it outlives the agent; made if it does not
    /// exist [default: /var/lib/hive-agent if that exists and can be written, else memory only]
    #[arg(long, env = "HIVE_AGENT_SPOOL_DIR", value_name = "DIR")]
    pub spool_dir: Option<PathBuf>,
    /// Keep at most so much (compressed) for a queen that does not answer; beyond it the oldest
    /// heartbeats are dropped. In memory it is never more than 16MiB [default: 256MiB]
    #[arg(long, env = "HIVE_AGENT_SPOOL_MAX_BYTES", value_name = "SIZE")]
    pub spool_max_bytes: Option<ByteSize>,
    /// Keep nothing longer than this [default: 24h]
    #[arg(long, env = "HIVE_AGENT_SPOOL_MAX_AGE", value_name = "TIME")]
    pub spool_max_age: Option<Age>,
}

/// The keys of the TOML file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileOptions {
    #[serde(deserialize_with = "from_text")]
    queen: Option<QueenUrl>,
    hive_id: Option<HiveId>,
    hostname: Option<Text>,
    cgroup_root: Option<PathBuf>,
    discover: Option<bool>,
    ask_servers: Option<bool>,
    worker_rules: Vec<Rule>,
    nvml_library: Option<PathBuf>,
    #[serde(deserialize_with = "from_text")]
    interval: Option<Interval>,
    spool_dir: Option<PathBuf>,
    #[serde(deserialize_with = "from_text")]
    spool_max_bytes: Option<ByteSize>,
    #[serde(deserialize_with = "from_text")]
    spool_max_age: Option<Age>,
}

impl HiveOptions {
    /// The configuration of this machine.
    ///
    /// # Errors
    /// The configuration file cannot be read or is not valid.
    pub fn resolve(self) -> Result<Config, Error> {
        RunOptions { hive: self, ..RunOptions::default() }.resolve()
    }
}

impl RunOptions {
    /// The configuration of this machine.
    ///
    /// # Errors
    /// The configuration file cannot be read or is not valid.
    pub fn resolve(self) -> Result<Config, Error> {
        let file = self.hive.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
        let config = self.over(file, &machine_hostname());
        Ok(Config { spool_dir: config.spool_dir.or_else(service_dir), ..config })
    }

    fn over(self, file: FileOptions, machine: &str) -> Config {
        let queen = self.hive.queen.or(file.queen);
        let queen = queen.unwrap_or_else(|| DEFAULT_QUEEN.parse().expect("the default is a URL"));
        let default = Config::with_defaults(queen, machine);
        let bytes = self.spool_max_bytes.or(file.spool_max_bytes).map(ByteSize::bytes);
        let age = self.spool_max_age.or(file.spool_max_age).map(Age::get);
        Config {
            hive_id: self.hive.hive_id.or(file.hive_id).unwrap_or(default.hive_id),
            hostname: self.hive.hostname.or(file.hostname).unwrap_or(default.hostname),
            interval: self.interval.or(file.interval).unwrap_or(default.interval),
            spool: spool::Limits {
                bytes: bytes.unwrap_or(default.spool.bytes),
                age: age.unwrap_or(default.spool.age),
            },
            spool_dir: self.spool_dir.or(file.spool_dir),
            asks_servers: self
                .hive
                .ask_servers
                .or(file.ask_servers)
                .unwrap_or(default.asks_servers),
            discovery: discover::Settings {
                is_on: self.hive.discover.or(file.discover).unwrap_or(default.discovery.is_on),
                rules: file.worker_rules,
            },
            roots: Roots {
                cgroup: self.hive.cgroup_root.or(file.cgroup_root),
                nvml: self.hive.nvml_library.or(file.nvml_library).unwrap_or(default.roots.nvml),
                ..default.roots
            },
            ..default
        }
    }
}

fn read_file(path: &Path) -> Result<FileOptions, Error> {
    let text =
        fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    toml::from_str(&text)
        .map_err(|source| Error::Parse { path: path.to_owned(), source: Box::new(source) })
}

fn from_text<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn hostname(text: &str) -> Result<Text, InvalidText> {
    if text.is_empty() { Err(InvalidText::Empty) } else { Text::new(text) }
}

fn service_dir() -> Option<PathBuf> {
    rustix::fs::access(SERVICE_DIR, Access::WRITE_OK).ok().map(|()| SERVICE_DIR.into())
}

fn machine_hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A hive's name from a hostname: what is not allowed in a name becomes `-`.
fn hive_id_from(machine: &str) -> HiveId {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:@-".contains(c);
    let name: String =
        machine.chars().take(MAX_NAME_LEN).map(|c| if allowed(c) { c } else { '-' }).collect();
    let name = if name.is_empty() { "localhost".to_owned() } else { name };
    HiveId::new(name).expect("every character was made an allowed one")
}

#[cfg(test)]
mod tests;
