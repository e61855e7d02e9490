//! Query parameters: repeatable, each parsed with its name in the error.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use hive_contract::{Code, Problem};

use serde::de::DeserializeOwned;

use super::problem::{ApiError, not_found};

/// The most parameters of one request: each worker of the fleet may be compared with all of them.
const MAX_PARAMETERS: usize = 256;

/// The parameters of a request, in their order.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        let given = form_urlencoded::parse(query.as_bytes()).into_owned();
        let params: Vec<_> = given.take(MAX_PARAMETERS + 1).collect();
        if params.len() > MAX_PARAMETERS {
            let detail = format!("there are more than {MAX_PARAMETERS} parameters");
            return Err(Problem::new(Code::InvalidParameter, detail).into());
        }
        Ok(Self(params))
    }
}

impl Params {
    /// Names and values, as they are.
    pub(super) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// All values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a value is among those of a parameter; yes if there are none.
    pub(super) fn admits(&self, name: &str, value: Option<&str>) -> bool {
        let mut wanted = self.all(name).peekable();
        wanted.peek().is_none() || wanted.any(|wanted| Some(wanted) == value)
    }

    /// The value of a parameter, if it is there.
    pub(super) fn get<T: FromStr>(
        &self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, ApiError> {
        let parse = |value: &str| {
            value.parse().map_err(|_| invalid(name, &format!("{value:?} is not {expected}")))
        };
        self.all(name).next().map(parse).transpose()
    }
}

/// The variable parts of a path.
#[derive(Debug)]
pub(super) struct PathParts<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for PathParts<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // What does not decode names nothing.
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(_) => Err(not_found(parts.uri.clone()).await),
        }
    }
}

/// A parameter whose value is not allowed.
pub(super) fn invalid(name: &str, detail: &str) -> ApiError {
    Problem::field(Code::InvalidParameter, name, detail).into()
}
