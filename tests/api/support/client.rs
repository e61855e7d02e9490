//! A blocking HTTP client, and what it makes of an answer.

use std::time::Duration;

use serde_json::Value;
use ureq::Agent;
use ureq::http::{HeaderMap, Method, Request};

use super::wait::LIMIT;

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");
pub(crate) const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
pub(crate) const GZIP: (&str, &str) = ("content-encoding", "gzip");
pub(crate) const ZSTD: (&str, &str) = ("content-encoding", "zstd");

/// Keeps its connections open between requests, as agents do.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    url: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

fn agent(total: Option<Duration>) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .user_agent("")
        .timeout_global(total)
        .timeout_per_read(Some(LIMIT))
        .build()
        .into()
}

impl Client {
    pub(crate) fn new(url: &str) -> Self {
        Self { agent: agent(Some(LIMIT)), url: url.into() }
    }

    /// The answer, or none where the connection broke.
    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Reply> {
        let method: Method = method.parse().unwrap();
        let has_body = matches!(method, Method::POST | Method::PUT | Method::PATCH);
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = if has_body {
            self.agent.run(request.body(body).unwrap())
        } else {
            self.agent.run(request.body(()).unwrap())
        };
        let mut answer = answer.ok()?;
        let body = answer.body_mut().with_config().limit(1 << 30).read_to_vec().ok()?;
        Some(Reply { status: answer.status().as_u16(), headers: answer.headers().clone(), body })
    }

    #[track_caller]
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let answer = self.try_send(method, path, headers, body);
        answer.unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// The head of an answer whose body goes on and on, and the reader of that body.
    pub(crate) fn open(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (Reply, ureq::BodyReader<'static>) {
        let mut request = Request::builder().uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = agent(None).run(request.body(()).unwrap()).unwrap();
        let (head, body) = answer.into_parts();
        let head = Reply { status: head.status.as_u16(), headers: head.headers, body: Vec::new() };
        (head, body.into_with_config().limit(u64::MAX).reader())
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{} {:?}: {error}", self.status, self.text()))
    }

    /// The body of a success.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/json"));
        self.json()
    }

    /// Insists on a complete problem document with this status and code, and gives its detail.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["type"], "about:blank", "{problem}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(!detail.is_empty(), "{problem}");
        assert_eq!(problem["message"], detail, "{problem}");
        assert_eq!(problem["error"]["code"], code, "{problem}");
        assert_eq!(problem["error"]["message"], detail, "{problem}");
        let retry_after = self.header("retry-after").map(|value| value.parse::<u32>().unwrap());
        assert_eq!(retry_after.is_some(), matches!(status, 429 | 503), "{problem}");
        assert_eq!(self.header("allow").is_some(), status == 405, "{problem}");
        detail.into()
    }

    /// A problem of one field or parameter, named in `errors` and at the start of the detail.
    #[track_caller]
    pub(crate) fn field_problem(&self, status: u16, code: &str, field: &str) -> String {
        let detail = self.problem(status, code);
        let problem = self.json();
        let errors = problem["errors"].as_array().expect("field errors");
        assert_eq!(errors.len(), 1, "{problem}");
        assert_eq!(errors[0]["field"], field, "{problem}");
        let why = errors[0]["detail"].as_str().expect("a detail");
        assert_eq!(detail, format!("{field}: {why}"));
        detail
    }
}
