//! Rows as they come, and lists of numbers packed into one text.
//!
//! A row costs about as much on its way from SQLite as thirty numbers in it, so statements pack
//! many readings into one row.

use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use sqlx::sqlite::SqliteRow;

/// Calls with each row, leaving the thread to others from time to time.
pub(super) async fn for_each(
    mut rows: BoxStream<'_, sqlx::Result<SqliteRow>>,
    mut call: impl FnMut(&SqliteRow) -> sqlx::Result<()>,
) -> sqlx::Result<()> {
    while let Some(row) = rows.try_next().await? {
        call(&row)?;
        tokio::task::coop::consume_budget().await;
    }
    Ok(())
}

/// The fields of a text such as `1,22,,4`: none in an empty text would be one empty field.
pub(super) fn fields(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b',')
}

/// A whole number, if it is one.
#[inline]
pub(super) fn integer(field: &[u8]) -> Option<i64> {
    let (digits, sign) = match field {
        [b'-', digits @ ..] => (digits, -1),
        digits => (digits, 1),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut number = 0;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + i64::from(digit);
    }
    Some(number * sign)
}

/// A figure in thousandths, from its decimal form; none if it is not known.
#[inline]
pub(super) fn thousandths(field: &[u8]) -> Option<u64> {
    if let Some(whole) = integer(field) {
        return u64::try_from(whole).ok()?.checked_mul(1000);
    }
    let figure: f64 = std::str::from_utf8(field).ok()?.parse().ok()?;
    (figure >= 0.0).then(|| (figure * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read() {
        let numbers: Vec<_> = fields(b"1,-22,,x,4").map(integer).collect();
        assert_eq!(numbers, [Some(1), Some(-22), None, None, Some(4)]);
        assert_eq!(thousandths(b"45.2"), Some(45_200));
        assert_eq!(thousandths(b"8192"), Some(8_192_000));
        assert_eq!(thousandths(b"0"), Some(0));
        assert_eq!(thousandths(b"9007199254740991"), Some(9_007_199_254_740_991_000));
        assert_eq!(thousandths(b""), None);
        assert_eq!(thousandths(b"null"), None);
        assert_eq!(thousandths(b"-1"), None);
    }
}
