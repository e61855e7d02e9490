//! Reading kernel text byte by byte, without allocating.
//!
//! Invariant: any bytes give a value or `None`, never a panic.

/// A whole decimal number and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// The whole lines of a text. What stands behind the last line break is torn: half a number is
/// another number.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = text.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
    text[..end].split(|&byte| byte == b'\n')
}

/// What stands between blanks.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// The number on the line that starts with `key`: `key 123` or `key: 123 kB`.
pub(super) fn keyed(text: &[u8], key: &str) -> Option<u64> {
    lines(text).find_map(|line| {
        let rest = line.strip_prefix(key.as_bytes())?;
        let rest = rest.strip_prefix(b":").unwrap_or(rest);
        if !rest.first()?.is_ascii_whitespace() {
            return None;
        }
        number(words(rest).next()?)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_digits_only() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for wrong in ["", "-1", "+1", "1.5", " 1", "1 ", "18446744073709551616", "1e3", "x"] {
            assert_eq!(number(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_key_is_matched_whole() {
        let text = b"anon_thp 9\nanon 7\nMemTotal:       16 kB\nMemTotalX: 1 kB\nbroken\n";
        assert_eq!(keyed(text, "anon"), Some(7));
        assert_eq!(keyed(text, "MemTotal"), Some(16));
        assert_eq!(keyed(text, "broken"), None);
        assert_eq!(keyed(text, "absent"), None);
    }

    #[test]
    fn a_line_without_its_end_is_torn() {
        assert_eq!(keyed(b"anon 1234\nfile_mapped 56\n", "file_mapped"), Some(56));
        assert_eq!(keyed(b"anon 1234\nfile_mapped 5", "file_mapped"), None);
        assert_eq!(keyed(b"anon 12", "anon"), None);
        assert_eq!(lines(b"a\nb\nc").collect::<Vec<_>>(), [b"a", b"b"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, key in "[a-z_]{0,8}") {
            let _ = number(&bytes);
            let _ = keyed(&bytes, &key);
            prop_assert!(lines(&bytes).flat_map(words).all(|word| !word.is_empty()));
        }

        #[test]
        fn every_number_survives(value: u64) {
            prop_assert_eq!(number(value.to_string().as_bytes()), Some(value));
        }
    }
}
