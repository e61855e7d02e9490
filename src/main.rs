//! The queen's program: parses the configuration, binds, and runs until a signal comes.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use queen::app::App;
use queen::config::{Cli, Command, Config, Options};
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
        text.push_str(": ");
        text.push_str(cause.to_string().trim());
        source = cause.source();
    }
    text
}

fn check_config(options: Options) -> Result<(), Box<dyn Error>> {
    let config = Config::load(options)?;
    println!("{config:#?}");
    Ok(())
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
