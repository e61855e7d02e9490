//! Starts a worker in the cgroup in which the collector finds it, and stays beside it.
//!
//! Invariant: the command is inside its cgroup before its first instruction, so that nothing
//! it does is missed and no limit comes late.
//!
//! Invariant: to whoever started it, `spawn` looks like the command itself: same input and
//! output, signals passed on, same exit status.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};

use clap::Args;
use hive_contract::{Group, Instance};

use crate::collect::cgroup;
use crate::config::ByteSize;

mod limits;
mod place;
mod signals;

pub use limits::{CpuLimit, InvalidCpuLimit};
pub use place::PlaceError;

use place::Place;
use signals::{Signal, Signals};

/// What to start, where, and how much it may use.
#[derive(Debug, Clone, Args)]
pub struct SpawnOptions {
    /// The worker's group, such as llm
    #[arg(long, env = "HIVE_AGENT_GROUP", value_name = "NAME")]
    pub group: Group,
    /// The worker's instance: the port it serves on, so that requests can be routed to it
    #[arg(long, env = "HIVE_AGENT_INSTANCE", value_name = "NAME")]
    pub instance: Instance,
    /// The most processor time: 100% is one core
    #[arg(long, env = "HIVE_AGENT_CPU_LIMIT", value_name = "PERCENT")]
    pub cpu_limit: Option<CpuLimit>,
    /// The most memory, beyond which the kernel ends the worker: 512M, 4G
    #[arg(long, env = "HIVE_AGENT_MEMORY_LIMIT", value_name = "SIZE")]
    pub memory_limit: Option<ByteSize>,
    /// The directory that contains rbee.slice [default: where cgroup v2 is mounted]
    #[arg(long, env = "HIVE_AGENT_CGROUP_ROOT", value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// Why the command was not started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no cgroup v2 tree.
    #[error(transparent)]
    Root(#[from] cgroup::Error),
    /// The cgroup cannot be prepared.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Signals cannot be received.
    #[error("cannot prepare to pass on signals")]
    Signals(#[source] io::Error),
    /// There is no such command.
    #[error("{command:?} was not found")]
    NotFound {
        /// As it was given.
        command: OsString,
    },
    /// The command cannot be executed.
    #[error("cannot execute {command:?}")]
    NotExecutable {
        /// As it was given.
        command: OsString,
        /// The reason.
        source: io::Error,
    },
    /// The command cannot be waited for.
    #[error("cannot wait for the command")]
    Wait(#[source] io::Error),
}

impl Error {
    /// The exit status that shells use for the same failure.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}

/// Runs the command in its cgroup to its end; the exit status to end with.
///
/// # Errors
/// The command could not be started.
pub fn run(options: &SpawnOptions) -> Result<u8, Error> {
    let root = match &options.cgroup_root {
        Some(root) => root.clone(),
        None => cgroup::find_root("/proc".as_ref())?,
    };
    let place = Place::prepare(&root, &options.group, &options.instance)?;
    for warning in place.limit(options.cpu_limit, options.memory_limit) {
        eprintln!("hive-agent: {warning}");
    }
    let result = run_in(&place, &options.command);
    if let Some(left) = place.remove() {
        eprintln!("hive-agent: {left}");
    }
    result
}

fn run_in(place: &Place, command: &[OsString]) -> Result<u8, Error> {
    // Before the start, so that a signal that comes meanwhile waits for the command.
    let signals = Signals::block().map_err(Error::Signals)?;
    let mut child = start(place, command, &signals)?;
    let status = wait(&mut child, &signals).map_err(Error::Wait)?;
    Ok(exit_code(status))
}

fn start(place: &Place, command: &[OsString], signals: &Signals) -> Result<Child, Error> {
    let (program, arguments) = command.split_first().expect("clap requires a command");
    let mut entry = place.entry()?;
    // Which of the two failed, entering or executing, cannot be told from the error alone.
    let (mut entered, enters) = io::pipe().map_err(Error::Wait)?;
    let mut command = Command::new(program);
    command.args(arguments);
    let mut enters_in_child = enters.try_clone().map_err(Error::Wait)?;
    let former = signals.former_mask();
    // SAFETY: between fork and exec only `pthread_sigmask` and `write` are called, which are
    // async-signal-safe: on a file and a pipe that are already open, with static data, without
    // allocating or locking.
    unsafe {
        command.pre_exec(move || {
            // What is blocked stays blocked across exec: the command must get its signals.
            former.set()?;
            entry.write_all(b"0")?;
            enters_in_child.write_all(b"+")
        });
    }
    let result = command.spawn();
    drop(command);
    drop(enters);
    let source = match result {
        Ok(child) => return Ok(child),
        Err(error) => error,
    };
    let mut marks = Vec::new();
    io::Read::read_to_end(&mut entered, &mut marks).map_err(Error::Wait)?;
    let command = program.clone();
    Err(match source.kind() {
        _ if marks.is_empty() => place.cannot_enter(source).into(),
        io::ErrorKind::NotFound => Error::NotFound { command },
        _ => Error::NotExecutable { command, source },
    })
}

/// Passes signals on until the command ends.
fn wait(child: &mut Child, signals: &Signals) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match signals.next()? {
            Signal::ChildChanged => {}
            // The terminal has sent it to the command already; twice means "at once" to many.
            Signal::Other { from_terminal: true, .. } => {}
            Signal::Other { number, from_terminal: false } => signals::send(child.id(), number),
        }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
