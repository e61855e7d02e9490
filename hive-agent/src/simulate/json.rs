//! The JSON of a heartbeat, written by hand: the same bytes that serde gives, in a third of the
//! time. The load generator shares the machine with the queen that it measures.
//!
//! Every struct is taken apart in full, so that a new field of the contract does not compile
//! until it is written here.

use hive_contract::bounded::Bounded;
use hive_contract::heartbeat::{Agent, Gpu, Hive, Node, Worker, WorkerGpu};
use hive_contract::text::{ModelName, Text};
use hive_contract::units::{
    Celsius, Count, CpuPercent, Load, Mebibytes, MebibytesPerSecond, Milliseconds, Percent,
    Seconds, Watts,
};
use hive_contract::{Group, HiveId, Instance, Timestamp};

use super::fleet::Reading;

/// Something that writes itself.
pub(super) trait Json {
    fn write_to(&self, out: &mut String);
}

macro_rules! decimal {
    ($($unit:ident)*) => {$(
        impl Json for $unit {
            /// Always with a decimal point, as the contract has it for these units.
            fn write_to(&self, out: &mut String) {
                self.push_decimal(out);
                if self.thousandths() % 1_000 == 0 {
                    out.push_str(".0");
                }
            }
        }
    )*};
}

macro_rules! whole {
    ($($unit:ident)*) => {$(
        impl Json for $unit {
            /// As a whole number wherever it is one.
            fn write_to(&self, out: &mut String) {
                self.push_decimal(out);
            }
        }
    )*};
}

macro_rules! object {
    ($name:ident { $first:ident $(, $field:ident)* $(,)? }) => {
        impl Json for $name {
            // Measured: inlined into one function, all of it takes half as long again.
            #[inline(never)]
            fn write_to(&self, out: &mut String) {
                let Self { $first, $($field),* } = self;
                out.push_str(concat!("{\"", stringify!($first), "\":"));
                $first.write_to(out);
                $(
                    out.push_str(concat!(",\"", stringify!($field), "\":"));
                    $field.write_to(out);
                )*
                out.push('}');
            }
        }
    };
}

decimal!(CpuPercent Load MebibytesPerSecond Percent Watts);
whole!(Celsius Count Mebibytes Milliseconds Seconds);

object!(Reading { hive, timestamp, interval_ms, workers, gpus, node, agent });
object!(Hive { id, hostname, port, operational_status, health_status, version });
object!(Worker {
    pid,
    group,
    instance,
    cpu_pct,
    rss_mb,
    gpu_util_pct,
    vram_mb,
    total_vram_mb,
    model,
    uptime_s,
    io_r_mb_s,
    io_w_mb_s,
    gpus,
    requests_running,
    requests_waiting,
    kv_cache_pct,
});
object!(WorkerGpu { uuid, util_pct, vram_mb });
object!(Gpu {
    uuid,
    index,
    name,
    util_pct,
    memory_used_mb,
    memory_total_mb,
    temperature_c,
    power_w,
    state,
});
object!(Node { cpu_pct, cpu_count, memory_used_mb, memory_total_mb, load_1m, uptime_s });
object!(Agent { version, cpu_pct, rss_mb, collect_ms, spooled, gpu_age_ms, errors });

impl<T: Json> Json for Option<T> {
    fn write_to(&self, out: &mut String) {
        match self {
            Some(value) => value.write_to(out),
            None => out.push_str("null"),
        }
    }
}

impl<T: Json> Json for [T] {
    fn write_to(&self, out: &mut String) {
        out.push('[');
        for (index, element) in self.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            element.write_to(out);
        }
        out.push(']');
    }
}

impl Json for u16 {
    fn write_to(&self, out: &mut String) {
        out.push_str(&self.to_string());
    }
}

impl<T: Json> Json for Vec<T> {
    fn write_to(&self, out: &mut String) {
        self.as_slice().write_to(out);
    }
}

impl<T: Json, const MAX: usize> Json for Bounded<T, MAX> {
    fn write_to(&self, out: &mut String) {
        (**self).write_to(out);
    }
}

macro_rules! text {
    ($($name:ident)*) => {$(
        impl Json for $name {
            /// Nothing in a simulated fleet has a character that JSON would escape.
            fn write_to(&self, out: &mut String) {
                out.push('"');
                out.push_str(self.as_str());
                out.push('"');
            }
        }
    )*};
}

text!(Group HiveId Instance ModelName Text);

impl Json for Timestamp {
    fn write_to(&self, out: &mut String) {
        out.push('"');
        out.push_str(&self.to_string());
        out.push('"');
    }
}
