//! A moment in milliseconds since the epoch; RFC 3339 UTC with milliseconds on the wire.

use chrono::{DateTime, SecondsFormat};
use compact_str::CompactString;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Milliseconds since 1970-01-01T00:00:00Z, between the years 1970 and 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The last millisecond of the year 9999: RFC 3339 knows no later year.
const MAX_MILLIS: i64 = 253_402_300_799_999;

/// A text or number that is no moment between 1970 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an RFC 3339 time between 1970 and 9999, such as 2025-10-30T18:30:00.000Z")]
pub struct InvalidTimestamp(String);

impl Timestamp {
    /// From milliseconds since the epoch; `None` outside the years 1970 to 9999.
    #[must_use]
    pub fn from_millis(millis: i64) -> Option<Self> {
        (0..=MAX_MILLIS).contains(&millis).then_some(Self(millis))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Milliseconds from `earlier` to this moment, negative if it is later.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }
}

impl std::str::FromStr for Timestamp {
    type Err = InvalidTimestamp;

    /// Any RFC 3339 time; finer fractions than a millisecond are cut off.
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        DateTime::parse_from_rfc3339(text)
            .ok()
            .and_then(|time| Self::from_millis(time.timestamp_millis()))
            .ok_or_else(|| InvalidTimestamp(text.chars().take(64).collect()))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = DateTime::from_timestamp_millis(self.0).unwrap_or_default();
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        CompactString::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn offsets_are_turned_into_utc() {
        let time: Timestamp = "2025-10-30T19:30:00.1239+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2025-10-30T18:30:00.123Z");
        assert!("1969-12-31T23:59:59Z".parse::<Timestamp>().is_err());
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    proptest! {
        #[test]
        fn a_moment_survives_its_text(millis in 0..=MAX_MILLIS) {
            let time = Timestamp::from_millis(millis).unwrap();
            prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
    }
}
