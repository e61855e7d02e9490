use std::fs;

use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(1_761_849_000_000 + second * 1000).unwrap()
}

fn seconds(entries: &[Entry]) -> Vec<i64> {
    entries.iter().map(|entry| entry.timestamp.millis_since(at(0)) / 1000).collect()
}

fn limits(bytes: u64, age_s: u64) -> Limits {
    Limits { bytes, age: Duration::from_secs(age_s) }
}

fn in_memory(bytes: u64, age_s: u64) -> Arc<Spool> {
    Arc::new(Spool::new(limits(bytes, age_s), None))
}

fn on_disk(directory: &std::path::Path) -> Arc<Spool> {
    Arc::new(Spool::new(limits(1 << 20, 3600), Some(directory.to_owned())))
}

fn push(spool: &Spool, from: std::ops::Range<i64>) {
    for second in from {
        spool.push(at(second), Bytes::from_static(b"0123456789"));
    }
}

/// How many are in memory, and how many on disk.
fn places(spool: &Spool) -> (usize, u64) {
    let queue = spool.queue();
    (queue.entries.len(), queue.on_disk)
}

async fn oldest(spool: &Arc<Spool>, lines: usize, bytes: usize) -> Vec<i64> {
    spool.oldest(lines, bytes).await.map_or_else(Vec::new, |batch| seconds(batch.entries()))
}

async fn drain(spool: &Arc<Spool>) -> Vec<i64> {
    let mut drained = Vec::new();
    while let Some(batch) = spool.oldest(3, 1000).await {
        drained.extend(seconds(batch.entries()));
        spool.remove(batch).await;
    }
    drained
}

#[tokio::test]
async fn the_oldest_go_when_memory_is_full() {
    let spool = in_memory(3 * (10 + ENTRY_BYTES), 1000);
    push(&spool, 0..5);
    assert_eq!(oldest(&spool, 10, 1000).await, [2, 3, 4]);
    assert_eq!((spool.len(), spool.losses().dropped), (3, 2));
    spool.push(at(6), Bytes::from(vec![b'x'; 1000]));
    assert_eq!((spool.len(), spool.losses().dropped), (0, 6), "it alone is larger than the bound");
    assert!(spool.newest().is_none() && spool.is_empty());
}

#[tokio::test]
async fn what_is_too_old_goes_and_a_clock_set_back_drops_nothing() {
    let spool = in_memory(1 << 20, 10);
    for second in [0, 5, 12, 3] {
        push(&spool, second..second + 1);
    }
    assert_eq!(oldest(&spool, 10, 1000).await, [5, 12, 3]);
}

#[tokio::test]
async fn a_batch_is_bounded_and_never_empty() {
    let spool = in_memory(1 << 20, 1000);
    push(&spool, 0..10);
    assert_eq!(oldest(&spool, 3, 1000).await, [0, 1, 2]);
    assert_eq!(oldest(&spool, 100, 25).await, [0, 1]);
    assert_eq!(oldest(&spool, 100, 0).await, [0]);
    spool.acknowledge_newest(&spool.newest().unwrap());
    assert!(spool.newest().is_none());
    assert_eq!(drain(&spool).await, (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn memory_goes_to_disk_only_while_the_queen_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let spool = on_disk(directory.path());
    push(&spool, 0..3);
    assert!(spool.write_down().await);
    assert_eq!(places(&spool), (3, 0));
    spool.set_queen_away(true);
    assert!(spool.write_down().await);
    assert_eq!(places(&spool), (0, 3));
    assert_eq!(spool.len(), 3);
    assert_eq!(spool.queue().bytes, 0);
    spool.set_queen_away(false);
    push(&spool, 3..5);
    assert_eq!(drain(&spool).await, [0, 1, 2, 3, 4], "in order, from disk and from memory");
}

#[tokio::test]
async fn what_was_sent_as_the_newest_is_not_sent_again_from_disk() {
    let directory = tempfile::tempdir().unwrap();
    let spool = on_disk(directory.path());
    spool.set_queen_away(true);
    push(&spool, 0..3);
    assert!(spool.write_down().await);
    let newest = spool.newest().unwrap();
    assert_eq!(newest.entry.timestamp, at(2));
    spool.acknowledge_newest(&newest);
    assert_eq!(spool.len(), 2);
    assert_eq!(drain(&spool).await, [0, 1]);
    assert!(spool.is_empty());
    assert!(spool.queue().sent_on_disk.is_empty());
}

#[tokio::test]
async fn what_is_closed_waits_for_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let spool = on_disk(directory.path());
    push(&spool, 0..4);
    assert!(spool.close().await);
    drop(spool);
    let spool = on_disk(directory.path());
    push(&spool, 4..5);
    assert!(spool.write_down().await, "which opens it");
    assert_eq!(spool.newest().unwrap().entry.timestamp, at(4));
    assert_eq!(drain(&spool).await, [0, 1, 2, 3, 4]);
    assert!(!in_memory(1, 1).close().await);
}

#[tokio::test]
async fn without_the_disk_memory_keeps_it_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("spool");
    fs::write(&place, "a file in the way").unwrap();
    let spool = on_disk(&place);
    spool.set_queen_away(true);
    push(&spool, 0..3);
    assert!(!spool.write_down().await);
    let Standing { waiting, complaints } = spool.standing();
    let [complaint] = &complaints[..] else { panic!("{complaints:?}") };
    assert_eq!(waiting, 3);
    assert!(complaint.contains("spool: File exists"), "{complaint}");
    assert!(complaint.ends_with("3 heartbeats are kept in memory only"), "{complaint}");
    fs::remove_file(&place).unwrap();
    assert!(spool.write_down().await);
    assert_eq!(spool.standing(), Standing { waiting: 3, complaints: Vec::new() });
    assert_eq!(spool.queue().on_disk, 3);
}

#[tokio::test]
async fn losses_are_told_until_the_queen_has_heard_of_them() {
    let spool = in_memory(2 * (10 + ENTRY_BYTES), 1000);
    push(&spool, 0..3);
    assert_eq!(spool.standing().complaints, ["1 heartbeats were dropped, more than it may hold"]);
    push(&spool, 3..4);
    let teller = spool.newest().unwrap();
    let told = "2 heartbeats were dropped, more than it may hold";
    assert_eq!(spool.standing().complaints, [told]);
    push(&spool, 4..5);
    spool.acknowledge_newest(&teller);
    // The one that was acknowledged told of one of three.
    assert_eq!(spool.standing().complaints, [told]);
    push(&spool, 5..6);
    let newest = spool.newest().unwrap();
    spool.refuse_newest(&newest, "422 nonsense");
    let complaints = spool.standing().complaints;
    assert_eq!(complaints[1], "the queen refused 1 heartbeats: 422 nonsense");
}

proptest! {
    #[test]
    fn the_bounds_hold_and_nothing_is_lost_uncounted(
        steps in prop::collection::vec((0_usize..200, 0_u64..60, 0_u64..5), 0..80),
    ) {
        let spool = in_memory(1000, 1000);
        let (mut pushed, mut removed) = (0, 0);
        for (length, first, span) in steps {
            spool.push(at(0), Bytes::from(vec![b'x'; length]));
            pushed += 1;
            let before = spool.len();
            spool.queue().remove(&(first..=first + span));
            removed += before - spool.len();
            prop_assert!(spool.queue().bytes <= 1000);
            let held: u64 = spool.queue().entries.iter().map(|waiting| size(&waiting.entry)).sum();
            prop_assert_eq!(spool.queue().bytes, held);
            prop_assert_eq!(spool.len() + removed + spool.losses().dropped, pushed);
        }
    }
}
