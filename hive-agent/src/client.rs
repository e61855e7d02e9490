//! One keep-alive HTTP/1.1 connection to the queen, which heals itself.
//!
//! Invariant: a request is sent again only if its connection broke before any answer, and
//! only once, on a fresh connection. That is safe because everything posted here is idempotent:
//! a heartbeat is identified by its hive and its timestamp.
//!
//! Invariant: every wait is bounded, and so is the size of an answer.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

mod url;

pub use url::{InvalidQueenUrl, QueenUrl};

/// The largest answer that is read, in bytes: acknowledgements and problems are far smaller.
pub const MAX_REPLY_BYTES: usize = 64 << 10;

/// How long the queen may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a connection stands, looking up the name included.
    pub connect: Duration,
    /// For one request as a whole, connecting and one repetition included.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), total: Duration::from_secs(5) }
    }
}

/// What the queen answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// How long the queen asks to wait before the next try.
    pub retry_after: Option<Duration>,
    /// When the queen says that she answered, in milliseconds since the epoch; she says it in
    /// whole seconds.
    pub date_ms: Option<i64>,
    /// The body, at most [`MAX_REPLY_BYTES`].
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("cannot connect to the queen at {queen}")]
    Connect {
        /// Her `host:port`.
        queen: String,
        /// The reason.
        source: io::Error,
    },
    /// She did not answer in time.
    #[error("the queen at {queen} did not answer within {limit:?}")]
    Timeout {
        /// Her `host:port`.
        queen: String,
        /// The time that was given.
        limit: Duration,
    },
    /// The connection ended in the middle of a request.
    #[error("the connection to the queen at {queen} broke before the answer was complete")]
    Broken {
        /// Her `host:port`.
        queen: String,
        /// The reason.
        source: hyper::Error,
    },
    /// Something answered with more than any queen would.
    #[error("{queen} answered with more than {MAX_REPLY_BYTES} bytes; is it a queen?")]
    ReplyTooLarge {
        /// Her `host:port`.
        queen: String,
    },
    /// The request cannot be written as HTTP.
    #[error("not a valid request to {queen}")]
    Request {
        /// Her `host:port`.
        queen: String,
        /// The reason.
        source: hyper::http::Error,
    },
}

/// The way to one queen. Dropping it closes the connection.
///
/// The connection is driven by [`Client::post`] itself, without a task of its own: an idle
/// client costs nothing, and it works on any tokio runtime.
pub struct Client {
    queen: QueenUrl,
    host_header: HeaderValue,
    timeouts: Timeouts,
    connection: Option<Connection>,
    /// The last path, ready for the request line: nearly every request repeats it.
    target: Option<(String, Uri)>,
}

impl Client {
    /// A client that connects with its first request.
    #[must_use]
    pub fn new(queen: &QueenUrl, timeouts: Timeouts) -> Self {
        Self {
            queen: queen.clone(),
            host_header: HeaderValue::from_str(queen.authority())
                .expect("an authority has only visible ASCII characters"),
            timeouts,
            connection: None,
            target: None,
        }
    }

    /// Posts a body to a path below the queen's URL, such as `/v1/hive-heartbeat`.
    ///
    /// The future can be dropped at any point; the next request then takes a fresh connection.
    ///
    /// # Errors
    /// There was no complete answer. An answer that refuses is a [`Reply`], not an error.
    pub async fn post(
        &mut self,
        path: &str,
        content_type: &str,
        content_encoding: Option<&str>,
        body: Bytes,
    ) -> Result<Reply, Error> {
        let content = Content::new(content_type, content_encoding, body)
            .map_err(|source| Error::Request { queen: self.queen.address(), source })?;
        self.request(path, Some(content)).await
    }

    /// Gets what is at a path below the queen's URL, such as `/version`.
    ///
    /// # Errors
    /// As for [`Client::post`].
    pub async fn get(&mut self, path: &str) -> Result<Reply, Error> {
        self.request(path, None).await
    }

    async fn request(&mut self, path: &str, content: Option<Content>) -> Result<Reply, Error> {
        let message = self
            .message(path, content)
            .map_err(|source| Error::Request { queen: self.queen.address(), source })?;
        let limit = self.timeouts.total;
        match tokio::time::timeout(limit, self.send(&message)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { queen: self.queen.address(), limit }),
        }
    }

    fn message(
        &mut self,
        path: &str,
        content: Option<Content>,
    ) -> Result<Message, hyper::http::Error> {
        let target = match &self.target {
            Some((known, target)) if known == path => target.clone(),
            _ => {
                let target: Uri = format!("{}{path}", self.queen.base()).parse()?;
                self.target = Some((path.to_owned(), target.clone()));
                target
            }
        };
        Ok(Message { target, host: self.host_header.clone(), content })
    }

    async fn send(&mut self, message: &Message) -> Result<Reply, Error> {
        // Taken out while in use: whoever drops this future half-way drops the connection too,
        // and with it an answer that would be taken for that of the next request.
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await
        {
            match connection.exchange(message).await {
                Ok(reply) => return Ok(self.keep(connection, reply)),
                // A server may close an idle connection at the moment in which it is used.
                Err(ExchangeError::Broken { answered: false, .. }) => {}
                Err(error) => return Err(self.explain(error)),
            }
        }
        let mut connection = self.connect().await?;
        match connection.exchange(message).await {
            Ok(reply) => Ok(self.keep(connection, reply)),
            Err(error) => Err(self.explain(error)),
        }
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let queen = || self.queen.address();
        let connecting = async {
            let stream = TcpStream::connect((self.queen.host(), self.queen.port())).await?;
            // A request is one write; waiting to fill a packet would only add latency.
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = tokio::time::timeout(self.timeouts.connect, connecting)
            .await
            .unwrap_or_else(|_| {
                let limit = self.timeouts.connect;
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}")))
            })
            .map_err(|source| Error::Connect { queen: queen(), source })?;
        let (sender, driver) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| Error::Broken { queen: queen(), source })?;
        Ok(Connection { sender, driver: Box::pin(driver), closed: false })
    }

    fn keep(&mut self, connection: Connection, reply: Reply) -> Reply {
        if !connection.closed {
            self.connection = Some(connection);
        }
        reply
    }

    fn explain(&self, error: ExchangeError) -> Error {
        let queen = self.queen.address();
        match error {
            ExchangeError::Broken { source, .. } => Error::Broken { queen, source },
            ExchangeError::TooLarge => Error::ReplyTooLarge { queen },
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("queen", &self.queen)
            .field("connected", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

/// One request, which can be written more than once.
struct Message {
    target: Uri,
    host: HeaderValue,
    /// Without it the request is a GET.
    content: Option<Content>,
}

/// What is posted.
struct Content {
    kind: HeaderValue,
    encoding: Option<HeaderValue>,
    body: Bytes,
}

impl Content {
    fn new(kind: &str, encoding: Option<&str>, body: Bytes) -> Result<Self, hyper::http::Error> {
        let encoding = encoding.map(HeaderValue::from_str).transpose()?;
        Ok(Self { kind: HeaderValue::from_str(kind)?, encoding, body })
    }
}

impl Message {
    fn request(&self) -> Request<Full<Bytes>> {
        let body = self.content.as_ref().map(|content| content.body.clone());
        let mut request = Request::new(Full::new(body.unwrap_or_default()));
        *request.uri_mut() = self.target.clone();
        request.headers_mut().insert(header::HOST, self.host.clone());
        let Some(Content { kind, encoding, .. }) = &self.content else { return request };
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, kind.clone());
        if let Some(encoding) = encoding {
            headers.insert(header::CONTENT_ENCODING, encoding.clone());
        }
        request
    }
}

/// One connection and the state machine that reads and writes it.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: Pin<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
    /// The driver has come to its end and must not be polled again.
    closed: bool,
}

/// Why an exchange has no answer.
enum ExchangeError {
    Broken { answered: bool, source: hyper::Error },
    TooLarge,
}

impl Connection {
    /// Whether it can take a request; a connection that the server has closed cannot.
    async fn ready(&mut self) -> bool {
        poll_fn(|cx| {
            self.drive(cx);
            if self.closed {
                return Poll::Ready(false);
            }
            self.sender.poll_ready(cx).map(|ready| ready.is_ok())
        })
        .await
    }

    async fn exchange(&mut self, message: &Message) -> Result<Reply, ExchangeError> {
        let mut answer = pin!(self.sender.send_request(message.request()));
        let driver = &mut self.driver;
        let closed = &mut self.closed;
        let answer = poll_fn(|cx| {
            drive(driver, closed, cx);
            answer.as_mut().poll(cx)
        })
        .await
        .map_err(|source| ExchangeError::Broken { answered: false, source })?;
        self.read(answer).await
    }

    async fn read(&mut self, answer: Response<Incoming>) -> Result<Reply, ExchangeError> {
        let (head, mut incoming) = answer.into_parts();
        let mut body = Bytes::new();
        let mut gathered: Option<BytesMut> = None;
        loop {
            let frame = poll_fn(|cx| {
                self.drive(cx);
                Pin::new(&mut incoming).poll_frame(cx)
            })
            .await;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|source| ExchangeError::Broken { answered: true, source })?;
            let Ok(data) = frame.into_data() else { continue };
            let length = gathered.as_ref().map_or(body.len(), BytesMut::len);
            if length + data.len() > MAX_REPLY_BYTES {
                return Err(ExchangeError::TooLarge);
            }
            // An answer nearly always comes in one piece, which needs no copy.
            match &mut gathered {
                Some(gathered) => gathered.extend_from_slice(&data),
                None if body.is_empty() => body = data,
                None => {
                    let mut pieces = BytesMut::from(&body[..]);
                    pieces.extend_from_slice(&data);
                    gathered = Some(pieces);
                }
            }
        }
        Ok(Reply {
            status: head.status.as_u16(),
            retry_after: head.headers.get(header::RETRY_AFTER).and_then(seconds),
            date_ms: head.headers.get(header::DATE).and_then(date_ms),
            body: gathered.map_or(body, BytesMut::freeze),
        })
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, &mut self.closed, cx);
    }
}

/// Lets the connection read and write what it can. Its own error is not looked at: whoever
/// waits for an answer gets the error that belongs to it.
fn drive(
    driver: &mut Pin<Box<http1::Connection<TokioIo<TcpStream>, Full<Bytes>>>>,
    closed: &mut bool,
    cx: &mut Context<'_>,
) {
    if !*closed {
        *closed = driver.as_mut().poll(cx).is_ready();
    }
}

/// A moment such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date_ms(value: &HeaderValue) -> Option<i64> {
    let date = httpdate::parse_http_date(value.to_str().ok()?).ok()?;
    i64::try_from(date.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// The form in seconds. The form as a date is not read: it would need two clocks to agree.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests;
