//! Removes what was given up half-way, by a crash or for want of disk.

use sqlx::SqliteConnection;

use super::transaction;

/// Removes the rows of unlisted blocks and hours, and the live rows that stand in listed blocks.
pub(super) async fn clean(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    transaction::begin(connection).await?;
    let c = &mut *connection;
    let last = sqlx::query_file!("queries/last_block.sql").fetch_optional(&mut *c).await?;
    let (last, end_row) = last.map_or((0, 0), |last| (last.block, last.end_row));
    sqlx::query_file!("queries/delete_unlisted_samples.sql", end_row).execute(&mut *c).await?;
    sqlx::query_file!("queries/delete_unlisted_sample_index.sql", last).execute(&mut *c).await?;
    sqlx::query_file!("queries/delete_unlisted_gpu_samples.sql", last).execute(&mut *c).await?;
    sqlx::query_file!("queries/delete_unlisted_heartbeats.sql", last).execute(&mut *c).await?;
    sqlx::query_file!("queries/delete_unlisted_rollups.sql", last).execute(&mut *c).await?;
    let progress = sqlx::query_file!("queries/progress.sql").fetch_one(&mut *c).await?;
    sqlx::query_file!("queries/delete_unrolled_hours.sql", progress.rolled_ts)
        .execute(&mut *c)
        .await?;
    sqlx::query_file!("queries/delete_all_sealed.sql", progress.sealed_id, progress.sealed_ts)
        .execute(&mut *c)
        .await?;
    transaction::commit(connection).await
}
