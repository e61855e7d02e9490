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

proptest! {
    #[test]
    fn the_choice_is_one_of_the_best_and_each_other_is_counted_once(
        candidates in prop::collection::vec(candidate(), 0..40),
        group in prop::option::of(0..2_u32),
        exclude in prop::collection::hash_set(0..6_u64, 0..3),
        required_vram in prop::option::of(0..4_u64),
        idle_only: bool,
        random: usize,
    ) {
        let filter = Filter { now_ms: NOW_MS, group, exclude: &exclude, required_vram, idle_only };
        let (best, considered) = choose(&candidates, &filter, |n| random % n);

        // The same in the words of the contract, one condition after the other.
        let mut left: Vec<(usize, &Candidate)> = candidates.iter().enumerate().collect();
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
        prop_assert_eq!(best.map(|at| candidates[at].rank), best_rank);
        prop_assert!(best.is_none_or(|best| left.iter().any(|(at, _)| *at == best)));
    }

    #[test]
    fn more_of_anything_bad_never_makes_a_worker_better(
        waiting in prop::option::of(0..5_u64),
        running in prop::option::of(0..5_u64),
        util in prop::option::of(0..=100_u64),
        vram in prop::option::of(0..1000_u64),
        requests in 0..5_u32,
        leased_vram in 0..2_000_000_u64,
    ) {
        let figures = |waiting: Option<u64>, running: Option<u64>, util: Option<u64>, vram: Option<u64>| {
            let worker = serde_json::json!({
                "pid": 1, "group": "g", "instance": "1", "requests_waiting": waiting,
                "requests_running": running, "gpu_util_pct": util, "vram_mb": vram,
                "total_vram_mb": 1000,
            });
            serde_json::from_value::<Worker>(worker).unwrap()
        };
        let leased = Leased { requests, vram: leased_vram };
        let it = figures(waiting, running, util, vram);
        let of = |worker: &Worker| rank(worker, leased);
        let more = |count: Option<u64>| count.map(|count| count + 1);
        prop_assert!(of(&figures(more(waiting), running, util, vram)) >= of(&it));
        prop_assert!(of(&figures(waiting, more(running), util, vram)) >= of(&it));
        prop_assert!(of(&figures(waiting, running, more(util.filter(|&u| u < 100)), vram)) >= of(&it));
        prop_assert!(of(&figures(waiting, running, util, more(vram))) >= of(&it));
        prop_assert!(of(&figures(waiting, running, None, vram)) >= of(&it));
        prop_assert!(of(&figures(waiting, running, util, None)) >= of(&it));
        let more_leased = Leased { requests: requests + 1, vram: leased_vram + 1 };
        prop_assert!(rank(&it, more_leased) > of(&it));
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
    let candidates = [worse, equal, worse, equal, equal, worse, equal];
    let filter = Filter {
        now_ms: NOW_MS,
        group: None,
        exclude: &HashSet::new(),
        required_vram: None,
        idle_only: true,
    };
    let mut random = fastrand::Rng::with_seed(7);
    let mut times = [0; 7];
    for _ in 0..8000 {
        let (best, _) = choose(&candidates, &filter, |n| random.usize(..n));
        times[best.unwrap()] += 1;
    }
    assert_eq!([times[0], times[2], times[5]], [0, 0, 0]);
    for at in [1, 3, 4, 6] {
        assert!((1800..2200).contains(&times[at]), "{times:?}");
    }
}

#[test]
fn a_refusal_says_why() {
    let exclude = HashSet::new();
    let wanted = Wanted {
        model: "m",
        required_vram: Mebibytes::from_integer(2048).ok(),
        group: Some("llm"),
        exclude: &[],
        idle_only: true,
    };
    let fit = Candidate {
        rank: Rank { requests: 0, gpu_util: 0, free_vram: Reverse(4_096_000) },
        live_from_ms: 0,
        live_until_ms: NOW_MS,
        key: 0,
        group: 0,
        leases: 0,
        idle: Some(true),
        routable: true,
    };
    let candidates = [
        Candidate { live_until_ms: NOW_MS - 1, ..fit },
        Candidate { live_from_ms: i64::MAX, live_until_ms: i64::MIN, ..fit },
        Candidate { idle: Some(false), ..fit },
        Candidate { idle: None, ..fit },
        Candidate { routable: false, ..fit },
        Candidate { leases: 1, ..fit },
        Candidate { rank: Rank { free_vram: Reverse(2_048_000), ..fit.rank }, ..fit },
        Candidate { rank: Rank { free_vram: Reverse(0), ..fit.rank }, ..fit },
    ];
    let filter = Filter {
        now_ms: NOW_MS,
        group: None,
        exclude: &exclude,
        required_vram: wanted.required_vram.map(Mebibytes::thousandths),
        idle_only: true,
    };
    let (best, mut considered) = choose(&candidates, &filter, |_| 0);
    assert_eq!(best, None);
    considered.workers += 1;
    considered.without_model += 1;
    assert_eq!(
        NoWorker::new(&wanted, considered).detail,
        "no worker can take a request for model \"m\" now: of 9 workers of group llm, \
         1 does not serve it, \
         2 on hives not heard lately (1 not since the queen started), \
         1 not routable (the instance is no port, so there is no URL), \
         2 not known to be idle (1 without a GPU utilisation), \
         1 leased to another request, \
         2 without 2048 MiB of free VRAM (the most free is 2048 MiB)"
    );
    assert_eq!(
        NoWorker::new(&wanted, Considered::default()).detail,
        "no worker can take a request for model \"m\" now: no worker of group llm is known yet"
    );
}
