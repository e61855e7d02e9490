//! The figures of servers that answer in JSON of their own.

use serde::Deserialize;

use super::Figures;

#[derive(Deserialize)]
struct Slot {
    is_processing: bool,
}

/// The slots of llama-server: each works on one request or none. What waits is not said.
pub(super) fn slots(body: &[u8]) -> Option<Figures> {
    let slots: Vec<Slot> = serde_json::from_slice(body).ok()?;
    let running = slots.iter().filter(|slot| slot.is_processing).count();
    Some(Figures { running: Some(running as f64), ..Figures::default() })
}

#[derive(Deserialize)]
struct KoboldPerf {
    queue: u32,
    idle: u32,
}

/// KoboldCpp works on one request at a time.
pub(super) fn kobold_perf(body: &[u8]) -> Option<Figures> {
    let KoboldPerf { queue, idle } = serde_json::from_slice(body).ok()?;
    let running = if idle == 0 { 1.0 } else { 0.0 };
    Some(Figures { running: Some(running), waiting: Some(queue.into()), kv_cache_pct: None })
}

#[derive(Deserialize)]
struct ComfyPrompt {
    exec_info: ComfyExecution,
}

#[derive(Deserialize)]
struct ComfyExecution {
    queue_remaining: u32,
}

/// ComfyUI works on one request at a time, and counts it with those that wait.
pub(super) fn comfy_prompt(body: &[u8]) -> Option<Figures> {
    let ComfyPrompt { exec_info: ComfyExecution { queue_remaining } } =
        serde_json::from_slice(body).ok()?;
    let running = queue_remaining.min(1);
    let waiting = queue_remaining - running;
    Some(Figures {
        running: Some(running.into()),
        waiting: Some(waiting.into()),
        kv_cache_pct: None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn both(figures: Option<Figures>) -> Option<(Option<f64>, Option<f64>)> {
        figures.map(|figures| (figures.running, figures.waiting))
    }

    #[test]
    fn each_answer_is_read() {
        let body = br#"[{"id": 0, "is_processing": true, "prompt": "secret"},
                        {"id": 1, "is_processing": false}]"#;
        assert_eq!(both(slots(body)), Some((Some(1.0), None)));
        assert_eq!(both(slots(b"[]")), Some((Some(0.0), None)));
        assert_eq!(both(slots(br#"{"error": {"code": 501}}"#)), None);
        let body = br#"{"last_process": 0.1, "queue": 3, "idle": 0, "stop_reason": 1}"#;
        assert_eq!(both(kobold_perf(body)), Some((Some(1.0), Some(3.0))));
        let body = br#"{"exec_info": {"queue_remaining": 4}}"#;
        assert_eq!(both(comfy_prompt(body)), Some((Some(1.0), Some(3.0))));
        let body = br#"{"exec_info": {"queue_remaining": 0}}"#;
        assert_eq!(both(comfy_prompt(body)), Some((Some(0.0), Some(0.0))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>, text in "[\\[\\]{}\":,a-z0-9]{0,30}") {
            for body in [bytes.as_slice(), text.as_bytes()] {
                let _ = (slots(body), kobold_perf(body), comfy_prompt(body));
            }
        }
    }
}
