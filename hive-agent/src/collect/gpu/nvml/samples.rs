//! Utilisation by process, out of the samples that the driver buffers.
//!
//! The driver takes a sample of every process that had a kernel running, up to six times a
//! second, and hands out those since a given moment; one that idles has none. Asked for all of
//! them (since 0) it gives averages over its whole buffer, which are minutes old. Drivers were
//! seen to hand out garbage: utilisations in the billions, times that are 0 or in the future,
//! processes that are not there.
//!
//! A GPU that works while none of its processes has a sample contradicts itself: then nothing is
//! known of them. Only with the GPU idle, or with samples of others, is a process without one
//! idle.
//!
//! Invariant: the moment since which samples are asked for never moves ahead of the clock, so
//! a garbage time cannot silence a GPU.

use hive_contract::units::Percent;

/// How far the driver's clock may be ahead of ours, in µs.
const MAX_AHEAD_US: u64 = 2_000_000;
/// The first samples are those of the last second.
const FIRST_US: u64 = 1_000_000;
/// Where a GPU works but has no new samples, the last ones hold so long: it samples more rarely
/// than it is asked.
const HOLD_US: u64 = 2_000_000;

/// One sample, as the driver gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) pid: u32,
    /// Microseconds since the epoch.
    pub(super) at_us: u64,
    pub(super) util_pct: u32,
}

/// The utilisation of one GPU's processes from reading to reading.
#[derive(Debug, Default)]
pub(super) struct Samples {
    last_us: Option<u64>,
    /// When the shares were taken.
    taken_us: u64,
    /// `None` while nothing is known.
    shares: Option<Vec<(u32, u32)>>,
}

impl Samples {
    /// The moment since which to ask for samples, in µs since the epoch.
    pub(super) fn since(&mut self, now_us: u64) -> u64 {
        // The clock was set back: what was seen before says nothing any more.
        self.last_us = self.last_us.filter(|&last_us| last_us <= now_us + MAX_AHEAD_US);
        self.last_us.unwrap_or_else(|| now_us.saturating_sub(FIRST_US))
    }

    /// Takes what the driver gave for that moment. `is_idle` says that nothing is known of the
    /// GPU as a whole having worked.
    pub(super) fn take(
        &mut self,
        samples: &[Sample],
        is_listed: impl Fn(u32) -> bool,
        is_idle: bool,
        now_us: u64,
    ) {
        let since = self.since(now_us);
        let is_sound = |sample: &&Sample| {
            sample.util_pct <= 100
                && (since + 1..=now_us + MAX_AHEAD_US).contains(&sample.at_us)
                && is_listed(sample.pid)
        };
        let mut newest = None;
        let mut shares: Vec<(u32, u32)> = Vec::new();
        for sample in samples.iter().filter(is_sound) {
            newest = newest.max(Some(sample.at_us));
            match shares.iter_mut().find(|(pid, _)| *pid == sample.pid) {
                Some((_, share)) => *share = sample.util_pct.max(*share),
                None => shares.push((sample.pid, sample.util_pct)),
            }
        }
        let is_held = !is_idle && now_us.saturating_sub(self.taken_us) <= HOLD_US;
        if newest.is_some() || !is_held {
            self.shares = (newest.is_some() || is_idle).then_some(shares);
            self.taken_us = now_us;
        }
        self.last_us = newest.or(self.last_us);
    }

    /// The utilisation of a process that is listed on the GPU.
    pub(super) fn of(&self, pid: u32) -> Option<Percent> {
        let share = self.shares.as_ref()?.iter().find(|(known, _)| *known == pid);
        Percent::from_integer(share.map_or(0, |(_, share)| u64::from(*share))).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Some moment of the year 2026, in µs.
    const NOW: u64 = 1_790_000_000_000_000;
    const S: u64 = 1_000_000;

    fn sample(pid: u32, at_us: u64, util_pct: u32) -> Sample {
        Sample { pid, at_us, util_pct }
    }

    fn of(samples: &Samples, pid: u32) -> Option<f64> {
        samples.of(pid).map(Percent::get)
    }

    #[test]
    fn the_driver_is_asked_for_what_is_new() {
        let mut samples = Samples::default();
        assert_eq!(samples.since(NOW), NOW - S, "never 0: that would be averages of minutes");
        samples.take(&[sample(7, NOW - 5, 40), sample(7, NOW - 9, 60)], |_| true, false, NOW);
        assert_eq!(of(&samples, 7), Some(60.0), "the most of the samples");
        assert_eq!(of(&samples, 8), Some(0.0), "listed and without a sample: idle");
        assert_eq!(samples.since(NOW + S), NOW - 5);
    }

    #[test]
    fn garbage_is_left_out_and_does_not_silence_the_gpu() {
        let mut samples = Samples::default();
        let garbage = [
            sample(7, NOW, 4_000_000_000),
            sample(7, NOW, 101),
            sample(7, u64::MAX, 50),
            sample(7, NOW + 60 * S, 50),
            sample(7, 0, 50),
            sample(7, NOW - S, 50),
            sample(9, NOW, 50),
        ];
        samples.take(&garbage, |pid| pid == 7, false, NOW);
        assert_eq!((of(&samples, 7), of(&samples, 9)), (None, None));
        samples.take(&[sample(7, NOW + S, 30)], |_| true, false, NOW + S);
        assert_eq!(of(&samples, 7), Some(30.0));
    }

    #[test]
    fn the_last_samples_hold_while_the_gpu_works_but_not_for_long() {
        let mut samples = Samples::default();
        samples.take(&[sample(7, NOW, 90)], |_| true, false, NOW);
        samples.take(&[], |_| true, false, NOW + S);
        assert_eq!(of(&samples, 7), Some(90.0), "it samples more rarely than it is asked");
        samples.take(&[], |_| true, true, NOW + S + 1);
        assert_eq!(of(&samples, 7), Some(0.0), "the GPU says that it does nothing");

        samples.take(&[sample(7, NOW + 2 * S, 90)], |_| true, false, NOW + 2 * S);
        samples.take(&[], |_| true, false, NOW + 5 * S);
        assert_eq!(of(&samples, 7), None, "it works, and nobody says for whom");
    }

    #[test]
    fn a_clock_set_back_does_not_silence_the_gpu() {
        let mut samples = Samples::default();
        samples.take(&[sample(7, NOW, 90)], |_| true, false, NOW);
        let earlier = NOW - 3600 * S;
        assert_eq!(samples.since(earlier), earlier - S);
        samples.take(&[sample(7, earlier, 20)], |_| true, false, earlier);
        assert_eq!(of(&samples, 7), Some(20.0));
    }

    proptest! {
        #[test]
        fn any_samples_give_a_share_and_never_get_ahead_of_the_clock(
            given in proptest::collection::vec((0_u32..4, any::<u64>(), any::<u32>()), 0..20),
            near in proptest::collection::vec((0_u32..4, NOW - 3 * S..NOW + 9 * S, 0_u32..200), 0..20),
            later in 0..10 * S,
        ) {
            let mut samples = Samples::default();
            let given: Vec<Sample> =
                given.into_iter().chain(near).map(|(pid, at, util)| sample(pid, at, util)).collect();
            samples.take(&given, |pid| pid != 3, false, NOW);
            samples.take(&given, |pid| pid != 3, false, NOW + later);
            prop_assert!(samples.since(NOW + later) <= NOW + later + MAX_AHEAD_US);
            prop_assert!((0..4).all(|pid| of(&samples, pid).is_none_or(|util| util <= 100.0)));
            prop_assert!(of(&samples, 3).is_none_or(|util| util == 0.0));
        }
    }
}
