//! The queen: whether she is reached, can store, and has the same time.

use std::time::Duration;

use serde::Deserialize;

use super::Finding;
use crate::client::{Client, QueenUrl, Reply, Timeouts};
use crate::clock::{Clock, SystemClock};

const SUBJECT: &str = "queen";
const CLOCK: &str = "clock";
/// A heartbeat from further ahead is refused.
const MAX_AHEAD: Duration = Duration::from_secs(300);
/// The queen tells her time in whole seconds: a smaller difference is none.
const UNNOTICED: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Version {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct Readiness {
    reasons: Vec<String>,
}

pub(super) async fn examine(queen: &QueenUrl) -> Vec<Finding> {
    let mut client = Client::new(queen, Timeouts::default());
    let reply = match client.get("/version").await {
        Ok(reply) => reply,
        Err(error) => {
            let reason = std::error::Error::source(&error).map(|source| format!(": {source}"));
            let advice = format!(
                "start her (queen --bind …), or name her with --queen; a firewall or proxy may \
                 stand between; curl http://{}/version should answer",
                queen.authority()
            );
            return vec![Finding::problem(
                SUBJECT,
                format!("{error}{}", reason.unwrap_or_default()),
                advice,
            )];
        }
    };
    let now = SystemClock.wall().millis();
    let version = match version(&reply) {
        Some(version) => version,
        None => {
            let seen = format!(
                "what answers at {} is no queen (status {})",
                queen.authority(),
                reply.status
            );
            let advice = "name the queen's own address with --queen, with its base path if a \
                          proxy gives it one";
            return vec![Finding::problem(SUBJECT, seen, advice)];
        }
    };
    let seen = format!("version {version} answers at {}", queen.authority());
    let mut findings = vec![Finding::fine(SUBJECT, seen)];
    findings.extend(readiness(&mut client).await);
    findings.push(match reply.date_ms {
        Some(date) => compare_clocks(now - date),
        None => Finding::note(CLOCK, "the queen's answer has no time", "compare with: date -u"),
    });
    findings
}

fn version(reply: &Reply) -> Option<String> {
    let Version { name, version } = serde_json::from_slice(&reply.body).ok()?;
    (reply.status == 200 && name == "queen").then_some(version)
}

/// Whether she can keep what she is sent.
async fn readiness(client: &mut Client) -> Option<Finding> {
    let reply = client.get("/readyz").await.ok()?;
    if reply.status == 200 {
        return None;
    }
    let reasons = serde_json::from_slice::<Readiness>(&reply.body).map(|ready| ready.reasons);
    let reasons = reasons.unwrap_or_default().join("; ");
    let seen = format!("she cannot store heartbeats (status {}): {reasons}", reply.status);
    let advice = "see to her disk; the agent keeps its heartbeats and sends them later";
    Some(Finding::problem(SUBJECT, seen, advice))
}

/// `ahead_ms` is this machine's time less the queen's.
fn compare_clocks(ahead_ms: i64) -> Finding {
    let difference = Duration::from_millis(ahead_ms.unsigned_abs());
    // Her second may have begun up to a second before.
    let shown = humantime::format_duration(Duration::from_secs(difference.as_secs()));
    let side = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let advice = "set the clocks with chrony or systemd-timesyncd, on both machines";
    if difference <= UNNOTICED {
        Finding::fine(CLOCK, "this machine and the queen agree within 2 s")
    } else if ahead_ms > 0 && difference > MAX_AHEAD {
        let seen = format!("{shown} {side} the queen: she refuses heartbeats (clock_skew)");
        Finding::problem(CLOCK, seen, advice)
    } else {
        Finding::note(CLOCK, format!("{shown} {side} the queen: history is shifted by it"), advice)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn only_a_clock_far_ahead_prevents_anything() {
        for (ahead_ms, verdict, seen) in [
            (0, Verdict::Fine, "agree"),
            (1999, Verdict::Fine, "agree"),
            (-2000, Verdict::Fine, "agree"),
            (61_500, Verdict::Note, "1m 1s ahead of the queen"),
            (-90_000_000, Verdict::Note, "1day 1h behind the queen"),
            (300_001, Verdict::Problem, "5m ahead of the queen: she refuses"),
        ] {
            let finding = compare_clocks(ahead_ms);
            assert_eq!(finding.verdict, verdict, "{ahead_ms}");
            assert!(finding.seen.contains(seen), "{}", finding.seen);
        }
    }
}
