//! Times and sizes as people write them, within their bounds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A text that is no time or size within the bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// It is no time.
    #[error("{0:?} is not a time such as 500ms, 1s or 24h")]
    Time(String),
    /// The time is out of its bounds.
    #[error("{given} is not in {min} to {max}")]
    Bounds {
        /// As it was written.
        given: String,
        /// The shortest allowed.
        min: &'static str,
        /// The longest allowed.
        max: &'static str,
    },
    /// It is no size.
    #[error("{0:?} is not a size such as 16MiB or 4G")]
    Size(String),
}

fn time(text: &str) -> Result<Duration, InvalidValue> {
    humantime::parse_duration(text).map_err(|_| InvalidValue::Time(text.to_owned()))
}

/// How often heartbeats are collected: 100 ms to 60 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(Duration);

impl Interval {
    /// The interval.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl Default for Interval {
    fn default() -> Self {
        Self(Duration::from_secs(1))
    }
}

impl FromStr for Interval {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let interval = time(text)?;
        if (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&interval) {
            Ok(Self(interval))
        } else {
            Err(InvalidValue::Bounds { given: text.to_owned(), min: "100ms", max: "60s" })
        }
    }
}

/// How long unsent heartbeats are kept: 1 s to 365 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age(Duration);

impl Age {
    /// The age.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Age {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let age = time(text)?;
        if (Duration::from_secs(1)..=Duration::from_secs(365 * 24 * 60 * 60)).contains(&age) {
            Ok(Self(age))
        } else {
            Err(InvalidValue::Bounds { given: text.to_owned(), min: "1s", max: "365d" })
        }
    }
}

/// A number of bytes: `4096`, `64KiB`, `16MiB`, `4G`. All units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(u64);

impl ByteSize {
    /// The number of bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::Size(text.to_owned());
        let digits = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let (number, unit) = text.split_at(text.len() - digits.len());
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(invalid()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1 << shift).map(Self).ok_or_else(invalid);
        }
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let bytes = number * (1_u64 << shift) as f64;
        if bytes < u64::MAX as f64 { Ok(Self(bytes as u64)) } else { Err(invalid()) }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = |shift: &u32| self.0 >> shift << shift == self.0 && self.0 > 0;
        match units.iter().find(|(shift, _)| whole(shift)) {
            Some((shift, unit)) => write!(f, "{} {unit}", self.0 >> shift),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64KiB", 65536),
            ("16 MiB", 16 << 20),
            ("4G", 4 << 30),
            ("1.5g", 3 << 29),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap().bytes(), bytes, "{text}");
        }
        for text in ["", "-1", "G", "4X", "1.2.3", "99999999999G", "٣", "1e3", "NaN"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
        assert_eq!("4G".parse::<ByteSize>().unwrap().to_string(), "4 GiB");
        assert_eq!("1000".parse::<ByteSize>().unwrap().to_string(), "1000 bytes");
    }

    #[test]
    fn times_have_bounds() {
        assert_eq!("100ms".parse::<Interval>().unwrap().get(), Duration::from_millis(100));
        let error = "99ms".parse::<Interval>().unwrap_err();
        assert_eq!(error.to_string(), "99ms is not in 100ms to 60s");
        assert!("61s".parse::<Interval>().is_err());
        assert!("often".parse::<Interval>().is_err());
        assert!("0s".parse::<Age>().is_err());
        assert!("24h".parse::<Age>().is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "\\PC*") {
            let _ = text.parse::<ByteSize>();
            let _ = text.parse::<Interval>();
            let _ = text.parse::<Age>();
        }

        #[test]
        fn any_number_with_a_unit_is_taken_or_refused(text in "[0-9.]{0,30} ?[kKmMgGtT]?i?B?") {
            let _ = text.parse::<ByteSize>();
        }
    }
}
