use super::*;

fn moment(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

#[test]
fn timestamps_are_unique_also_within_a_millisecond() {
    let mut times = Times::Now { last_ms: 0 };
    let next: Vec<_> = [100, 100, 100, 99, 200].map(|now| times.next(moment(now))).into();
    assert_eq!(next, [100, 101, 102, 103, 200].map(|millis| Some(moment(millis))));
}

#[test]
fn a_made_up_history_ends_with_the_present() {
    let mut times = Times::Backdated { next_ms: 1_000, step_ms: 500 };
    let history: Vec<_> = std::iter::from_fn(|| times.next(moment(2_100))).collect();
    assert_eq!(history, [1_000, 1_500, 2_000].map(moment));
}

#[test]
fn after_a_stall_the_missed_ticks_are_skipped_and_the_pace_is_kept() {
    let from = Instant::now();
    let interval = Duration::from_secs(1);
    let mut now = from;
    let mut sent_ms = Vec::new();
    for tick in 0..10 {
        let due = from + interval * tick;
        now = now.max(due);
        if superseded(due, interval, now) {
            continue;
        }
        sent_ms.push((now - from).as_millis());
        // The answer to the second heartbeat takes 4.3 s.
        now += Duration::from_millis(if tick == 1 { 4_300 } else { 10 });
    }
    assert_eq!(sent_ms, [0, 1_000, 5_300, 6_000, 7_000, 8_000, 9_000]);
}
