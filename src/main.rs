//! The queen's program: parses the configuration, binds, and runs until a signal comes.

use std::error::Error;
use std::fmt;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use queen::app::App;
use queen::config::{BackupOptions, Cli, Command, Config, Options};
use queen::history;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("QUEEN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .init();
    let result = match cli.command {
        None => serve(cli.serve),
        Some(Command::Serve(options)) => serve(options),
        Some(Command::CheckConfig(options)) => check_config(options),
        Some(Command::Backup(options)) => backup(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("queen: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // sqlx says again what its source says.
        if !text.ends_with(cause_text.trim()) {
            text.push_str(": ");
            text.push_str(cause_text.trim());
        }
        source = cause.source();
    }
    text
}

fn check_config(options: Options) -> Result<(), Box<dyn Error>> {
    let config = Config::load(options)?;
    print(format_args!("{config:#?}"))
}

fn backup(options: BackupOptions) -> Result<(), Box<dyn Error>> {
    let BackupOptions { to, config, db, min_free_disk } = options;
    let config = Config::load(Options { config, db, min_free_disk, ..Options::default() })?;
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let copied = history::backup(&config.db, &to, config.limits.min_free_disk);
    let mebibytes = runtime.block_on(copied)? as f64 / (1 << 20) as f64;
    print(format_args!(
        "{} was copied to {}: {mebibytes:.1} MiB in {:.1} s",
        config.db.display(),
        to.display(),
        began.elapsed().as_secs_f64()
    ))
}

/// A line on standard output; that its reader has seen enough is no error.
fn print(line: fmt::Arguments<'_>) -> Result<(), Box<dyn Error>> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let config = Config::load(options)?;
    // One descriptor for each agent and each stream: more than the usual soft limit.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(error = %error, "the limit of open files could not be raised");
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        // Before anyone can know that she runs: a signal then always stops her in order.
        let (mut term, mut int) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = CancellationToken::new();
        let app = App::build(&config, shutdown.clone()).await?;
        announce(&app, &config);
        tokio::spawn(async move {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            tracing::info!("stopping: finishing requests, ending streams, writing what waits");
            shutdown.cancel();
            // A second signal means now.
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            std::process::exit(130);
        });
        app.run().await;
        Ok(())
    })
}

/// What a person wants to know first.
fn announce(app: &App, config: &Config) {
    let url = format!("http://{}", app.address());
    let collector = match app.local_hive() {
        Some(hive) => format!("this machine, as hive {hive:?}"),
        None => "off (run hive-agent on each GPU machine)".into(),
    };
    let database = config.db.display();
    // She serves also when nobody reads it.
    let _ = writeln!(
        std::io::stdout(),
        "queen {} listens on {url}\n\
         \x20 workers    {url}/v1/workers\n\
         \x20 live feed  {url}/v1/heartbeats/stream\n\
         \x20 database   {database} ({} hives known)\n\
         \x20 collector  {collector}",
        env!("CARGO_PKG_VERSION"),
        app.hives(),
    );
}
