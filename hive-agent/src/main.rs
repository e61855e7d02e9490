//! The command line of the agent.

use clap::Parser;
use hive_agent::simulate;

#[derive(Parser)]
#[command(version, about)]
enum Command {
    /// Posts the heartbeats of a made-up fleet, for demonstrations and load tests
    Simulate(simulate::Args),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    let result = match Command::parse() {
        Command::Simulate(args) => simulate::run(args).await,
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hive-agent: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
