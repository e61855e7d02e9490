use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hive_contract::Timestamp;

use super::*;
use crate::client::Timeouts;
use crate::spool::{Limits, Losses};
use crate::test_queen::{Received, TestQueen};

fn spool_of(heartbeats: u64) -> Arc<Spool> {
    let spool = Arc::new(Spool::new(Limits::default(), None));
    push(&spool, 0..heartbeats);
    spool
}

fn push(spool: &Spool, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let timestamp = Timestamp::from_millis(1_761_849_000_000 + number as i64).unwrap();
        spool.push(timestamp, format!("{{\"n\":{number}}}").into());
    }
}

/// The numbers of the heartbeats in one request.
fn numbers(received: &Received) -> Vec<u64> {
    let number = |line: &String| line["{\"n\":".len()..line.len() - 1].parse().unwrap();
    received.lines.iter().map(number).collect()
}

fn ok() -> (u16, String) {
    (200, "{}".into())
}

fn problem(code: Code, detail: &str) -> (u16, String) {
    (code.status(), serde_json::to_string(&Problem::new(code, detail)).unwrap())
}

fn delivery(queen: &TestQueen, spool: &Arc<Spool>) -> Delivery {
    Delivery::new(Client::new(&queen.url, Timeouts::default()), Arc::clone(spool))
}

/// Delivers everything that is in the spool, within ten seconds.
async fn deliver_all(queen: &TestQueen, spool: &Arc<Spool>) {
    let closing = CancellationToken::new();
    closing.cancel();
    let mut delivery = delivery(queen, spool);
    tokio::time::timeout(Duration::from_secs(10), delivery.run(&closing)).await.unwrap();
    assert_eq!(spool.len(), 0);
}

#[tokio::test]
async fn the_newest_goes_first_and_the_past_follows_in_order() {
    let queen = TestQueen::start(|_| ok()).await;
    let spool = spool_of(2500);
    deliver_all(&queen, &spool).await;
    let received = queen.received_until(|received| received.len() >= 4).await;
    assert_eq!(received[0].path, "/v1/hive-heartbeat");
    assert_eq!(numbers(&received[0]), [2499]);
    let past: Vec<u64> = received[1..].iter().flat_map(numbers).collect();
    assert_eq!(past, (0..2499).collect::<Vec<_>>());
    assert!(received[1..].iter().all(|r| r.path == "/v1/hive-heartbeats" && r.lines.len() <= 1000));
    assert_eq!(spool.losses(), Losses::default());
}

#[tokio::test]
async fn what_is_not_acknowledged_is_sent_again_unchanged() {
    let tries = AtomicUsize::new(0);
    let queen = TestQueen::start(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => problem(Code::StorageUnavailable, "the disk is full"),
        1 => problem(Code::TooManyRequests, "slow down"),
        _ => ok(),
    })
    .await;
    let spool = spool_of(1);
    deliver_all(&queen, &spool).await;
    let received = queen.received_until(|received| received.len() == 3).await;
    assert!(received.iter().all(|request| *request == received[0]), "{received:?}");
}

#[tokio::test]
async fn what_is_refused_is_dropped_and_the_next_goes_on() {
    let queen = TestQueen::start(|request| {
        if numbers(request) == [0] { problem(Code::TooOld, "a month old") } else { ok() }
    })
    .await;
    let spool = spool_of(1);
    let closing = CancellationToken::new();
    let mut delivery = delivery(&queen, &spool);
    let feeding = async {
        queen.received_until(|received| received.len() == 1).await;
        push(&spool, 1..2);
        queen.received_until(|received| received.len() == 2).await;
        closing.cancel();
    };
    tokio::join!(delivery.run(&closing), feeding);
    let received = queen.received_until(|received| received.len() == 2).await;
    assert_eq!(numbers(&received[1]), [1]);
    assert_eq!(spool.len(), 0);
}

#[tokio::test]
async fn nothing_is_dropped_while_the_queens_clock_is_behind() {
    let is_behind = Arc::new(AtomicBool::new(true));
    let clock = Arc::clone(&is_behind);
    let queen = TestQueen::start(move |_| {
        let is_behind = clock.load(Ordering::SeqCst);
        if is_behind { problem(Code::ClockSkew, "an hour ahead") } else { ok() }
    })
    .await;
    let spool = spool_of(50);
    let closing = CancellationToken::new();
    let mut delivery = delivery(&queen, &spool);
    let mending = async {
        queen.received_until(|received| received.len() == 2).await;
        assert_eq!((spool.len(), spool.losses()), (50, Losses::default()));
        is_behind.store(false, Ordering::SeqCst);
        queen.received_until(|received| received.len() == 4).await;
        closing.cancel();
    };
    tokio::join!(delivery.run(&closing), mending);
    assert_eq!((spool.len(), spool.losses()), (0, Losses::default()));
    let received = queen.received_until(|_| true).await;
    assert!(received[..3].iter().all(|request| numbers(request) == [49]), "the present first");
    assert_eq!(numbers(&received[3]), (0..49).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_an_agents_wrong_clock_stamped_does_not_hold_up_the_past() {
    let queen = TestQueen::start(|request| {
        if numbers(request).contains(&3) { problem(Code::ClockSkew, "line 4") } else { ok() }
    })
    .await;
    let spool = spool_of(10);
    deliver_all(&queen, &spool).await;
    assert_eq!(spool.losses().refused, 1);
}

#[tokio::test]
async fn one_bad_heartbeat_does_not_take_the_others_with_it() {
    let queen = TestQueen::start(|request| {
        if numbers(request).contains(&77) { problem(Code::InvalidField, "line 78") } else { ok() }
    })
    .await;
    let spool = spool_of(300);
    deliver_all(&queen, &spool).await;
    let received = queen.received_until(|_| true).await;
    let mut taken: Vec<u64> =
        received.iter().map(numbers).filter(|numbers| !numbers.contains(&77)).flatten().collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..300).filter(|&number| number != 77).collect::<Vec<_>>());
    assert!(received.len() < 40, "{} requests", received.len());
}

#[tokio::test]
async fn the_present_goes_before_the_past_also_while_catching_up() {
    let queen = TestQueen::start(|_| ok()).await;
    let spool = spool_of(1500);
    let closing = CancellationToken::new();
    let mut delivery = delivery(&queen, &spool);
    // The first two requests, then a new heartbeat.
    let newest = spool.newest().unwrap();
    delivery.send_newest(&newest).await;
    delivery.send_bulk().await;
    push(&spool, 1500..1501);
    closing.cancel();
    delivery.run(&closing).await;
    let received = queen.received_until(|received| received.len() == 4).await;
    assert_eq!(numbers(&received[2]), [1500]);
    assert_eq!(numbers(&received[3]), (1000..1499).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_answer_that_is_not_about_the_heartbeats_loses_none() {
    let tries = AtomicUsize::new(0);
    let queen = TestQueen::start(move |_| match tries.fetch_add(1, Ordering::SeqCst) {
        0 => (404, "no such site".into()),
        1 => (401, "who are you?".into()),
        _ => ok(),
    })
    .await;
    let spool = spool_of(3);
    deliver_all(&queen, &spool).await;
    let received = queen.received_until(|received| received.len() == 4).await;
    assert_eq!(numbers(&received[3]), [0, 1]);
    assert_eq!(spool.losses().refused, 0);
}

#[tokio::test]
async fn a_queen_who_takes_no_past_at_the_moment_gets_the_present() {
    let queen = TestQueen::start(|request| match request.path.as_str() {
        BULK_PATH => problem(Code::QueueFull, "later"),
        _ => ok(),
    })
    .await;
    let spool = spool_of(100);
    let closing = CancellationToken::new();
    let mut delivery = delivery(&queen, &spool);
    let feeding = async {
        for number in 100..110 {
            let before = queen.received_until(|_| true).await.len();
            push(&spool, number..number + 1);
            let is_there = |r: &Received| numbers(r) == [number];
            queen.received_until(|r| r[before..].iter().any(is_there)).await;
        }
    };
    tokio::select! {
        () = delivery.run(&closing) => panic!("it waits for more"),
        () = feeding => {}
    }
    let received = queen.received_until(|_| true).await;
    assert!(received.iter().any(|request| request.path == BULK_PATH));
    assert!(spool.len() >= 99, "the past waits");
}

/// As after an outage of an hour: twenty agents come back at once to a queen who does not take
/// everything at once.
#[tokio::test]
async fn twenty_agents_catch_up_without_a_hole_or_a_double() {
    const AGENTS: u64 = 20;
    const BACKLOG: u64 = 3600;
    let bulks = AtomicUsize::new(0);
    let taken = Arc::new(std::sync::Mutex::new(Vec::new()));
    let taking = Arc::clone(&taken);
    let queen = TestQueen::start(move |request| {
        if request.path == BULK_PATH && bulks.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
            return problem(Code::QueueFull, "later");
        }
        taking.lock().unwrap().extend(numbers(request));
        ok()
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let mut agents = tokio::task::JoinSet::new();
    for agent in 0..AGENTS {
        let place = directory.path().join(agent.to_string());
        let spool = Arc::new(Spool::new(Limits::default(), Some(place)));
        push(&spool, agent * 10_000..agent * 10_000 + BACKLOG);
        assert!(spool.close().await);
        let mut delivery = delivery(&queen, &spool);
        let closing = CancellationToken::new();
        closing.cancel();
        agents.spawn(async move {
            tokio::time::timeout(Duration::from_secs(60), delivery.run(&closing)).await.unwrap();
            assert!(spool.is_empty());
        });
    }
    while let Some(ended) = agents.join_next().await {
        ended.unwrap();
    }
    let received = queen.received_until(|_| true).await;
    let singles = received.iter().filter(|request| request.path == HEARTBEAT_PATH);
    assert_eq!(singles.count() as u64, AGENTS, "the newest of each came first, alone");
    let mut taken = std::mem::take(&mut *taken.lock().unwrap());
    taken.sort_unstable();
    let expected: Vec<u64> =
        (0..AGENTS).flat_map(|agent| agent * 10_000..agent * 10_000 + BACKLOG).collect();
    assert_eq!(taken, expected);
}
