//! What is wrong with a GPU, as the words of its `state`.
//!
//! Asking for it is slow on some GPUs, and nothing of it changes by the second, so it is asked
//! every few seconds only. A low clock is worth a word when the hardware is in distress; a GPU
//! that idles or works at its power limit is in order.

use std::fmt::Write;
use std::time::Duration;

use hive_contract::text::Text;
use hive_contract::units::Celsius;
use nvml_wrapper::Device;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION;

use super::answers::{Answers, Loss};

/// How often a GPU is asked.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// An error that the driver reported stays in the state for so long.
const XID_SHOWN_FOR: Duration = Duration::from_secs(60);

/// What was found the last time.
#[derive(Debug, Default)]
pub(super) struct Health {
    asked: Option<Duration>,
    pub(super) temperature_c: Option<Celsius>,
    slowed_by: Option<&'static str>,
    /// Since the driver was loaded.
    memory_errors: u64,
    wanted: Option<&'static str>,
    xid: Option<(u64, Duration)>,
}

impl Health {
    /// Whether it is time to ask again.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.asked.is_none_or(|asked| now.saturating_sub(asked) >= EVERY)
    }

    /// Whether it was asked in the reading of this moment.
    pub(super) fn was_asked_at(&self, now: Duration) -> bool {
        self.asked == Some(now)
    }

    /// Asks all of it.
    pub(super) fn ask(
        &mut self,
        device: &Device<'_>,
        now: Duration,
        answers: &mut Answers<'_>,
    ) -> Result<(), Loss> {
        self.asked = Some(now);
        let temperature = device.temperature(TemperatureSensor::Gpu);
        let temperature = answers.take("its temperature", temperature)?;
        self.temperature_c = temperature.and_then(|celsius| Celsius::measured(celsius.into()));
        let reasons = answers.take("why its clocks are low", device.current_throttle_reasons())?;
        self.slowed_by = reasons.and_then(distress);
        let errors = device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile);
        self.memory_errors = answers.take("its memory errors", errors)?.unwrap_or(0);
        let values = device.field_values_for(&[FieldId(NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)]);
        // Drivers before 570 do not know this field; that is no error.
        let value = answers.take("what the driver wants for it", values)?;
        let value = value.and_then(|values| values.into_iter().next()?.ok()?.value.ok());
        self.wanted = value.as_ref().and_then(action);
        Ok(())
    }

    /// Takes an error that the driver reported.
    pub(super) fn report(&mut self, xid: u64, now: Duration) {
        self.xid = Some((xid, now));
    }

    /// All of it in words; `ok` if nothing is wrong.
    pub(super) fn state(&self, now: Duration) -> Text {
        let mut words = String::new();
        let mut add = |reason: std::fmt::Arguments<'_>| {
            let separator = if words.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(words, "{separator}{reason}");
        };
        if let Some(wanted) = self.wanted {
            add(format_args!("{wanted}"));
        }
        if let Some((xid, _)) = self.xid.filter(|(_, at)| now.saturating_sub(*at) <= XID_SHOWN_FOR)
        {
            add(format_args!("xid {xid}"));
        }
        if self.memory_errors > 0 {
            add(format_args!("{} uncorrected memory errors", self.memory_errors));
        }
        if let Some(cause) = self.slowed_by {
            add(format_args!("slowed down by {cause}"));
        }
        Text::cut(if words.is_empty() { "ok" } else { &words })
    }
}

fn distress(reasons: ThrottleReasons) -> Option<&'static str> {
    [
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "heat"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "heat"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "its power supply"),
        (ThrottleReasons::HW_SLOWDOWN, "its hardware"),
    ]
    .into_iter()
    .find_map(|(reason, cause)| reasons.contains(reason).then_some(cause))
}

/// NVML's numbers for what the driver wants done.
fn action(value: &SampleValue) -> Option<&'static str> {
    let number = match *value {
        SampleValue::U32(number) => u64::from(number),
        SampleValue::U64(number) => number,
        SampleValue::F64(_) | SampleValue::I64(_) => return None,
    };
    match number {
        1 => Some("needs a reset"),
        2 => Some("needs a reboot of the machine"),
        3 => Some("needs its peers drained"),
        4 => Some("needs draining and a reset"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_says_what_is_wrong_and_nothing_else() {
        let now = Duration::from_secs(100);
        let mut health = Health::default();
        assert_eq!(health.state(now).as_str(), "ok");
        health.report(79, now);
        health.memory_errors = 3;
        health.slowed_by =
            distress(ThrottleReasons::HW_SLOWDOWN | ThrottleReasons::HW_THERMAL_SLOWDOWN);
        health.wanted = action(&SampleValue::U32(4));
        let all =
            "needs draining and a reset, xid 79, 3 uncorrected memory errors, slowed down by heat";
        assert_eq!(health.state(now).as_str(), all);
        assert!(!health.state(now + XID_SHOWN_FOR * 2).as_str().contains("xid"));
    }

    #[test]
    fn idling_and_working_at_the_power_limit_are_in_order() {
        assert_eq!(distress(ThrottleReasons::GPU_IDLE | ThrottleReasons::SW_POWER_CAP), None);
        assert_eq!(action(&SampleValue::U32(0)), None);
        assert_eq!(action(&SampleValue::F64(1.0)), None);
    }
}
