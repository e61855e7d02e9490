//! How long the number of a name is used before it is looked up again.

/// A day since the epoch.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::history) struct Day(i64);

impl Day {
    /// That of a moment in ms since the epoch.
    pub(in crate::history) fn of(ms: i64) -> Self {
        Self(ms.div_euclid(86_400_000))
    }

    /// That of a hive, which begins at some time of the day.
    pub(super) fn of_hive(hive: i64, ms: i64) -> Self {
        // The golden ratio spreads numbers that follow each other.
        let place = hive.wrapping_mul(40_503).rem_euclid(1 << 16);
        Self::of(ms + place * 86_400_000 / (1 << 16))
    }

    /// The last on which a number that is looked up at this moment may be used.
    pub(super) fn last_of_use(ms: i64) -> Self {
        Self(Self::of(ms).0 + 1)
    }

    /// As the file has it.
    pub(in crate::history) fn number(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_used_no_longer_than_its_row_says(
            hive in 1_i64..1 << 40,
            looked_up in 0_i64..1 << 42,
            later in 0_i64..3 * 86_400_000,
        ) {
            let used = looked_up + later;
            if Day::of_hive(hive, used) == Day::of_hive(hive, looked_up) {
                prop_assert!(later < 86_400_000);
                prop_assert!(Day::of(used) <= Day::last_of_use(looked_up));
            }
        }

        #[test]
        fn the_days_of_a_fleet_begin_at_all_times(first in 1_i64..1 << 40, now in 0_i64..1 << 42) {
            // Of a thousand hives whose numbers follow each other, so many begin in each hour.
            let mut hours = [0; 24];
            for hive in first..first + 1000 {
                let begins = (0..24_i64).find(|hour| {
                    let at = |hour: i64| Day::of_hive(hive, now + hour * 3_600_000);
                    at(*hour) != at(hour + 1)
                });
                hours[begins.unwrap() as usize] += 1;
            }
            prop_assert_eq!(hours.iter().sum::<i32>(), 1000);
            prop_assert!(hours.iter().all(|hives| (35..=50).contains(hives)), "{:?}", hours);
        }
    }
}
