use std::cmp::Reverse;
use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const NOW_MS: i64 = 100_000;

fn candidate() -> impl Strategy<Value = Candidate> {
    let rank = (0..4_u32, 0..3_u32, 0..4_u64).prop_map(|(requests, gpu_util, free)| Rank {
        requests,
        gpu_util,
        free_vram: Reverse(free),
    });
    let live = prop_oneof![
        8 => Just((0, NOW_MS)),
        1 => Just((0, NOW_MS - 1)),
        1 => Just((NOW_MS + 1, i64::MAX)),
        1 => Just((i64::MAX, i64::MIN)),
    ];
    let leases = prop_oneof![4 => Just(0), 2 => 1..4_u32, 1 => Just(MAX_LEASES_PER_WORKER)];
    let idle = prop_oneof![2 => Just(Some(true)), 1 => Just(Some(false)), 1 => Just(None)];
    (rank, live, 0..6_u64, 0..2_u32, leases, idle, prop::bool::weighted(0.9)).prop_map(
        |(rank, (live_from_ms, live_until_ms), key, group, leases, idle, routable)| Candidate {
            rank,
            live_from_ms,
            live_until_ms,
            key,
            group,
            leases,
            idle,
            routable,
        },
    )
}

/// What happens to a list, and the same to a plain one.
fn change(
    candidates: &mut Candidates,
    plain: &mut Vec<Candidate>,
    at: usize,
    by: Option<Candidate>,
) {
    match by {
        Some(candidate) if at.is_multiple_of(3) || plain.is_empty() => {
            assert_eq!(candidates.push(candidate), plain.len());
            plain.push(candidate);
        }
        Some(candidate) => {
            let at = at % plain.len();
            candidates.set(at, candidate);
            plain[at] = candidate;
        }
        None if plain.is_empty() => {}
        None => {
            let at = at % plain.len();
            candidates.swap_remove(at);
            plain.swap_remove(at);
        }
    }
}

proptest! {
    #[test]
    fn the_choice_is_one_of_the_best_and_each_other_is_counted_once(
        mut plain in prop::collection::vec(candidate(), 0..300),
        changes in prop::collection::vec((any::<usize>(), prop::option::of(candidate())), 0..100),
        // Live hives and one group, as it mostly is: whole blocks are then taken by their summary.
        alike in 0..150_usize,
        group in prop::option::of(0..2_u32),
        exclude in prop::collection::hash_set(0..6_u64, 0..3),
        required_vram in prop::option::of(0..4_u64),
        idle_only: bool,
        random: usize,
    ) {
        let mut candidates = Candidates::default();
        plain.iter().for_each(|candidate| { candidates.push(*candidate); });
        for (at, by) in changes {
            change(&mut candidates, &mut plain, at, by);
        }
        for (at, candidate) in plain.iter_mut().take(alike).enumerate() {
            *candidate = Candidate { live_from_ms: 0, live_until_ms: NOW_MS, group: 0, ..*candidate };
            candidates.set(at, *candidate);
        }
        let filter = Filter { now_ms: NOW_MS, group, exclude: &exclude, required_vram, idle_only };
        let (best, considered) = candidates.choose(&filter, |n| random % n);

        // The same in the words of the contract, one condition after the other.
        let mut left: Vec<(usize, &Candidate)> = plain.iter().enumerate().collect();
        left.retain(|(_, c)| group.is_none_or(|group| c.group == group));
        prop_assert_eq!(considered.workers, left.len());
        let mut count = |condition: &dyn Fn(&Candidate) -> bool| {
            let before = left.len();
            left.retain(|(_, c)| !condition(c));
            before - left.len()
        };
        let not_live = |c: &Candidate| NOW_MS < c.live_from_ms || NOW_MS > c.live_until_ms;
        prop_assert_eq!(considered.not_live, count(&not_live));
        prop_assert_eq!(considered.excluded, count(&|c| exclude.contains(&c.key)));
        prop_assert_eq!(considered.not_routable, count(&|c| !c.routable));
        prop_assert_eq!(considered.busy, count(&|c| idle_only && c.idle != Some(true)));
        let most = if idle_only { 0 } else { MAX_LEASES_PER_WORKER - 1 };
        prop_assert_eq!(considered.leased, count(&|c| c.leases > most));
        let no_room = |c: &Candidate| required_vram.is_some_and(|need| c.rank.free_vram.0 <= need);
        prop_assert_eq!(considered.no_capacity, count(&no_room));
        prop_assert_eq!(considered.without_model, 0);

        let best_rank = left.iter().map(|(_, c)| c.rank).min();
        prop_assert_eq!(best.map(|at| plain[at].rank), best_rank);
        prop_assert!(best.is_none_or(|best| left.iter().any(|(at, _)| *at == best)));
    }
}

#[test]
fn equals_are_chosen_equally_often() {
    let equal = Candidate {
        rank: Rank { requests: 0, gpu_util: 0, free_vram: Reverse(1) },
        live_from_ms: 0,
        live_until_ms: NOW_MS,
        key: 0,
        group: 0,
        leases: 0,
        idle: Some(true),
        routable: true,
    };
    let worse = Candidate { rank: Rank { gpu_util: 1, ..equal.rank }, ..equal };
    // Equals in one block, in another one, and in one that is looked into.
    let mut plain = vec![worse; 4 * BLOCK];
    let places = [1, 3, 2 * BLOCK, 3 * BLOCK + 7];
    places.into_iter().for_each(|at| plain[at] = equal);
    plain[3 * BLOCK].live_until_ms = 0;
    let mut candidates = Candidates::default();
    plain.iter().for_each(|candidate| {
        candidates.push(*candidate);
    });
    let filter = Filter {
        now_ms: NOW_MS,
        group: None,
        exclude: &HashSet::new(),
        required_vram: None,
        idle_only: true,
    };
    let mut random = fastrand::Rng::with_seed(7);
    let mut times = vec![0; plain.len()];
    for _ in 0..8000 {
        let (best, _) = candidates.choose(&filter, |n| random.usize(..n));
        times[best.unwrap()] += 1;
    }
    let given = places.map(|at| times[at]);
    assert_eq!(given.iter().sum::<i32>(), 8000, "no other one is ever chosen");
    assert!(given.iter().all(|times| (1800..2200).contains(times)), "{given:?}");
}
