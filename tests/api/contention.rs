//! Somebody else holds the file's write lock, as a person with `sqlite3` may for a moment.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::support::client::{Client, JSON};
use crate::support::heartbeat::{heartbeat, marked, now_ms};
use crate::support::queen::ack;
use crate::support::wait::eventually;
use crate::support::{Home, Queen, Reply};

/// A `sqlite3` in the middle of a transaction that writes.
struct Holder(Child);

impl Holder {
    fn of(home: &Home) -> Self {
        let mut sqlite3 = Command::new("sqlite3")
            .arg(home.database())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = sqlite3.stdin.as_mut().unwrap();
        input.write_all(b".timeout 10000\nBEGIN IMMEDIATE;\nSELECT 'held';\n").unwrap();
        input.flush().unwrap();
        let mut said = [0; 5];
        std::io::Read::read_exact(sqlite3.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(&said, b"held\n");
        Self(sqlite3)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn post(client: &Client, body: &[u8]) -> Reply {
    client.send("POST", "/v1/hive-heartbeat", &[JSON], body)
}

#[test]
fn the_live_view_does_not_wait_and_the_acknowledgement_does() {
    let queen = Queen::start();
    let now = now_ms();
    queen.takes(&marked("h", now, 1.0));
    let holder = Holder::of(&queen);
    thread::scope(|scope| {
        let (client, body) = (queen.client(), marked("h", now + 1, 2.0).to_string());
        let posted = scope.spawn(move || post(&client, body.as_bytes()));
        eventually("the live view has the new reading", || {
            (queen.workers("")[0]["cpu_pct"] == 2.0).then_some(())
        });
        assert!(!posted.is_finished(), "acknowledged before it is on disk");
        assert_eq!(queen.figures("SELECT cpu_pct FROM history"), [1.0]);
        drop(holder);
        assert!(!ack(&posted.join().unwrap()).duplicate);
    });
    assert_eq!(queen.figures("SELECT cpu_pct FROM history ORDER BY ts_ms"), [1.0, 2.0]);
}

#[test]
fn more_than_may_wait_is_refused_and_what_waits_is_stored() {
    /// Four bodies of 8 MiB are the 32 MiB that may wait.
    const FITTING: usize = 4;
    let queen = Queen::start();
    let now = now_ms();
    let holder = Holder::of(&queen);
    let answers = thread::scope(|scope| {
        let posts: Vec<_> = (0..FITTING + 2)
            .map(|i| {
                let mut body = heartbeat("h", now + i as i64).to_string().into_bytes();
                body.resize(8 << 20, b' ');
                let client = queen.client();
                scope.spawn(move || post(&client, &body))
            })
            .collect();
        eventually("what is too much is refused", || {
            (posts.iter().filter(|post| post.is_finished()).count() == 2).then_some(())
        });
        drop(holder);
        posts.into_iter().map(|post| post.join().unwrap()).collect::<Vec<_>>()
    });
    let (stored, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|reply| reply.status == 200);
    assert_eq!(stored.len(), FITTING);
    for reply in refused {
        reply.problem(503, "queue_full");
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    assert_eq!(queen.value("SELECT count(*) FROM hive_heartbeats"), FITTING as f64);
}
