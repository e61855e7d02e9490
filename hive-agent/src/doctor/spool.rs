//! Where heartbeats wait that cannot be sent.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Access, access};

use super::Finding;

const SUBJECT: &str = "spool";

pub(super) fn examine(directory: Option<&Path>) -> Finding {
    let Some(directory) = directory else {
        return Finding::note(
            SUBJECT,
            "heartbeats that cannot be sent wait in memory, and are lost when the agent ends",
            "make /var/lib/hive-agent, for the user of the agent, or name another with --spool-dir",
        );
    };
    let path = directory.display();
    match access(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => match size(directory) {
            Ok(0) => Finding::fine(SUBJECT, format!("{path} can be written; nothing waits there")),
            Ok(bytes) => {
                Finding::fine(SUBJECT, format!("{bytes} bytes of heartbeats wait in {path}"))
            }
            Err(error) => unusable(&path, &error),
        },
        Err(rustix::io::Errno::NOENT) => {
            Finding::fine(SUBJECT, format!("{path} does not exist yet and will be made"))
        }
        Err(error) => unusable(&path, &error.into()),
    }
}

fn unusable(path: &dyn std::fmt::Display, error: &io::Error) -> Finding {
    Finding::note(
        SUBJECT,
        format!("{path} cannot be used ({error}): what cannot be sent waits in memory only"),
        "give it to the user of the agent, or name another with --spool-dir",
    )
}

fn size(directory: &Path) -> io::Result<u64> {
    fs::read_dir(directory)?.map(|file| Ok(file?.metadata()?.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn every_state_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let finding = examine(None);
        assert!(finding.verdict == Verdict::Note && finding.seen.contains("in memory"));
        let finding = examine(Some(&directory.path().join("new")));
        assert!(finding.verdict == Verdict::Fine && finding.seen.ends_with("will be made"));
        let finding = examine(Some(directory.path()));
        assert!(finding.verdict == Verdict::Fine && finding.seen.ends_with("nothing waits there"));
        let file = directory.path().join("file");
        fs::write(&file, "four").unwrap();
        let finding = examine(Some(directory.path()));
        assert!(finding.verdict == Verdict::Fine && finding.seen.starts_with("4 bytes"));
        let finding = examine(Some(&file.join("below")));
        assert!(finding.verdict == Verdict::Note, "{finding:?}");
        assert!(finding.seen.contains("(Not a directory"), "{finding:?}");
    }
}
