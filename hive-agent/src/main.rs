//! The command line of the agent.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hive_agent::config::{HiveOptions, RunOptions};
use hive_agent::spawn::SpawnOptions;
use hive_agent::{agent, doctor, once, simulate, spawn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Measures every LLM inference worker of this machine once a second and posts it to the queen.
///
/// A worker is every process tree in a cgroup rbee.slice/GROUP/INSTANCE (`hive-agent spawn`
/// starts one there), and every known inference server that runs elsewhere. Workers need not
/// cooperate. Without a command, `run` is meant.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    run: RunOptions,
    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER_HELP: &str = "\
A flag beats its environment variable, which beats the key of the same name in the TOML file \
(with _ for -), which beats the default. HIVE_AGENT_LOG sets what is logged: warn, info, debug.";

#[derive(Subcommand)]
enum Command {
    /// Collects and sends until it is ended: SIGTERM or Ctrl-C [default]
    Run(RunOptions),
    /// Prints one heartbeat as JSON on stdout
    ///
    /// The machine is read twice, 250 ms apart, so that the heartbeat has rates: cpu_pct,
    /// io_r_mb_s and io_w_mb_s are those of these 250 ms. What could not be read is null, and
    /// agent.errors says why.
    Once(HiveOptions),
    /// Says in plain words what the agent finds here, and what to do about what is missing
    ///
    /// That is: cgroups, permissions, GPUs, workers, the spool, the queen and her clock. Nothing is
    /// changed or sent. The exit status is 1 if something prevents the agent from
    /// working.
    Doctor(HiveOptions),
    /// Starts a worker in its cgroup, where it is found, and ends with its exit status
    ///
    /// CMD is put into the cgroup rbee.slice/GROUP/INSTANCE before its first instruction. A
    /// limit that this machine cannot set is named on stderr, and CMD runs without it.
    /// SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to CMD. The exit
    /// status is that of CMD, 128+N after signal N, 127 if CMD was not found, 126 if it cannot
    /// be executed, 125 if its cgroup cannot be prepared.
    Spawn(SpawnOptions),
    /// Posts the heartbeats of a made-up fleet, for demonstrations and load tests
    Simulate(simulate::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter =
        EnvFilter::try_from_env("HIVE_AGENT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(options) => status(run(options)),
        Command::Once(options) => status(print_once(options)),
        Command::Doctor(options) => match consult(options) {
            Ok(code) => code,
            Err(error) => status(Err(error)),
        },
        Command::Spawn(options) => match spawn::run(&options) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                tell(&error);
                ExitCode::from(error.exit_code())
            }
        },
        Command::Simulate(args) => {
            allow_many_files();
            status(runtime().and_then(|runtime| Ok(runtime.block_on(simulate::run(args))?)))
        }
    }
}

fn run(options: RunOptions) -> Result<(), Box<dyn Error>> {
    let config = options.resolve()?;
    allow_many_files();
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut running = std::pin::pin!(agent::run(config, shutdown.clone()));
        tokio::select! {
            result = &mut running => return Ok(result?),
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
        Ok(running.await?)
    });
    // A disk that hangs does not keep the agent from ending.
    runtime.shutdown_background();
    result
}

fn print_once(options: HiveOptions) -> Result<(), Box<dyn Error>> {
    let config = options.resolve()?;
    allow_many_files();
    let heartbeat = once::collect(&config);
    let json = serde_json::to_string_pretty(&heartbeat)?;
    // Not println, which panics where the output cannot be written.
    writeln!(io::stdout(), "{json}").map_err(|error| format!("cannot write to stdout: {error}"))?;
    Ok(())
}

fn consult(options: HiveOptions) -> Result<ExitCode, Box<dyn Error>> {
    let config = options.resolve()?;
    allow_many_files();
    let report = runtime()?.block_on(doctor::examine(&config));
    // Not print, which panics where the output cannot be written.
    write!(io::stdout(), "{report}").map_err(|error| format!("cannot write to stdout: {error}"))?;
    Ok(if report.has_problems() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn runtime() -> Result<tokio::runtime::Runtime, Box<dyn Error>> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Some files stay open for every worker and process, or simulated hive; the usual limit of 1,024 is low for it.
fn allow_many_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Refused, the limit stays as it is, and what cannot be opened is reported.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn status(result: Result<(), Box<dyn Error>>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&*error);
            ExitCode::FAILURE
        }
    }
}

/// Prints an error with everything that led to it.
fn tell(error: &dyn Error) {
    eprint!("hive-agent: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprint!(": {cause}");
        source = cause.source();
    }
    eprintln!();
}
