//! How much a worker may use, as people write it and as the kernel does.

use std::fmt;
use std::str::FromStr;

/// A limit of processor time in percent: 100 is one core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuLimit {
    percent: u32,
}

/// A text that is no limit of processor time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a share of processor time such as 50% or 200%, from 1% to 1000000%")]
pub struct InvalidCpuLimit(String);

const PERIOD_US: u64 = 100_000;

impl CpuLimit {
    /// The content of `cpu.max`: so many microseconds in every period.
    pub(super) fn cpu_max(self) -> String {
        format!("{} {PERIOD_US}", u64::from(self.percent) * PERIOD_US / 100)
    }
}

impl FromStr for CpuLimit {
    type Err = InvalidCpuLimit;
    fn from_str(text: &str) -> Result<Self, InvalidCpuLimit> {
        let percent = text.strip_suffix('%').and_then(|number| number.trim().parse().ok());
        match percent {
            Some(percent @ 1..=1_000_000) => Ok(Self { percent }),
            _ => Err(InvalidCpuLimit(text.to_owned())),
        }
    }
}

impl fmt::Display for CpuLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_percentage() {
        assert_eq!("200%".parse::<CpuLimit>().unwrap().cpu_max(), "200000 100000");
        assert_eq!("1%".parse::<CpuLimit>().unwrap().cpu_max(), "1000 100000");
        for text in ["", "%", "200", "0%", "-1%", "1.5%", "99999999999%"] {
            assert!(text.parse::<CpuLimit>().is_err(), "{text}");
        }
    }
}
