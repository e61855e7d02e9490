//! A queen whose disk and clock do what the test says: see `bad_disk.c`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::support::{Home, Queen};

/// The library, built once by the C compiler that also builds SQLite.
fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/faults/bad_disk.c");
        // Other runs of the tests may load it meanwhile: it is replaced whole.
        let built = directory.join(format!("bad_disk-{}.so", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]).arg(&built);
        let status = cc.args([source, "-ldl", "-lpthread"]).status().expect("cc is there");
        assert!(status.success());
        let library = directory.join("bad_disk.so");
        fs::rename(built, &library).unwrap();
        library
    })
}

/// What the disk and the clock of a home do.
pub(super) struct BadDisk {
    orders: PathBuf,
    home: Home,
}

impl BadDisk {
    pub(super) fn new() -> Self {
        let home = Home::new();
        Self { orders: home.path("orders"), home }
    }

    /// Starts a queen on it.
    #[track_caller]
    pub(super) fn start(&self, options: &[&str]) -> Queen {
        let mut command = self.home.command(options);
        command.env("LD_PRELOAD", library()).env("BAD_DISK", &self.orders);
        self.home.start_as(&mut command)
    }

    /// From now on: words of `bad_disk.c`, none for a good one.
    pub(super) fn does(&self, orders: &str) {
        let next = self.orders.with_extension("next");
        fs::write(&next, orders).unwrap();
        fs::rename(next, &self.orders).unwrap();
    }
}

impl Drop for BadDisk {
    /// A queen whose disk hangs does not end.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.orders);
    }
}
