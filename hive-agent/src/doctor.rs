//! `hive-agent doctor`: what the agent sees on this machine and of the queen, in plain words,
//! and what to do about what is missing.
//!
//! Invariant: the doctor changes nothing and posts nothing. Only what prevents heartbeats from
//! being collected or kept is a problem; what only leaves figures unknown is a note.

use std::fmt;

use crate::config::Config;

mod cgroup;
mod gpu;
mod permissions;
mod queen;
mod spool;
mod workers;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Fine,
    /// It works, and something remains unknown or could be better.
    Note,
    /// It does not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What was looked at.
    pub subject: &'static str,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    pub advice: Option<String>,
}

/// All that was found, in the order in which it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report(Vec<Finding>);

/// Looks at everything. Takes as long as two readings of the machine and the queen's answers.
pub async fn examine(config: &Config) -> Report {
    let mut findings = cgroup::examine(&config.roots);
    findings.extend(permissions::examine(&config.roots));
    findings.extend(gpu::examine(&config.roots));
    findings.extend(workers::examine(config));
    findings.push(spool::examine(config.spool_dir.as_deref()));
    findings.extend(queen::examine(&config.queen).await);
    Report(findings)
}

impl Report {
    /// The findings.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.0
    }

    /// Whether anything prevents the agent from working.
    #[must_use]
    pub fn has_problems(&self) -> bool {
        self.0.iter().any(|finding| finding.verdict == Verdict::Problem)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut findings = self.0.iter().peekable();
        while let Some(Finding { verdict, subject, seen, advice }) = findings.next() {
            let verdict = match verdict {
                Verdict::Fine => "ok",
                Verdict::Note => "note",
                Verdict::Problem => "PROBLEM",
            };
            writeln!(f, "{verdict:<8} {subject}: {seen}")?;
            // What helps against several is said once, after the last of them.
            let is_repeated = findings.peek().is_some_and(|next| next.advice == *advice);
            if let Some(advice) = advice.as_ref().filter(|_| !is_repeated) {
                writeln!(f, "{:<8} -> {advice}", "")?;
            }
        }
        let count = |verdict| self.0.iter().filter(|finding| finding.verdict == verdict).count();
        let (problems, notes) = (count(Verdict::Problem), count(Verdict::Note));
        match problems {
            0 => writeln!(f, "\nThe agent can work here ({notes} notes)."),
            1 => writeln!(f, "\n1 problem prevents the agent from working ({notes} notes)."),
            _ => {
                writeln!(f, "\n{problems} problems prevent the agent from working ({notes} notes).")
            }
        }
    }
}

impl Finding {
    fn fine(subject: &'static str, seen: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fine, subject, seen: seen.into(), advice: None }
    }

    fn note(subject: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { verdict: Verdict::Note, subject, seen: seen.into(), advice }
    }

    fn problem(subject: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Problem, ..Self::note(subject, seen, advice) }
    }
}

#[cfg(test)]
mod tests;
