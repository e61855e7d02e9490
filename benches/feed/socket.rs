//! A subscriber: a bare socket.

use tokio::net::TcpStream;

use super::queen_process::Result;

/// Opens the feed; what comes is still to be read, the head of the answer too.
pub(super) async fn subscribe(url: &str, query: &str) -> Result<TcpStream> {
    let address = url.strip_prefix("http://").ok_or("no http")?;
    let socket = TcpStream::connect(address).await?;
    let request = format!("GET /v1/heartbeats/stream?{query} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    socket.writable().await?;
    if socket.try_write(request.as_bytes())? != request.len() {
        return Err("the request was not taken whole".into());
    }
    // The answer begins: the place on the feed is taken.
    socket.readable().await?;
    Ok(socket)
}

/// Where bytes stand first.
pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|byte| byte == first) {
        if haystack[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}
