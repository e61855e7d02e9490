//! The queen's program on a file of its own, on a port that the system chose.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with a database in it.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.path().join("queen.db")
    }

    pub(crate) fn start(&self, options: &[&str]) -> Queen {
        let mut process = Command::new(env!("CARGO_BIN_EXE_queen"))
            .args(["--bind=127.0.0.1:0", "--local-hive=false", "--durability=normal"])
            .arg("--db")
            .arg(self.database())
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let url = line.trim().split_once(" listens on ").expect("she says where").1.to_owned();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        Queen { process, url, agent: agent.into(), _stdout: stdout }
    }

    /// Runs SQL with the `sqlite3` program.
    pub(crate) fn sql(&self, sql: &str) -> String {
        let output = Command::new("sqlite3")
            .args(["-cmd", ".timeout 10000"])
            .arg(self.database())
            .arg(sql)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Waits until every heartbeat stands in a block.
    pub(crate) fn wait_until_sealed(&self) {
        self.wait_until("SELECT count(*) = 0 FROM live_rows");
    }

    /// Waits until a query gives 1.
    pub(crate) fn wait_until(&self, sql: &str) {
        let began = Instant::now();
        while self.sql(sql) != "1" {
            assert!(began.elapsed() < PATIENCE, "not in time: {sql}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A queen that serves.
pub(crate) struct Queen {
    process: Child,
    url: String,
    agent: ureq::Agent,
    /// She may go on printing.
    _stdout: BufReader<ChildStdout>,
}

/// What she answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

impl Reply {
    fn of(mut response: ureq::http::Response<ureq::Body>) -> Self {
        let content_type = response.headers().get("content-type");
        let content_type = content_type.map(|value| value.to_str().unwrap().to_owned());
        let body = response.body_mut().with_config().limit(1 << 30).read_to_string().unwrap();
        Self {
            status: response.status().as_u16(),
            content_type: content_type.unwrap_or_default(),
            body,
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.json()
    }
}

impl Queen {
    pub(crate) fn get(&self, path: &str) -> Reply {
        Reply::of(self.agent.get(format!("{}{path}", self.url)).call().unwrap())
    }

    pub(crate) fn get_accepting(&self, path: &str, accept: &str) -> Reply {
        let request = self.agent.get(format!("{}{path}", self.url)).header("accept", accept);
        Reply::of(request.call().unwrap())
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        let request = self.agent.post(format!("{}{path}", self.url));
        Reply::of(request.content_type("application/json").send(body).unwrap())
    }

    /// Asks for series; the parameters are encoded here.
    pub(crate) fn query(&self, parameters: &[(&str, String)]) -> Reply {
        let mut encoded = form_urlencoded::Serializer::new(String::new());
        encoded.extend_pairs(parameters);
        self.get(&format!("/v1/history/query?{}", encoded.finish()))
    }

    /// Posts heartbeats of any hives, each hive's in one request.
    #[track_caller]
    pub(crate) fn takes(&self, heartbeats: &[Value]) {
        for of_one in heartbeats.chunk_by(|a, b| a["hive"]["id"] == b["hive"]["id"]) {
            for lines in of_one.chunks(500) {
                let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
                self.post("/v1/hive-heartbeats", &lines.join("\n")).ok();
            }
        }
    }

    /// Stops in order.
    pub(crate) fn stop(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let began = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "she does not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Queen {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
