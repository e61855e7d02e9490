//! Acknowledges everything and keeps nothing: shows what `hive-agent simulate` can send, and
//! costs, without a queen behind it.
//!
//!     cargo run --release -p hive-agent --example null_queen -- 127.0.0.1:7899

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7899".to_owned());
    let listener = TcpListener::bind(&address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(acknowledge));
        // A client that goes away is no concern of this program.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn acknowledge(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    Ok(Response::new(Full::new(Bytes::from_static(
        br#"{"status":"ok","message":"stored","id":1764000000123456,"duplicate":false}"#,
    ))))
}
