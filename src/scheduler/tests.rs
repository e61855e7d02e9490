use proptest::prelude::*;

use super::*;

const NOW_MS: i64 = 100_000;

proptest! {
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
    let mut all = Candidates::default();
    candidates.into_iter().for_each(|candidate| {
        all.push(candidate);
    });
    let (best, mut considered) = all.choose(&filter, |_| 0);
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
