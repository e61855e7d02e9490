//! The statements of sealing, prepared once.

use crate::history::raw::{Handle, Insert, RawError, Statement};

#[derive(Debug)]
pub(super) struct Statements {
    pub(super) sample: Insert,
    pub(super) sample_index: Insert,
    pub(super) gpu_sample: Insert,
    pub(super) heartbeat: Statement,
    pub(super) rollup_1m: Statement,
    pub(super) rollup_1h: Statement,
}

impl Statements {
    pub(super) fn prepare(handle: &mut Handle<'_>) -> Result<Self, RawError> {
        let sample = Insert::prepare(include_str!("../../../queries/insert_sample.sql"), handle)?;
        let sample_index =
            Insert::prepare(include_str!("../../../queries/insert_sample_index.sql"), handle)?;
        let gpu_sample =
            Insert::prepare(include_str!("../../../queries/insert_gpu_sample.sql"), handle)?;
        let mut prepare = |sql| Statement::prepare(sql, handle);
        Ok(Self {
            sample,
            sample_index,
            gpu_sample,
            heartbeat: prepare(include_str!("../../../queries/insert_heartbeat.sql"))?,
            rollup_1m: prepare(include_str!("../../../queries/insert_rollup_1m.sql"))?,
            rollup_1h: prepare(include_str!("../../../queries/insert_rollup_1h.sql"))?,
        })
    }
}
