//! What stores heartbeats in the live part.

use std::collections::HashMap;

use crate::history::codec;
use crate::history::raw::{Handle, RawError, Statement};

/// A heartbeat as it is stored.
pub(super) struct LiveRow {
    pub(super) id: i64,
    pub(super) hive: i64,
    /// ms since the epoch.
    pub(super) ts: i64,
    /// Its hive had a newer one already.
    pub(super) late: bool,
    pub(super) arrays: codec::Arrays,
}

/// The writer's statements, prepared once.
#[derive(Debug)]
pub(super) struct Statements {
    live: Statement,
    newest: Statement,
}

impl Statements {
    pub(super) fn prepare(handle: &mut Handle<'_>) -> Result<Self, RawError> {
        Ok(Self {
            live: Statement::prepare(include_str!("../../../queries/insert_live.sql"), handle)?,
            newest: Statement::prepare(include_str!("../../../queries/upsert_newest.sql"), handle)?,
        })
    }

    pub(super) fn insert(
        &mut self,
        rows: &[LiveRow],
        handle: &mut Handle<'_>,
    ) -> Result<(), RawError> {
        let mut newest: HashMap<i64, &LiveRow> = HashMap::with_capacity(rows.len());
        for row in rows {
            self.live.execute(handle, |values| {
                values.integer(row.id).integer(row.hive).integer(row.ts);
                values.text(&row.arrays.samples).text(&row.arrays.gpus).text(&row.arrays.node);
                values.integer(row.late.into());
            })?;
            let entry = newest.entry(row.hive).or_insert(row);
            if row.ts > entry.ts {
                *entry = row;
            }
        }
        for row in newest.into_values() {
            self.newest.execute(handle, |values| {
                values.integer(row.hive).integer(row.ts).integer(row.id);
            })?;
        }
        Ok(())
    }
}
