use std::collections::HashSet;
use std::convert::Infallible;

use bytes::Bytes;
use clap::Parser;
use hive_contract::Heartbeat;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn args(line: &str) -> Result<Args, clap::Error> {
    let words = std::iter::once("simulate").chain(line.split_whitespace());
    Command::try_parse_from(words).map(|command| command.args)
}

/// A queen that refuses every third request, and keeps what she takes.
#[derive(Default)]
struct Queen {
    requests: Mutex<usize>,
    taken: Mutex<Vec<Heartbeat>>,
}

impl Queen {
    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        assert_eq!(request.uri().path(), "/v1/hive-heartbeat");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let number = {
            let mut requests = self.requests.lock().unwrap();
            *requests += 1;
            *requests
        };
        if number.is_multiple_of(3) {
            let refusal = Response::builder().status(503).header("retry-after", "0");
            return Ok(refusal.body(r#"{"code":"queue_full","detail":"full"}"#.into()).unwrap());
        }
        let heartbeat = Heartbeat::parse(&body, SystemClock.wall()).unwrap();
        self.taken.lock().unwrap().push(heartbeat);
        Ok(Response::new(r#"{"status":"ok","duplicate":false}"#.into()))
    }

    async fn start() -> (Arc<Self>, String) {
        let queen = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::clone(&queen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let queen = Arc::clone(&shared);
                tokio::spawn(async move {
                    let service = service_fn(|request| queen.answer(request));
                    let server = hyper::server::conn::http1::Builder::new();
                    drop(server.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        (queen, url)
    }
}

async fn simulate(args: &Args) -> Tally {
    let shared = Arc::new(Mutex::new(Tally::new()));
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    for drive in drives(args, &shared, &stop).unwrap() {
        tasks.spawn(drive.run());
    }
    let supervising = supervise(&mut tasks, args, Instant::now(), &shared, &stop, None);
    let bound = Duration::from_secs(60);
    tokio::time::timeout(bound, supervising).await.expect("the simulation ends");
    Arc::into_inner(shared).unwrap().into_inner().unwrap()
}

#[tokio::test]
async fn a_made_up_hour_arrives_whole_although_the_queen_refuses() {
    let (queen, url) = Queen::start().await;
    let line = format!(
        "--queen {url} --hives 5 --workers 2 --flat-out --interval 1m --start -1h --connections 2"
    );
    let tally = simulate(&args(&line).unwrap()).await;
    let taken = queen.taken.lock().unwrap();
    let keys: HashSet<_> =
        taken.iter().map(|beat| (beat.hive.id.clone(), beat.timestamp)).collect();
    // An hour of minutes, and that of now for the hive whose minutes began at once.
    assert!((5 * 60..=5 * 61).contains(&keys.len()), "{}", keys.len());
    assert_eq!(keys.len(), taken.len());
    assert_eq!(tally.acknowledged(), taken.len() as u64);
    assert_eq!(tally.troubles(), tally.sent() - tally.acknowledged());
    assert!(tally.troubles() > 0);
}

#[tokio::test]
async fn a_duration_ends_it() {
    let (queen, url) = Queen::start().await;
    for pace in ["--flat-out", "--interval 2ms"] {
        let line = format!("--queen {url} --hives 20 --workers 1 --duration 300ms {pace}");
        let tally = simulate(&args(&line).unwrap()).await;
        assert!(tally.acknowledged() > 0);
    }
    let taken = queen.taken.lock().unwrap();
    let hives: HashSet<_> = taken.iter().map(|beat| &beat.hive.id).collect();
    assert_eq!(hives.len(), 20);
}

#[test]
fn hives_are_spread_over_the_interval_and_the_connections() {
    let args = args("--hives 100 --workers 0 --connections 7 --interval 1s").unwrap();
    let shared = Arc::new(Mutex::new(Tally::new()));
    let drives = drives(&args, &shared, &CancellationToken::new()).unwrap();
    assert!(drives.iter().all(|drive| (14..=15).contains(&drive.riders.len())));
    assert!(drives.iter().all(|drive| drive.riders.is_sorted_by_key(|rider| rider.offset)));
    let offsets: HashSet<_> =
        drives.iter().flat_map(|drive| &drive.riders).map(|rider| rider.offset).collect();
    assert_eq!(offsets.len(), 100);
    assert_eq!(offsets.into_iter().max(), Some(Duration::from_millis(990)));
}

#[test]
fn arguments_are_checked() {
    let usual = args("").unwrap();
    assert_eq!((usual.hives, usual.workers, usual.interval), (3, 4, Duration::from_secs(1)));
    for line in [
        "--hives 0",
        "--workers 1025",
        "--gpus 257",
        "--connections 0",
        "--interval 0",
        "--queen https://queen.example",
        "--start yesterday",
        "--hive-prefix a/b",
    ] {
        assert!(args(line).is_err(), "{line}");
    }
    let error = args("--interval 0").unwrap_err().to_string();
    assert!(error.contains("--flat-out"), "{error}");
    let now = Timestamp::from_millis(10_000).unwrap();
    let start = |line: &str| args(line).unwrap().start.unwrap().resolve(now);
    assert_eq!(start("--start -4s").unwrap().millis(), 6_000);
    assert_eq!(start("--start 1970-01-01T00:00:01Z").unwrap().millis(), 1_000);
    assert!(matches!(start("--start -1h"), Err(Error::Start)));
    assert!(matches!(start("--start 2025-01-01T00:00:00Z"), Err(Error::Start)));
}

#[test]
fn silence_is_an_error_after_the_report() {
    let args = args("--json").unwrap();
    let mut tally = Tally::new();
    let mut out = Vec::new();
    finish(&args, &tally, Duration::from_secs(1), &mut out).unwrap();
    let down = crate::client::Error::Timeout { queen: "h:1".into(), limit: Duration::from_secs(5) };
    tally.settle(1, Duration::ZERO, &Err(down));
    let error = finish(&args, &tally, Duration::from_secs(1), &mut out).unwrap_err();
    assert!(error.to_string().ends_with("the queen at h:1 did not answer within 5s"), "{error}");
    assert_eq!(std::str::from_utf8(&out).unwrap().lines().count(), 2);
}
