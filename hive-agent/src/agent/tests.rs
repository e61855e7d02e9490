use std::net::TcpListener;
use std::time::Instant;

use hive_contract::{Heartbeat, Timestamp};

use super::*;
use crate::test_queen::{Received, TestQueen};

fn config(queen: crate::client::QueenUrl, cgroup_root: &std::path::Path) -> Config {
    let mut config = Config::in_process(queen);
    config.interval = "100ms".parse().unwrap();
    config.roots.cgroup = Some(cgroup_root.to_owned());
    config
}

fn heartbeat(received: &Received) -> Heartbeat {
    let now = Timestamp::from_millis(0).unwrap();
    Heartbeat::parse(received.lines[0].as_bytes(), now).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_heartbeat_comes_every_interval_until_the_end() {
    let root = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(|_| (200, String::new())).await;
    let shutdown = CancellationToken::new();
    // Spawned, as a queen does that has the agent in her own process.
    let running = tokio::spawn(run(config(queen.url.clone(), root.path()), shutdown.clone()));
    let received = queen.received_until(|received| received.len() >= 4).await;
    shutdown.cancel();
    running.await.unwrap().unwrap();

    let heartbeats: Vec<Heartbeat> = received.iter().map(heartbeat).collect();
    let first = heartbeats.first().unwrap();
    assert_eq!(first.interval_ms.unwrap().get(), 100.0);
    assert_eq!(first.agent.as_ref().unwrap().cpu_pct, None);
    let last = heartbeats.last().unwrap();
    assert!(last.agent.as_ref().unwrap().cpu_pct.is_some());
    assert!(last.node.as_ref().unwrap().cpu_pct.is_some());
    assert!(heartbeats.windows(2).all(|pair| pair[0].timestamp < pair[1].timestamp));
}

#[tokio::test]
async fn a_queen_that_never_answers_holds_up_neither_collecting_nor_the_end() {
    let root = tempfile::tempdir().unwrap();
    // It accepts connections in the kernel, and nobody ever reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
    let config = config(url, root.path());
    let spool = Arc::new(Spool::new(config.spool, None));
    let collecting =
        Collecting::start(config.settings(), config.interval.get(), Arc::clone(&spool)).unwrap();
    let shutdown = CancellationToken::new();
    let running = run(config, shutdown.clone());
    let ending = async {
        for _ in 0..5 {
            tokio::time::timeout(Duration::from_secs(5), spool.filled()).await.unwrap();
        }
        shutdown.cancel();
        Instant::now()
    };
    let (result, asked_at) = tokio::join!(running, ending);
    result.unwrap();
    assert!(asked_at.elapsed() < STOP_LIMIT + FLUSH_LIMIT + Duration::from_secs(1));
    assert!(spool.len() >= 5);
    collecting.stop().await;
}
