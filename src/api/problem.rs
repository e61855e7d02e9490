//! The one map from errors to responses.

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hive_contract::{Code, Problem};
use serde::Serialize;

use super::response::json;
use crate::history::query::QueryError;
use crate::history::reader::ReadError;
use crate::ingest::IngestError;
use crate::scheduler::{Considered, NoWorker};

/// An error as the client sees it.
#[derive(Debug)]
pub(super) struct ApiError(Box<Document>);

/// A problem with the members that only some have.
#[derive(Debug, Serialize)]
struct Document {
    #[serde(flatten)]
    problem: Problem,
    /// For a request that no worker can take: what became of each worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    considered: Option<Considered>,
}

impl ApiError {
    /// Its stable name.
    pub(super) fn code(&self) -> Code {
        self.0.problem.code
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self(document) = self;
        let problem = &document.problem;
        let retry_after = problem.code.retry_after_s();
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, json(&*document)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(Document { problem, considered: None }))
    }
}

impl From<NoWorker> for ApiError {
    fn from(no_worker: NoWorker) -> Self {
        let NoWorker { considered, detail } = no_worker;
        let problem = Problem::new(Code::NoAvailableWorkers, detail);
        Self(Box::new(Document { problem, considered: Some(considered) }))
    }
}

impl From<IngestError> for ApiError {
    fn from(error: IngestError) -> Self {
        Problem::from(error).into()
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let detail = error.to_string();
        let problem = match error {
            // A query that takes too long asked for too much too: the same remedy helps.
            QueryError::TooManyPoints { suggested_step, .. }
            | QueryError::TooSlow { suggested_step, .. } => {
                Problem::new(Code::TooManyPoints, detail).suggesting(suggested_step)
            }
            QueryError::PercentilesNeedReadings | QueryError::TooManyReadings => {
                Problem::field(Code::InvalidField, "agg", &detail)
            }
            QueryError::Read(error) => return error.into(),
        };
        problem.into()
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        if let ReadError::Database(source) = &error {
            tracing::error!(error = %source, "the history cannot be read");
        }
        let code = match error {
            ReadError::Busy | ReadError::Database(_) => Code::StorageUnavailable,
            ReadError::TimeLimit { .. } => Code::TooManyPoints,
        };
        Problem::new(code, error.to_string()).into()
    }
}

/// For a path that is none.
pub(super) async fn not_found(uri: Uri) -> ApiError {
    Problem::new(Code::NotFound, format!("there is nothing at {}", uri.path())).into()
}

/// For a method that a path does not have; the router adds `Allow`.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> ApiError {
    let detail = format!("{} cannot be used with {method}", uri.path());
    Problem::new(Code::MethodNotAllowed, detail).into()
}

/// For a resource that is not known.
pub(super) fn unknown(what: &str, name: impl std::fmt::Display) -> ApiError {
    Problem::new(Code::NotFound, format!("no {what} {name} is known")).into()
}
