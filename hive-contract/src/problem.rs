//! What every error looks like: an RFC 9457 problem document, with the members that
//! Grafana's data sources read (`message`, `error`) beside the standard ones.

use serde::{Deserialize, Serialize};

/// The stable name of an error, on which clients branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Code {
    MalformedJson,
    InvalidParameter,
    UnknownMetric,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    TooLarge,
    UnsupportedMediaType,
    InvalidField,
    ClockSkew,
    TooOld,
    TooManyPoints,
    TooManyRequests,
    Internal,
    StorageUnavailable,
    QueueFull,
    NoAvailableWorkers,
    TooManyStreams,
}

impl Code {
    /// The HTTP status that goes with it.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::MalformedJson | Self::InvalidParameter | Self::UnknownMetric => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::InvalidField | Self::ClockSkew | Self::TooOld | Self::TooManyPoints => 422,
            Self::TooManyRequests => 429,
            Self::Internal => 500,
            Self::StorageUnavailable
            | Self::QueueFull
            | Self::NoAvailableWorkers
            | Self::TooManyStreams => 503,
        }
    }

    /// The standard phrase of the status.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self.status() {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            413 => "Content Too Large",
            415 => "Unsupported Media Type",
            422 => "Unprocessable Content",
            429 => "Too Many Requests",
            503 => "Service Unavailable",
            _ => "Internal Server Error",
        }
    }

    /// Seconds after which a client may try again, where that makes sense.
    #[must_use]
    pub fn retry_after_s(self) -> Option<u32> {
        match self {
            // Soon: what cannot be stored is shown all the same, and a hive that is not heard for a
            // few seconds counts as silent.
            Self::StorageUnavailable
            | Self::TooManyRequests
            | Self::QueueFull
            | Self::NoAvailableWorkers => Some(1),
            Self::TooManyStreams => Some(5),
            _ => None,
        }
    }
}

/// The body of an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Always `about:blank`: `code` is what tells problems apart.
    #[serde(rename = "type")]
    pub kind: String,
    /// The standard phrase of the status.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong, for a person.
    pub detail: String,
    /// The same as `detail`, where Grafana looks for it.
    pub message: String,
    /// The stable name of the error.
    pub code: Code,
    /// Code and message, where other data sources look for them.
    pub error: ProblemError,
    /// The fields at fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// For a query that asked for too much: a step that is large enough, such as `15s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggested_step: Option<String>,
}

/// Code and message once more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "a repetition of the members of `Problem`")]
pub struct ProblemError {
    pub code: Code,
    pub message: String,
}

/// One field at fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldError {
    /// Its JSON path, or the parameter's name.
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl Problem {
    /// A problem with a text for a person.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            kind: "about:blank".into(),
            title: code.title().into(),
            status: code.status(),
            message: detail.clone(),
            error: ProblemError { code, message: detail.clone() },
            detail,
            code,
            errors: Vec::new(),
            suggested_step: None,
        }
    }

    /// The same problem with a step that is large enough.
    #[must_use]
    pub fn suggesting(self, step: String) -> Self {
        Self { suggested_step: Some(step), ..self }
    }

    /// A problem with one field or parameter.
    #[must_use]
    pub fn field(code: Code, field: &str, detail: &str) -> Self {
        let mut problem = Self::new(code, format!("{field}: {detail}"));
        problem.errors.push(FieldError { field: field.into(), detail: detail.into() });
        problem
    }
}

impl From<crate::parse::Rejection> for Problem {
    fn from(rejection: crate::parse::Rejection) -> Self {
        use crate::parse::Rejection;
        match &rejection {
            Rejection::Malformed(_) => Self::new(Code::MalformedJson, rejection.to_string()),
            Rejection::Invalid { field, detail } => Self::field(Code::InvalidField, field, detail),
        }
    }
}
