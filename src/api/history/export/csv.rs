//! One worker-sample a line.

use std::fmt::Write;

use hive_contract::Heartbeat;

use crate::api::history::format::push_field;

/// The names of the columns.
pub(super) fn push_header(out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"time,hive,group,instance,pid,model,cpu_pct,rss_mb,io_r_mb_s,io_w_mb_s,gpu_util_pct,\
          vram_mb,total_vram_mb,uptime_s,requests_running,requests_waiting,kv_cache_pct\r\n",
    );
}

/// The workers of a heartbeat; what is not known is empty.
pub(super) fn push_rows(heartbeat: &Heartbeat, out: &mut Vec<u8>) {
    let mut line = String::with_capacity(160);
    for worker in &heartbeat.workers {
        line.clear();
        // Writing to a string cannot fail.
        let _ = write!(line, "{},", heartbeat.timestamp.millis());
        push_field(&mut line, heartbeat.hive.id.as_str());
        for name in [worker.group.as_str(), worker.instance.as_str()] {
            line.push(',');
            push_field(&mut line, name);
        }
        let _ = write!(line, ",{},", worker.pid);
        push_field(&mut line, worker.model.as_ref().map_or("", |model| model.as_str()));
        macro_rules! push {
            ($($figure:ident)*) => {$(
                line.push(',');
                if let Some(figure) = worker.$figure {
                    figure.push_decimal(&mut line);
                }
            )*};
        }
        push!(cpu_pct rss_mb io_r_mb_s io_w_mb_s gpu_util_pct vram_mb total_vram_mb uptime_s
              requests_running requests_waiting kv_cache_pct);
        line.push_str("\r\n");
        out.extend_from_slice(line.as_bytes());
    }
}
