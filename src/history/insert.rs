//! Many rows in one statement.
//!
//! Every statement costs a hand-over to the connection's thread and back, so few large ones
//! are far cheaper than many small ones. The numbers of rows are few, so that each statement
//! is prepared once and then found in the connection's cache.

use sqlx::Sqlite;
use sqlx::query_builder::Separated;

/// Rows in one statement, largest first. The widest row has 6 values, and SQLite takes 32,766
/// in one statement.
const ROWS: [usize; 4] = [512, 64, 8, 1];

/// The values of one row.
pub(super) type Values<'q> = Separated<'q, Sqlite, &'static str>;

/// Cuts rows into as few pieces as the sizes allow.
pub(super) fn pieces<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let size = ROWS.into_iter().find(|&size| size <= rest.len())?;
        let (piece, after) = rest.split_at(size);
        rest = after;
        Some(piece)
    })
}

/// A figure in thousandths as INTEGER where it is whole, else as REAL.
pub(super) fn bind_any(values: &mut Values<'_>, thousandths: Option<u64>) {
    match thousandths {
        Some(figure) if figure % 1000 != 0 => {
            values.push_bind(figure as f64 / 1000.0);
        }
        figure => {
            values.push_bind(figure.map(|figure| (figure / 1000).cast_signed()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_every_row_once() {
        let rows: Vec<usize> = (0..1234).collect();
        assert!(pieces(&rows).flatten().eq(&rows));
        assert_eq!(pieces(&rows).count(), 2 + 3 + 2 + 2);
        assert_eq!(pieces::<u8>(&[]).count(), 0);
    }
}
