//! Moments and lengths of time as people write them.

use hive_contract::Timestamp;

/// Whole numbers from here on are milliseconds, below seconds: 1973 in ms, the year 5138 in s.
const FROM_HERE_MS: f64 = 1e11;

/// A moment in ms since the epoch: RFC 3339, epoch seconds or milliseconds, `now`, `-1h`,
/// `now-1h`. The error says what is allowed.
pub(in crate::api) fn moment(text: &str, now: i64) -> Result<i64, String> {
    parsed(text, now).and_then(Timestamp::from_millis).map(Timestamp::millis).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        format!(
            "{shown:?} is not a time between 1970 and 9999: RFC 3339, epoch seconds or \
                 milliseconds, now, -1h or now-1h"
        )
    })
}

fn parsed(text: &str, now: i64) -> Option<i64> {
    let relative = text.strip_prefix("now").unwrap_or(text);
    if relative.is_empty() {
        return Some(now);
    }
    if let Some(span) = relative.strip_prefix('-').filter(|span| !is_number(span)) {
        return now.checked_sub(self::span(span)?);
    }
    if relative.len() < text.len() {
        // In a URL a plus sign that is not encoded arrives as a blank.
        return now.checked_add(span(relative.strip_prefix(['+', ' '])?)?);
    }
    if is_number(text) {
        let number: f64 = text.parse().ok()?;
        let millis = if number >= FROM_HERE_MS { number } else { number * 1000.0 };
        return (millis < 1e15).then_some(millis.round() as i64);
    }
    let text = text.replace(' ', "+");
    text.parse::<Timestamp>().ok().map(Timestamp::millis)
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// A length of time in ms: `15s`, `1h30m`, `1d`; without a unit, seconds.
pub(in crate::api) fn span(text: &str) -> Option<i64> {
    if is_number(text) {
        let seconds: f64 = text.parse().ok()?;
        return (seconds < 1e12).then_some((seconds * 1000.0).round() as i64);
    }
    let (mut sum, mut rest) = (0_i64, text);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return None,
        };
        rest = &rest[letters..];
        sum = sum.checked_add(number.checked_mul(unit)?)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_764_000_000_000;

    #[test]
    fn every_way_of_writing_a_moment() {
        let at = |text| moment(text, NOW).unwrap();
        assert_eq!(at("now"), NOW);
        assert_eq!(at("-1h"), NOW - 3_600_000);
        assert_eq!(at("now-90s"), NOW - 90_000);
        assert_eq!(at("now-1h30m"), NOW - 5_400_000);
        assert_eq!(at("now+5m"), NOW + 300_000);
        assert_eq!(at("now 5m"), NOW + 300_000);
        assert_eq!(at("1764000000"), NOW);
        assert_eq!(at("1764000000.25"), NOW + 250);
        assert_eq!(at("1764000000000"), NOW);
        assert_eq!(at("100000000000"), 100_000_000_000);
        assert_eq!(at("99999999999"), 99_999_999_999_000);
        assert_eq!(at("0"), 0);
        assert_eq!(at("2025-11-24T16:00:00Z"), NOW);
        assert_eq!(at("2025-11-24T17:00:00+01:00"), NOW);
        assert_eq!(at("2025-11-24T17:00:00 01:00"), NOW);
        for text in ["", "-", "yesterday", "-1", "-1x", "now-", "nowish", "1e9", "-99999y", "1.2.3"]
        {
            if !text.is_empty() {
                assert!(moment(text, NOW).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn every_way_of_writing_a_length() {
        assert_eq!(span("15s"), Some(15_000));
        assert_eq!(span("1m"), Some(60_000));
        assert_eq!(span("1h30m"), Some(5_400_000));
        assert_eq!(span("500ms"), Some(500));
        assert_eq!(span("30"), Some(30_000));
        for text in ["", "s", "1x", "1M", "-1s", "1 s", "9999999999999y", "1m2"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_moment_or_an_error(text in ".{0,30}") {
            let _ = moment(&text, NOW);
            let _ = span(&text);
        }
    }
}
