//! Somebody with `sqlite3` in a forgotten window, in the middle of a transaction.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::Home;

/// The transaction is gone when this is dropped.
pub(crate) struct Session(Child);

impl Session {
    /// Runs SQL and stays where it leads to.
    #[track_caller]
    pub(crate) fn after(home: &Home, sql: &str) -> Self {
        let mut sqlite3 = Command::new("sqlite3");
        sqlite3.arg(home.database()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = sqlite3.spawn().unwrap();
        let stdin = child.stdin.as_mut().unwrap();
        stdin
            .write_all(format!(".bail on\n.timeout 10000\n{sql};\n.print done\n").as_bytes())
            .unwrap();
        let session = Self(child);
        session.until_done()
    }

    /// Holds the write lock.
    #[track_caller]
    pub(crate) fn that_writes(home: &Home) -> Self {
        Self::after(home, "BEGIN IMMEDIATE")
    }

    #[track_caller]
    fn until_done(mut self) -> Self {
        let lines = BufReader::new(self.0.stdout.as_mut().unwrap()).lines();
        let done = lines.map(Result::unwrap).any(|line| line == "done");
        assert!(done, "sqlite3 refused");
        self
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
