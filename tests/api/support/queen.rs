//! A real queen with a database of her own, on a port that the system chose.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use super::client::{Client, JSON, NDJSON, Reply};
use super::process::{Ended, Process};
use super::sqlite;
use super::stream::Stream;
use super::wait::eventually;

/// A directory with a database in it, where queens come and go.
#[derive(Clone)]
pub(crate) struct Home(Arc<TempDir>);

/// A queen that serves.
pub(crate) struct Queen {
    process: Process,
    client: Client,
    home: Home,
    announced: String,
}

/// What the queen said to a heartbeat that she took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) id: i64,
    pub(crate) duplicate: bool,
}

/// A command that sees none of the settings of whoever runs the tests.
pub(crate) fn clean(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("QUEEN_") || name.starts_with("HIVE_AGENT_") {
            command.env_remove(&*name);
        }
    }
    command
}

impl Home {
    pub(crate) fn new() -> Self {
        Self(Arc::new(tempfile::tempdir().unwrap()))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("queen.db")
    }

    /// A queen on this database, not yet started.
    pub(crate) fn command(&self, options: &[&str]) -> Command {
        let mut command = clean(env!("CARGO_BIN_EXE_queen"));
        command.current_dir(self.0.path()).args(options);
        let is_given = |name: &str| options.iter().any(|option| option.starts_with(name));
        for (name, value) in [("--bind", "127.0.0.1:0"), ("--local-hive", "false")] {
            if !is_given(name) {
                command.arg(format!("{name}={value}"));
            }
        }
        command
    }

    /// Starts a queen and waits until she listens.
    #[track_caller]
    pub(crate) fn start(&self, options: &[&str]) -> Queen {
        self.start_as(&mut self.command(options))
    }

    /// Starts a queen who may open so many files and connections.
    #[track_caller]
    pub(crate) fn start_with_files(&self, files: u32) -> Queen {
        let queen = self.command(&[]);
        let mut limited = clean("sh");
        limited.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\"")]);
        limited.arg(queen.get_program()).args(queen.get_args());
        self.start_as(limited.current_dir(self.0.path()))
    }

    /// Starts a queen by her command and waits until she listens.
    #[track_caller]
    pub(crate) fn start_as(&self, command: &mut Command) -> Queen {
        let process = Process::start("the queen", command);
        let announced = process.next_line().expect("the queen says where she listens");
        let (_, url) = announced.split_once(" listens on ").expect("the line names the URL");
        Queen { client: Client::new(url), process, home: self.clone(), announced }
    }

    /// A queen that refuses to start: what she says.
    #[track_caller]
    pub(crate) fn refusal(&self, options: &[&str]) -> String {
        let Ended { status, output } =
            Process::start("the queen", &mut self.command(options)).wait();
        assert_eq!(status.code(), Some(1), "{output}");
        output
    }

    /// The rows of a query, read with the `sqlite3` program.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<Value> {
        sqlite::rows(&self.database(), sql)
    }

    /// The figures of a query with one column, read with the `sqlite3` program.
    #[track_caller]
    pub(crate) fn figures(&self, sql: &str) -> Vec<f64> {
        let figure = |row: Value| row.as_object()?.values().next()?.as_f64();
        self.rows(sql).into_iter().map(|row| figure(row).expect("a number")).collect()
    }

    /// The one value of a query, read with the `sqlite3` program.
    #[track_caller]
    pub(crate) fn value(&self, sql: &str) -> Value {
        sqlite::value(&self.database(), sql)
    }
}

impl std::ops::Deref for Queen {
    type Target = Home;
    fn deref(&self) -> &Home {
        &self.home
    }
}

impl Queen {
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    #[track_caller]
    pub(crate) fn with(options: &[&str]) -> Self {
        Home::new().start(options)
    }

    pub(crate) fn url(&self) -> &str {
        self.announced.split_once(" listens on ").unwrap().1
    }

    /// `127.0.0.1:PORT`
    pub(crate) fn address(&self) -> &str {
        self.url().strip_prefix("http://").unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The next line of what she prints for the person who started her.
    /// Waits until she has said something.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        self.process.says(text);
    }

    pub(crate) fn next_line(&self) -> Option<String> {
        self.process.next_line()
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.client.send("GET", path, &[], &[])
    }

    #[track_caller]
    pub(crate) fn post(&self, heartbeat: &Value) -> Reply {
        self.post_bytes(heartbeat.to_string().as_bytes(), &[JSON])
    }

    #[track_caller]
    pub(crate) fn post_bytes(&self, body: &[u8], headers: &[(&str, &str)]) -> Reply {
        self.client.send("POST", "/v1/hive-heartbeat", headers, body)
    }

    /// Posts heartbeats one a line.
    #[track_caller]
    pub(crate) fn post_lines(&self, lines: &[impl ToString]) -> Reply {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        self.client.send("POST", "/v1/hive-heartbeats", &[NDJSON], lines.join("\n").as_bytes())
    }

    /// Posts a heartbeat that must be taken.
    #[track_caller]
    pub(crate) fn takes(&self, heartbeat: &Value) -> Ack {
        ack(&self.post(heartbeat))
    }

    /// Posts heartbeats that must be taken: how many are new, and how many she had before.
    #[track_caller]
    pub(crate) fn takes_lines(&self, lines: &[impl ToString]) -> (u64, u64) {
        let said = self.post_lines(lines).ok();
        (said["accepted"].as_u64().unwrap(), said["duplicates"].as_u64().unwrap())
    }

    /// The live workers that satisfy a filter such as `?idle=true`.
    #[track_caller]
    pub(crate) fn workers(&self, filter: &str) -> Vec<Value> {
        let workers = self.get(&format!("/v1/workers{filter}")).ok()["workers"].take();
        workers.as_array().expect("a list of workers").clone()
    }

    /// The keys of the workers that satisfy a filter.
    #[track_caller]
    pub(crate) fn worker_keys(&self, filter: &str) -> Vec<String> {
        let key = |worker: &Value| {
            let part = |name: &str| worker[name].as_str().unwrap().to_owned();
            format!("{}/{}/{}", part("hive_id"), part("group"), part("instance"))
        };
        self.workers(filter).iter().map(key).collect()
    }

    #[track_caller]
    pub(crate) fn hive(&self, id: &str) -> Value {
        self.get(&format!("/v1/hives/{id}")).ok()
    }

    /// Opens the live feed and passes over what comes before the first event.
    #[track_caller]
    pub(crate) fn stream(&self, query: &str) -> Stream {
        let mut stream = Stream::open(&self.client, query, &[]);
        assert_eq!(stream.head.status, 200);
        let first = stream.frame().expect("the stream begins");
        assert_eq!(first.lines, ["retry: 3000"]);
        stream
    }

    /// Opens the live feed as lines of JSON.
    pub(crate) fn ndjson(&self, query: &str) -> Stream {
        Stream::open(&self.client, query, &[("accept", "application/x-ndjson")])
    }

    /// Waits until everything that she has taken stands in sealed blocks.
    #[track_caller]
    pub(crate) fn until_sealed(&self) {
        eventually("all is sealed", || {
            (self.value("SELECT count(*) FROM heartbeats_live") == 0.0).then_some(())
        });
    }

    /// Sends her a signal by its name, such as `STOP`.
    pub(crate) fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Asks her to stop, as a service manager does.
    pub(crate) fn ask_to_stop(&self) {
        self.process.signal("TERM");
    }

    /// Waits for her end.
    pub(crate) fn wait(self) -> (ExitStatus, Home) {
        let Self { process, home, .. } = self;
        (process.wait().status, home)
    }

    /// Stops her in order.
    #[track_caller]
    pub(crate) fn stop(self) -> Home {
        self.ask_to_stop();
        let (status, home) = self.wait();
        assert_eq!(status.code(), Some(0));
        home
    }

    /// Ends her at once, as a power cut would.
    pub(crate) fn kill(mut self) -> Home {
        self.process.kill();
        self.home
    }
}

/// What an answer to an accepted heartbeat says.
#[track_caller]
pub(crate) fn ack(reply: &Reply) -> Ack {
    let said = reply.ok();
    assert_eq!(said["status"], "ok", "{said}");
    assert!(said["message"].is_string(), "{said}");
    Ack { id: said["id"].as_i64().unwrap(), duplicate: said["duplicate"].as_bool().unwrap() }
}
