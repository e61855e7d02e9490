//! How much GPU memory each model needs, learned from the history in the background.
//!
//! Invariant: whoever asks never waits for the file.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hive_contract::text::ModelName;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::history::Reader;
use crate::history::vram::{self, Estimate};

/// Time between two looks at the history.
const PERIOD: Duration = Duration::from_mins(1);
/// Looking takes at most this part of the time.
const ONE_IN: u32 = 50;

/// The newest estimates. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Estimates(Arc<RwLock<HashMap<ModelName, Estimate>>>);

impl Estimates {
    /// That of a model, once there is history of it.
    #[must_use]
    pub fn get(&self, model: &str) -> Option<Estimate> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(model).copied()
    }

    /// Looks at the history at once and then again and again, until it is stopped.
    pub(crate) async fn keep_fresh(self, reader: Reader, clock: Clock, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let begun = clock.monotonic_ms();
            match vram::estimates(&reader, clock.now().millis(), &stop).await {
                Ok(Some(fresh)) => *self.0.write().unwrap_or_else(PoisonError::into_inner) = fresh,
                Ok(None) => return,
                // The last ones stand meanwhile.
                Err(error) => {
                    tracing::warn!(error = %error, "what models need cannot be learned now");
                }
            }
            let took = Duration::from_millis((clock.monotonic_ms() - begun).unsigned_abs());
            let pause = tokio::time::sleep(PERIOD.max(took * ONE_IN));
            tokio::select! { () = stop.cancelled() => return, () = pause => {} }
        }
    }
}
