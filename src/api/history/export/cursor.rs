//! Where the next page of an export begins, as a text that needs no escaping in a URL.

use std::fmt;
use std::str::FromStr;

use hive_contract::HiveId;

use crate::history::export::Range;
use crate::history::readings::Place;

/// A place in the order of time and hive, not in the file: it stays good whatever is sealed,
/// and over a restart.
#[derive(Debug, Clone)]
pub(super) struct Cursor(pub(super) Range);

/// A text that is no cursor.
#[derive(Debug, thiserror::Error)]
#[error("not one from a Link header")]
pub(super) struct InvalidCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { after: Place { ts, hive }, end, through_id } = &self.0;
        write!(f, "{ts}-{end}-{}-{hive}", through_id.unwrap_or(i64::MAX))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let mut parts = text.splitn(4, '-');
        // Digits only: a sign would be a dash.
        let mut number = || parts.next()?.parse::<u64>().ok()?.try_into().ok();
        let (ts, end, through_id) = (number(), number(), number());
        let hive = parts.next().ok_or(InvalidCursor)?;
        if !hive.is_empty() {
            HiveId::new(hive).map_err(|_| InvalidCursor)?;
        }
        match (ts, end, through_id) {
            (Some(ts), Some(end), Some(through_id)) => Ok(Self(Range {
                after: Place { ts, hive: hive.into() },
                end,
                through_id: Some(through_id),
            })),
            _ => Err(InvalidCursor),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        for text in ["1764000000000-1764003600000-1764003599999999-gpu-7.lab", "0-1-2-"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in
            ["", "1", "1-2-3", "1-2-x-h", "1-2-3-a b", "-1-2-3-h", "99999999999999999999-1-1-h"]
        {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
