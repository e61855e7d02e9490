//! Flags, environment and file become one [`Config`], in that order of precedence.
//!
//! Every option exists three times under one name: `--retention-raw`, `QUEEN_RETENTION_RAW`,
//! and the key `retention_raw` of the TOML file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Deserialize;

use crate::history::Durability;
use crate::history::retention::Limits;

const DAY: Duration = Duration::from_hours(24);

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "queen",
    version,
    about = "Receives, keeps and serves the telemetry of LLM inference workers",
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    /// What to do; without a command: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of `serve`.
    #[command(flatten)]
    pub serve: Options,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Receive, keep and serve heartbeats (the default)
    Serve(Options),
    /// Check the options and the file given with --config, print what they come to, and exit
    CheckConfig(Options),
    /// Copy the database to a new file, of one moment, whether a queen runs on it or not
    Backup(BackupOptions),
}

/// What to copy, and where to.
#[derive(Debug, Args)]
pub struct BackupOptions {
    /// The new file. Nothing is overwritten
    #[arg(value_name = "FILE")]
    pub to: PathBuf,
    /// A TOML file with the options of `serve`, of which `db` and `min_free_disk` count here
    #[arg(long, env = "QUEEN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The database file [default: queen.db]
    #[arg(long, env = "QUEEN_DB", value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// How much of the database's disk stays free [default: 1GiB]
    #[arg(long, env = "QUEEN_MIN_FREE_DISK", value_name = "SIZE")]
    pub min_free_disk: Option<Size>,
}

/// The options, as flags, environment variables, or keys of the file.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// A TOML file with any of these options, as keys: retention_raw = "7d"
    #[arg(long, env = "QUEEN_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:7833]
    #[arg(long, env = "QUEEN_BIND", value_name = "ADDRESS:PORT")]
    pub bind: Option<SocketAddr>,
    /// The database file, created if it is not there [default: queen.db]
    #[arg(long, env = "QUEEN_DB", value_name = "FILE")]
    pub db: Option<PathBuf>,
    /// Collect this machine's workers too, in this process [default: true on a loopback address]
    #[arg(long, env = "QUEEN_LOCAL_HIVE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub local_hive: Option<bool>,
    /// What an acknowledged heartbeat survives: full = a power cut, normal = a crash [default: full]
    #[arg(long, env = "QUEEN_DURABILITY", value_name = "LEVEL")]
    pub durability: Option<Durability>,
    /// How long single readings are kept; older ones are not taken [default: 7d]
    #[arg(long, env = "QUEEN_RETENTION_RAW", value_name = "TIME")]
    pub retention_raw: Option<Span>,
    /// How long sums by minute are kept [default: 90d]
    #[arg(long = "retention-1m", env = "QUEEN_RETENTION_1M", value_name = "TIME")]
    pub retention_1m: Option<Span>,
    /// How long sums by hour and events are kept [default: 2y]
    #[arg(long = "retention-1h", env = "QUEEN_RETENTION_1H", value_name = "TIME")]
    pub retention_1h: Option<Span>,
    /// The most that the database may take, its log of 16 MiB not counted; beyond it the oldest
    /// single readings go [default: 10GiB]
    #[arg(long, env = "QUEEN_DISK_BUDGET", value_name = "SIZE")]
    pub disk_budget: Option<Size>,
    /// How much of the disk stays free; below it the oldest single readings go [default: 1GiB]
    #[arg(long, env = "QUEEN_MIN_FREE_DISK", value_name = "SIZE")]
    pub min_free_disk: Option<Size>,
    /// Age at which single readings are sealed into blocks [default: 60s]
    #[arg(long, env = "QUEEN_SEAL_AFTER", value_name = "TIME")]
    pub seal_after: Option<Span>,
    /// How long one query of the history may take [default: 30s]
    #[arg(long, env = "QUEEN_QUERY_TIMEOUT", value_name = "TIME")]
    pub query_timeout: Option<Span>,
    /// The most hives that are known at once [default: 65536]
    #[arg(long, env = "QUEEN_MAX_HIVES", value_name = "N")]
    pub max_hives: Option<usize>,
    /// The most live streams at once [default: 1024]
    #[arg(long, env = "QUEEN_MAX_STREAMS", value_name = "N")]
    pub max_streams: Option<usize>,
    /// Intervals without a heartbeat after which a hive is stale [default: 5]
    #[arg(long, env = "QUEEN_LIVE_INTERVALS", value_name = "N")]
    pub live_intervals: Option<u32>,
    /// Intervals without a heartbeat after which a hive is offline [default: 30]
    #[arg(long, env = "QUEEN_STALE_INTERVALS", value_name = "N")]
    pub stale_intervals: Option<u32>,
}

/// A length of time, written as `60s`, `7d`, `2y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl std::str::FromStr for Span {
    type Err = humantime::DurationError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self)
    }
}

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
            .map_err(|error| format!("{text:?} is no length of time such as 60s or 7d: {error}"))
    }
}

/// A number of bytes, written as `1GiB`, `500MB`, `4096`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size(pub u64);

impl std::str::FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<bytesize::ByteSize>().map(|size| Self(size.as_u64()))
    }
}

impl TryFrom<String> for Size {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map_err(|error| format!("{text:?} is no size such as 10GiB: {error}"))
    }
}

/// What the queen runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where she listens.
    pub bind: SocketAddr,
    /// Her database file.
    pub db: PathBuf,
    /// Whether she collects this machine's workers.
    pub local_hive: bool,
    /// What an acknowledgement survives.
    pub durability: Durability,
    /// How long and how much is kept.
    pub limits: Limits,
    /// Age at which single readings are sealed.
    pub seal_after: Duration,
    /// How long one query may take.
    pub query_timeout: Duration,
    /// The most hives.
    pub max_hives: usize,
    /// The most streams.
    pub max_streams: usize,
    /// When a hive counts as live and stale.
    pub liveness: crate::registry::Liveness,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key or value that is not allowed.
    #[error("{} is not usable", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: toml::de::Error,
    },
    /// Two options contradict each other.
    #[error("stale_intervals ({stale}) must be more than live_intervals ({live})")]
    Intervals {
        /// As given.
        live: u32,
        /// As given.
        stale: u32,
    },
    /// An option is out of its range.
    #[error("{option} must be at least {min}")]
    TooSmall {
        /// The option.
        option: &'static str,
        /// Its least value.
        min: &'static str,
    },
}

impl Config {
    /// Joins the options given on the command line and in the environment with those of the
    /// file.
    ///
    /// # Errors
    /// The file cannot be used, or an option is out of its range.
    pub fn load(given: Options) -> Result<Self, ConfigError> {
        let file = match &given.config {
            None => Options::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                toml::from_str(&text)
                    .map_err(|source| ConfigError::Parse { path: path.clone(), source })?
            }
        };
        let bind = given.bind.or(file.bind).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7833)));
        let live = given.live_intervals.or(file.live_intervals).unwrap_or(5);
        let stale = given.stale_intervals.or(file.stale_intervals).unwrap_or(30);
        if live >= stale {
            return Err(ConfigError::Intervals { live, stale });
        }
        let span = |given: Option<Span>, file: Option<Span>, default| {
            given.or(file).map_or(default, |span| span.0)
        };
        let size = |given: Option<Size>, file: Option<Size>, default| {
            given.or(file).map_or(default, |size| size.0)
        };
        // What is not given is at least as long as what is finer.
        let raw = span(given.retention_raw, file.retention_raw, 7 * DAY);
        let minutes = span(given.retention_1m, file.retention_1m, raw.max(90 * DAY));
        let hours = span(given.retention_1h, file.retention_1h, minutes.max(730 * DAY));
        let limits = Limits {
            raw,
            minutes,
            hours,
            disk_budget: size(given.disk_budget, file.disk_budget, 10 << 30),
            min_free_disk: size(given.min_free_disk, file.min_free_disk, 1 << 30),
        };
        let config = Self {
            bind,
            db: given.db.or(file.db).unwrap_or_else(|| "queen.db".into()),
            local_hive: given.local_hive.or(file.local_hive).unwrap_or(bind.ip().is_loopback()),
            durability: given.durability.or(file.durability).unwrap_or_default(),
            limits,
            seal_after: span(given.seal_after, file.seal_after, Duration::from_mins(1)),
            query_timeout: span(given.query_timeout, file.query_timeout, Duration::from_secs(30)),
            max_hives: given.max_hives.or(file.max_hives).unwrap_or(65_536),
            max_streams: given.max_streams.or(file.max_streams).unwrap_or(1024),
            liveness: crate::registry::Liveness { live_intervals: live, stale_intervals: stale },
        };
        let least = [
            ("live_intervals", "1", live >= 1),
            ("retention_raw", "1m", config.limits.raw >= Duration::from_mins(1)),
            ("retention_1m", "retention_raw", config.limits.minutes >= config.limits.raw),
            ("retention_1h", "retention_1m", config.limits.hours >= config.limits.minutes),
            ("seal_after", "1s", config.seal_after >= Duration::from_secs(1)),
            ("max_hives", "1", config.max_hives >= 1),
        ];
        match least.into_iter().find(|(_, _, holds)| !holds) {
            Some((option, min, _)) => Err(ConfigError::TooSmall { option, min }),
            None => Ok(config),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        Cli::try_parse_from(arguments).unwrap().serve
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = file("bind = '127.0.0.1:1'\nretention_raw = '2d'\nlocal_hive = false\n");
        let path = file.path().to_str().unwrap();
        let config =
            Config::load(options(&["queen", "--config", path, "--bind", "127.0.0.1:2"])).unwrap();
        assert_eq!(config.bind.port(), 2);
        assert_eq!(config.limits.raw, Duration::from_hours(48));
        assert!(!config.local_hive);
        assert_eq!(config.max_streams, 1024);
    }

    #[test]
    fn the_collector_runs_by_default_only_on_loopback() {
        assert!(Config::load(options(&["queen"])).unwrap().local_hive);
        assert!(!Config::load(options(&["queen", "--bind", "0.0.0.0:1"])).unwrap().local_hive);
        let forced = options(&["queen", "--bind", "0.0.0.0:1", "--local-hive"]);
        assert!(Config::load(forced).unwrap().local_hive);
        assert!(!Config::load(options(&["queen", "--local-hive=false"])).unwrap().local_hive);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let file = file("bnd = '127.0.0.1:1'\n");
        let error = Config::load(options(&["queen", "--config", file.path().to_str().unwrap()]));
        let ConfigError::Parse { source, .. } = error.unwrap_err() else {
            panic!("not a parse error")
        };
        assert!(source.to_string().contains("bnd"), "{source}");
    }

    #[test]
    fn contradictions_are_refused() {
        let error = Config::load(options(&["queen", "--live-intervals", "30"])).unwrap_err();
        assert_eq!(error.to_string(), "stale_intervals (30) must be more than live_intervals (30)");
        assert!(Config::load(options(&["queen", "--retention-raw", "1s"])).is_err());
    }
}
