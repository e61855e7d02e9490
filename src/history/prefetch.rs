//! Tells the system which pages of a table will be read, so that the disk gives them together and in
//! their order: a walk through a table of which nothing is in memory waits for page after page.
//!
//! Invariant: only a hint. Pages that stand newer in the log are not seen, and what is not as
//! expected is left out.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

/// Levels of a table that are looked at: enough for more rows than fit into a file.
const LEVELS: usize = 8;
/// Pages at most: 256 MiB, several times the live part.
const PAGES: usize = 65_536;
/// Pages between two that are wanted that are read with them rather than left out.
const GAP: u64 = 16;
/// The system takes no more than this of one hint.
const PIECE_BYTES: u64 = 128 << 10;
/// The first byte of an inner page of a table.
const INNER: u8 = 5;
/// Where the numbers of the cells begin on an inner page.
const CELLS: usize = 12;

/// Asks for the pages of the table with this root.
pub(super) fn table(path: &Path, root: u32) -> io::Result<()> {
    let file = File::open(path)?;
    let mut header = [0; 18];
    file.read_exact_at(&mut header, 0)?;
    let size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    let mut page = vec![0; usize::try_from(size).unwrap_or_default()];
    let mut level = vec![u64::from(root)];
    for _ in 0..LEVELS {
        let mut next = Vec::new();
        for number in level {
            file.read_exact_at(&mut page, number.saturating_sub(1) * size)?;
            if page.first() != Some(&INNER) || next.len() > PAGES {
                break;
            }
            next.extend(children(&page));
        }
        if next.is_empty() {
            break;
        }
        next.sort_unstable();
        want(&file, &next, size)?;
        level = next;
    }
    Ok(())
}

/// The pages below an inner page.
fn children(page: &[u8]) -> impl Iterator<Item = u64> {
    let cells = page.get(3..5).map_or(0, |n| usize::from(u16::from_be_bytes([n[0], n[1]])));
    let number = |at: usize| {
        let bytes = page.get(at..at + 4)?;
        Some(u64::from(u32::from_be_bytes(bytes.try_into().ok()?)))
    };
    let left = (0..cells).filter_map(move |cell| {
        let at = page.get(CELLS + 2 * cell..CELLS + 2 * cell + 2)?;
        number(usize::from(u16::from_be_bytes([at[0], at[1]])))
    });
    left.chain(number(8))
}

/// Asks for pages, whose numbers grow, in stretches.
fn want(file: &File, pages: &[u64], size: u64) -> io::Result<()> {
    for stretch in pages.chunk_by(|a, b| b - a <= GAP) {
        let (Some(first), Some(last)) = (stretch.first(), stretch.last()) else { continue };
        let (mut from, end) = (first.saturating_sub(1) * size, last * size);
        while from < end {
            fadvise(file, from, NonZeroU64::new(PIECE_BYTES.min(end - from)), Advice::WillNeed)?;
            from += PIECE_BYTES;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
    use sqlx::{AssertSqlSafe, ConnectOptions};

    use super::*;

    #[tokio::test]
    async fn the_pages_below_a_root_are_all_of_its_table() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut connection: SqliteConnection = options.connect().await.unwrap();
        let script = "CREATE TABLE other (x); CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT);
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000)
             INSERT INTO t SELECT n, hex(zeroblob(1000)) FROM n";
        sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut connection).await.unwrap();
        let root: u32 = sqlx::query_scalar("SELECT rootpage FROM sqlite_schema WHERE name = 't'")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        let pages: u64 =
            sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut connection).await.unwrap();
        let file = File::open(&path).unwrap();
        let mut page = vec![0; 4096];
        file.read_exact_at(&mut page, u64::from(root - 1) * 4096).unwrap();
        let below: BTreeSet<u64> = children(&page).collect();
        // All but the first page and the two roots.
        assert_eq!(below.len() as u64, pages - 3);
        assert!(below.iter().all(|number| (2..=pages).contains(number)));
        table(&path, root).unwrap();
    }
}
