//! One request for figures: a GET to a loopback address, over a connection that is kept.
//!
//! Invariant: a request takes at most [`LIMIT`] and follows no redirect, and no more of an
//! answer is read than [`MAX_TEXT`] bytes, of which no more is kept than the parser needs.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpSocket;
use tokio_util::task::AbortOnDropHandle;

use super::prometheus::Exposition;
use super::{Figures, json};
use crate::collect::server::{self, Endpoint};

/// How long one request may take, connecting included.
const LIMIT: Duration = Duration::from_millis(200);
/// The largest answer in the text format of Prometheus, in bytes.
const MAX_TEXT: usize = 4 << 20;
/// The largest answer in JSON, in bytes.
const MAX_JSON: usize = 256 << 10;

/// A connection that waits for its next request. Dropping it closes it at once, also in the
/// middle of an answer that would not end.
pub(super) struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    async fn send(&mut self, target: &Target) -> Result<Response<Incoming>, Error> {
        self.sender.ready().await.map_err(Error::Broken)?;
        self.sender.send_request(request(target)?).await.map_err(Error::Broken)
    }
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It does not listen, or not yet.
    #[error("does not listen")]
    NotListening,
    /// It does not answer this to everybody, or not at all.
    #[error("does not say ({0})")]
    NotOffered(StatusCode),
    /// It took too long.
    #[error("did not answer within {LIMIT:?}")]
    Timeout,
    /// It sends the question elsewhere.
    #[error("answered with a redirect ({0}), which is not followed")]
    Redirect(StatusCode),
    /// It failed.
    #[error("answered {0}")]
    Status(StatusCode),
    /// It would not end.
    #[error("answered with more than {0} bytes")]
    TooLarge(usize),
    /// It said something else.
    #[error("answered something that is not understood")]
    Form,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(hyper::Error),
    /// It is in a network of its own, and this user may not enter that.
    #[error("lives in a network that cannot be entered ({0}); that needs CAP_SYS_ADMIN")]
    Network(io::Error),
    /// There was no connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
}

/// Whom to ask.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) port: u16,
    pub(super) endpoint: &'static Endpoint,
    /// Its network, if that is not the machine's.
    pub(super) network: Option<Arc<File>>,
    /// The machine's.
    pub(super) own_network: Option<Arc<File>>,
}

/// Asks, over the given connection if it still stands; gives back one for the next time.
pub(super) async fn ask(
    target: &Target,
    kept: Option<Connection>,
) -> (Option<Connection>, Result<Figures, Error>) {
    match tokio::time::timeout(LIMIT, exchange(target, kept)).await {
        Ok(Ok((connection, figures))) => (Some(connection), Ok(figures)),
        Ok(Err(error)) => (None, Err(error)),
        Err(_) => (None, Err(Error::Timeout)),
    }
}

async fn exchange(
    target: &Target,
    kept: Option<Connection>,
) -> Result<(Connection, Figures), Error> {
    // A server may close an idle connection at the moment in which it is used.
    if let Some(mut connection) = kept
        && let Ok(answer) = connection.send(target).await
    {
        return Ok((connection, read(target, answer).await?));
    }
    let mut connection = connect(target).await?;
    let answer = connection.send(target).await?;
    Ok((connection, read(target, answer).await?))
}

fn request(target: &Target) -> Result<Request<Empty<Bytes>>, Error> {
    Request::get(target.endpoint.path)
        .header("host", format!("127.0.0.1:{}", target.port))
        .body(Empty::new())
        .map_err(|_| Error::Form)
}

async fn connect(target: &Target) -> Result<Connection, Error> {
    let socket = socket(target)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, target.port));
    let stream = socket.connect(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::NotListening,
        _ => Error::Connect(error),
    })?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(Error::Broken)?;
    // Whoever waits for an answer gets the error that belongs to it.
    let driver = tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(Connection { sender, _driver: AbortOnDropHandle::new(driver) })
}

/// A socket belongs to the network in which it was made, wherever it is used.
fn socket(target: &Target) -> Result<TcpSocket, Error> {
    let Some((network, own)) = target.network.as_ref().zip(target.own_network.as_ref()) else {
        return TcpSocket::new_v4().map_err(Error::Connect);
    };
    let kind = Some(LinkNameSpaceType::Network);
    move_into_link_name_space(network.as_fd(), kind)
        .map_err(|errno| Error::Network(errno.into()))?;
    let socket = TcpSocket::new_v4();
    // Nothing else may run in between. Left in the wrong network, this thread would ask the
    // wrong servers from now on.
    move_into_link_name_space(own.as_fd(), kind)
        .expect("a thread may always return to the network that it came from");
    socket.map_err(Error::Connect)
}

async fn read(target: &Target, answer: Response<Incoming>) -> Result<Figures, Error> {
    let status = answer.status();
    match status {
        StatusCode::OK => {}
        _ if status.is_redirection() => return Err(Error::Redirect(status)),
        StatusCode::UNAUTHORIZED
        | StatusCode::FORBIDDEN
        | StatusCode::NOT_FOUND
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::NOT_IMPLEMENTED => return Err(Error::NotOffered(status)),
        // It still loads its model.
        StatusCode::SERVICE_UNAVAILABLE => return Err(Error::NotListening),
        _ => return Err(Error::Status(status)),
    }
    let mut body = answer.into_body();
    let parse = match &target.endpoint.figures {
        server::Figures::Prometheus { running, waiting, kv_cache } => {
            let mut exposition = Exposition::new(running, waiting, kv_cache);
            let mut length = 0;
            while let Some(piece) = piece(&mut body).await? {
                length += piece.len();
                if length > MAX_TEXT {
                    return Err(Error::TooLarge(MAX_TEXT));
                }
                exposition.feed(&piece);
            }
            return Ok(exposition.end());
        }
        server::Figures::Slots => json::slots,
        server::Figures::KoboldPerf => json::kobold_perf,
        server::Figures::ComfyPrompt => json::comfy_prompt,
    };
    let mut whole = Vec::new();
    while let Some(piece) = piece(&mut body).await? {
        if whole.len() + piece.len() > MAX_JSON {
            return Err(Error::TooLarge(MAX_JSON));
        }
        whole.extend_from_slice(&piece);
    }
    parse(&whole).ok_or(Error::Form)
}

async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, Error> {
    while let Some(frame) = Pin::new(&mut *body).frame().await {
        if let Ok(data) = frame.map_err(Error::Broken)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
