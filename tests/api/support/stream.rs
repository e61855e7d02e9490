//! A reader of the live feed. It reads only when asked, so a test can also be a slow reader.

use std::io::{self, BufRead, BufReader};
use std::time::Instant;

use serde_json::Value;

use super::Reply;
use super::client::Client;
use super::wait::LIMIT;

pub(crate) struct Stream {
    pub(crate) head: Reply,
    body: BufReader<ureq::BodyReader<'static>>,
}

/// One SSE frame.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    pub(crate) id: Option<i64>,
    pub(crate) event: String,
    /// The data line as it came.
    pub(crate) text: String,
    pub(crate) data: Value,
    /// Every line of it.
    pub(crate) lines: Vec<String>,
}

impl Stream {
    pub(crate) fn open(client: &Client, query: &str, headers: &[(&str, &str)]) -> Self {
        let (head, body) = client.open(&format!("/v1/heartbeats/stream{query}"), headers);
        Self { head, body: BufReader::new(body) }
    }

    /// The next line; none at the end of the stream. An error where the connection broke.
    fn try_line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        if self.body.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.strip_suffix('\n') {
            Some(line) => Ok(Some(line.into())),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The next line; none at the end of the stream.
    pub(crate) fn line(&mut self) -> Option<String> {
        self.try_line().unwrap_or_else(|error| panic!("the stream broke: {error}"))
    }

    /// The next frame; none at the end of the stream. An error where the connection broke: what
    /// came of a frame then is no frame.
    pub(crate) fn try_frame(&mut self) -> io::Result<Option<Frame>> {
        let mut frame = Frame::default();
        while let Some(line) = self.try_line()? {
            if line.is_empty() {
                return Ok(Some(frame));
            }
            match line.split_once(": ") {
                Some(("id", id)) => frame.id = Some(id.parse().unwrap()),
                Some(("event", event)) => frame.event = event.into(),
                Some(("data", data)) => {
                    frame.text = data.into();
                    frame.data = serde_json::from_str(data).unwrap();
                }
                _ => {}
            }
            frame.lines.push(line);
        }
        Ok(None)
    }

    /// The next frame; none at the end of the stream.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        self.try_frame().unwrap_or_else(|error| panic!("the stream broke: {error}"))
    }

    /// The next frame that satisfies a condition.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut wanted: impl FnMut(&Frame) -> bool) -> Frame {
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            match self.frame() {
                Some(frame) if wanted(&frame) => return frame,
                Some(_) => {}
                None => panic!("the stream ended before {what}"),
            }
        }
        panic!("the stream did not bring {what} within {} s", LIMIT.as_secs())
    }

    /// The next heartbeat of a hive, summaries passed over.
    #[track_caller]
    pub(crate) fn telemetry(&mut self) -> Frame {
        self.until("a heartbeat", |frame| frame.data["type"] == "hive_telemetry")
    }

    /// The next summary of the fleet.
    #[track_caller]
    pub(crate) fn summary(&mut self) -> Value {
        self.until("a summary", |frame| frame.data["type"] == "queen").data
    }
}
