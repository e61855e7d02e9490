//! A child process that ends with its handle, and whose output a failing test shows.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::wait::{LIMIT, eventually};

pub(crate) struct Process {
    name: String,
    child: Child,
    stdout: Receiver<String>,
    output: Arc<Mutex<String>>,
}

/// What a process left behind that ended by itself.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Standard output and standard error.
    pub(crate) output: String,
}

impl Process {
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let output = Arc::default();
        let (lines, stdout) = channel();
        keep(child.stdout.take().unwrap(), Arc::clone(&output), Some(lines));
        keep(child.stderr.take().unwrap(), Arc::clone(&output), None);
        Self { name: name.into(), child, stdout, output }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line on standard output; none at its end.
    pub(crate) fn next_line(&self) -> Option<String> {
        match self.stdout.recv_timeout(LIMIT) {
            Ok(line) => Some(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                panic!("{} prints nothing within {} s", self.name, LIMIT.as_secs())
            }
        }
    }

    /// Waits until it has said something, on standard output or standard error.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        eventually(&format!("{} says {text:?}", self.name), || {
            let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
            output.contains(text).then_some(())
        });
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        assert!(self::signal(self.id(), signal), "{} is gone before {signal}", self.name);
    }

    /// Ends it at once, as a power cut would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end and for all that it said.
    pub(crate) fn wait(mut self) -> Ended {
        let status = eventually(&format!("{} ends", self.name), || self.child.try_wait().unwrap());
        while self.next_line().is_some() {}
        eventually("all output is read", || (Arc::strong_count(&self.output) == 1).then_some(()));
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ended { status, output }
    }
}

/// Sends a signal by its name; whether there was such a process.
pub(crate) fn signal(pid: u32, signal: &str) -> bool {
    let command = format!("kill -s {signal} {pid}");
    Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status().unwrap().success()
}

fn keep(
    from: impl Read + Send + 'static,
    output: Arc<Mutex<String>>,
    lines: Option<Sender<String>>,
) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.push_str(&line);
            output.push('\n');
            if let Some(lines) = &lines {
                let _ = lines.send(line);
            }
        }
    });
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("--- output of {} ---\n{output}--- end of output ---", self.name);
        }
    }
}
