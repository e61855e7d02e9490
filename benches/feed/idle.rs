//! What subscribers cost while nothing comes but the state of the fleet.

use std::time::Duration;

use super::fleet::{Fleet, heartbeat};
use super::queen_process::{Queen, Result};
use super::socket::subscribe;
use hive_agent::client::{Client, QueenUrl, Timeouts};
use queen::clock::Clock;

/// So long they are there: several summaries of the fleet.
const WATCHED: Duration = Duration::from_secs(8);

pub(super) fn run(fleet: &Fleet, subscribers: usize) -> Result<()> {
    println!(
        "idle: {subscribers} subscribers, {} hives × {} workers known",
        fleet.hives, fleet.workers
    );
    rlimit::increase_nofile_limit(u64::MAX)?;
    let home = tempfile::tempdir()?;
    let queen = Queen::start(&home.path().join("queen.db"), &[])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = Client::new(&queen.url().parse::<QueenUrl>()?, Timeouts::default());
        for hive in 0..fleet.hives {
            let body = heartbeat(hive, fleet.workers, 0, &Clock::system().now().to_string());
            client.post("/v1/hive-heartbeat", "application/json", None, body.into()).await?;
        }
        let before = queen.status_mb("VmRSS:")?;
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..subscribers {
            let socket = subscribe(queen.url(), "").await?;
            readers.spawn(async move {
                let mut buffer = vec![0; 16 << 10];
                while socket.readable().await.is_ok() {
                    if matches!(socket.try_read(&mut buffer), Ok(0)) {
                        return;
                    }
                }
            });
        }
        let busy_before = queen.cpu_seconds()?;
        tokio::time::sleep(WATCHED).await;
        if !readers.is_empty() && readers.try_join_next().is_some() {
            return Err("a stream ended".into());
        }
        let after = queen.status_mb("VmRSS:")?;
        let cores = (queen.cpu_seconds()? - busy_before) / WATCHED.as_secs_f64();
        println!("queen memory    {before:.0} MiB before, {after:.0} MiB with them");
        println!("queen cpu       {cores:.2} cores");
        Ok(())
    })
}
