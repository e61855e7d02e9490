use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What the server does with one request: it answers, or it does something worse.
#[derive(Clone)]
enum Turn {
    Answer(String),
    AnswerThenClose(String),
    Close,
    Silence,
}

/// A server whose connections each follow a script of their own, and what it has seen.
struct Server {
    url: QueenUrl,
    connections: Arc<AtomicUsize>,
    requests: tokio::sync::mpsc::UnboundedReceiver<String>,
}

impl Server {
    /// The script has the turns of the first connection, of the second, …
    async fn start(script: Vec<Vec<Turn>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/base/", listener.local_addr().unwrap()).parse().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (seen, requests) = tokio::sync::mpsc::unbounded_channel();
        let accepted = Arc::clone(&connections);
        tokio::spawn(async move {
            for turns in script {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, turns, seen.clone()));
            }
        });
        Self { url, connections, requests }
    }

    fn client(&self) -> Client {
        Client::new(&self.url, Timeouts::default())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    mut stream: TcpStream,
    turns: Vec<Turn>,
    seen: tokio::sync::mpsc::UnboundedSender<String>,
) {
    for turn in turns {
        let Some(request) = read_request(&mut stream).await else { return };
        let _ = seen.send(request);
        match turn {
            Turn::Answer(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
            Turn::AnswerThenClose(answer) => {
                stream.write_all(answer.as_bytes()).await.unwrap();
                return;
            }
            Turn::Close => return,
            Turn::Silence => std::future::pending().await,
        }
    }
    // A connection at the end of its script stays open until the client closes it.
    let _ = stream.read(&mut [0]).await;
}

async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
            if body.len() >= length.parse().ok()? {
                return Some(text);
            }
        }
        let read = stream.read(&mut buffer).await.ok().filter(|&read| read > 0)?;
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
}

fn answer(text: &str) -> Turn {
    Turn::Answer(text.to_owned())
}

async fn post(client: &mut Client) -> Result<Reply, Error> {
    let body = Bytes::from_static(b"{\"a\":1}");
    let posting = client.post("/v1/x", "application/json", Some("gzip"), body);
    tokio::time::timeout(Duration::from_secs(20), posting).await.expect("every wait is bounded")
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let mut server = Server::start(vec![vec![answer(OK), answer(OK), answer(OK)]]).await;
    let mut client = server.client();
    for _ in 0..3 {
        let reply = post(&mut client).await.unwrap();
        assert_eq!((reply.status, &reply.body[..], reply.retry_after), (200, &b"ok"[..], None));
    }
    assert_eq!(server.connections(), 1);
    let request = server.requests.recv().await.unwrap();
    let authority = server.url.authority();
    assert_eq!(
        request,
        format!(
            "POST /base/v1/x HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
             content-encoding: gzip\r\ncontent-length: 7\r\n\r\n{{\"a\":1}}"
        )
    );
}

#[tokio::test]
async fn a_connection_that_was_closed_is_replaced_unnoticed() {
    let closing = Turn::AnswerThenClose(OK.to_owned());
    let server = Server::start(vec![vec![closing.clone()], vec![closing], vec![answer(OK)]]).await;
    let mut client = server.client();
    for connections in 1..=3 {
        assert_eq!(post(&mut client).await.unwrap().status, 200);
        assert_eq!(server.connections(), connections);
    }
}

#[tokio::test]
async fn a_connection_that_closes_on_the_request_is_replaced_once() {
    let script = vec![
        vec![answer(OK), Turn::Close],
        vec![answer(OK), Turn::Close],
        vec![Turn::Close],
        vec![answer(OK)],
    ];
    let server = Server::start(script).await;
    let mut client = server.client();
    assert_eq!(post(&mut client).await.unwrap().status, 200);
    assert_eq!(post(&mut client).await.unwrap().status, 200);
    // Both the old connection and the fresh one break: that is no coincidence any more.
    let error = post(&mut client).await.unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error:?}");
    assert!(error.to_string().contains(&server.url.address()), "{error}");
    assert_eq!(server.connections(), 3);
    assert_eq!(post(&mut client).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_answer_that_is_asked_to_be_the_last_ends_the_connection() {
    let last = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let server = Server::start(vec![vec![answer(last)], vec![answer(OK)]]).await;
    let mut client = server.client();
    assert_eq!(post(&mut client).await.unwrap().status, 200);
    assert_eq!(post(&mut client).await.unwrap().status, 200);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let server = Server::start(vec![vec![Turn::Silence], vec![answer(OK)]]).await;
    let timeouts = Timeouts { total: Duration::from_millis(50), ..Timeouts::default() };
    let mut client = Client::new(&server.url, timeouts);
    let error = post(&mut client).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    let address = server.url.address();
    assert_eq!(error.to_string(), format!("the queen at {address} did not answer within 50ms"));
    // The late answer would be taken for that of this request on the same connection.
    let mut patient = Client { timeouts: Timeouts::default(), ..client };
    assert_eq!(post(&mut patient).await.unwrap().status, 200);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn nobody_at_home_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: QueenUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    drop(listener);
    let error = post(&mut Client::new(&url, Timeouts::default())).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot connect to the queen at {}", url.address()));
}

#[tokio::test]
async fn an_answer_has_a_bound() {
    let body = "x".repeat(MAX_REPLY_BYTES);
    let fits = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}x", body.len() + 1);
    let piece = format!("1000\r\n{}\r\n", "x".repeat(4096));
    let endless =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}", piece.repeat(17));
    let script = vec![vec![answer(&fits), answer(&long)], vec![answer(&endless)]];
    let server = Server::start(script).await;
    let mut client = server.client();
    assert_eq!(post(&mut client).await.unwrap().body.len(), MAX_REPLY_BYTES);
    for _ in 0..2 {
        let error = post(&mut client).await.unwrap_err();
        assert!(matches!(error, Error::ReplyTooLarge { .. }), "{error:?}");
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn the_pieces_of_an_answer_are_put_together() {
    let pieces = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 7\r\n\
                  transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n3\r\ndef\r\n0\r\n\r\n";
    let server = Server::start(vec![vec![answer(pieces), answer(OK)]]).await;
    let mut client = server.client();
    let reply = post(&mut client).await.unwrap();
    let wait = Some(Duration::from_secs(7));
    assert_eq!((reply.status, &reply.body[..], reply.retry_after), (503, &b"abcdef"[..], wait));
    assert_eq!(post(&mut client).await.unwrap().status, 200);
    assert_eq!(server.connections(), 1);
}

#[test]
fn only_seconds_are_read_as_a_wait() {
    let read = |text| seconds(&HeaderValue::from_static(text));
    assert_eq!(read("0"), Some(Duration::ZERO));
    assert_eq!(read(" 120 "), Some(Duration::from_secs(120)));
    assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    assert_eq!(read("-1"), None);
}

#[tokio::test]
async fn what_is_no_request_is_refused_without_a_connection() {
    let server = Server::start(Vec::new()).await;
    let posting = server.client().post("/a b", "text/plain", None, Bytes::new()).await;
    assert!(matches!(posting, Err(Error::Request { .. })));
    let posting = server.client().post("/", "a\nb", None, Bytes::new()).await;
    assert!(matches!(posting, Err(Error::Request { .. })));
}
