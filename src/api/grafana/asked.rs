//! The members of a body. No body at all is an empty one, and what is not known is ignored.

use hive_contract::{Code, Problem};
use serde_json::{Map, Value};

use super::conditions;
use crate::api::history::time;
use crate::api::problem::ApiError;

/// Members of a JSON object.
pub(super) type Members = Map<String, Value>;

/// The range where a body names none.
const DEFAULT_RANGE_MS: i64 = 3_600_000;

/// The error that a member is not what it should be.
pub(super) fn invalid(field: &str, detail: &str) -> ApiError {
    Problem::field(Code::InvalidField, field, detail).into()
}

/// The start of a text from outside, for an error.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The body's members.
pub(super) fn members(body: &[u8]) -> Result<Members, ApiError> {
    if body.trim_ascii().is_empty() {
        return Ok(Members::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(Value::Null) => Ok(Members::new()),
        Ok(_) => Err(Problem::new(Code::InvalidField, "the body must be a JSON object").into()),
        Err(error) => {
            let detail = format!("the body is not JSON: {error}");
            Err(Problem::new(Code::MalformedJson, detail).into())
        }
    }
}

/// A member that is an object, or one written as a text; empty where there is none.
pub(super) fn object(members: &Members, name: &str) -> Result<Members, ApiError> {
    let expected = || invalid(name, "must be an object");
    match members.get(name) {
        None | Some(Value::Null) => Ok(Members::new()),
        Some(Value::Object(object)) => Ok(object.clone()),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Members::new()),
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| expected()),
        Some(_) => Err(expected()),
    }
}

/// A member that is a list; empty where there is none.
pub(super) fn list<'a>(members: &'a Members, name: &str) -> Result<&'a [Value], ApiError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(values)) => Ok(values),
        Some(_) => Err(invalid(name, "must be a list")),
    }
}

/// A member that is a text; empty where there is none.
pub(super) fn text<'a>(members: &'a Members, name: &str) -> Result<&'a str, ApiError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.trim()),
        Some(_) => Err(invalid(name, "must be a string")),
    }
}

/// A member that is a positive number, also one written as a text.
pub(super) fn number(members: &Members, name: &str) -> Result<Option<f64>, ApiError> {
    let number = match members.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    let number = number.filter(|number| *number > 0.0);
    number.map(Some).ok_or_else(|| invalid(name, "must be a number above 0"))
}

/// A member with `from` and `to`: the last hour where there is none. `now` is ms since the epoch.
pub(super) fn range(members: &Members, name: &str, now: i64) -> Result<(i64, i64), ApiError> {
    let given = object(members, name)?;
    let moment = |end: &str, default: i64| match given.get(end) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => {
            let field = format!("{name}.{end}");
            let text = conditions::scalar(value)
                .ok_or_else(|| invalid(&field, "must be a time, as RFC 3339 or in ms"))?;
            time::moment(&text, now).map_err(|why| invalid(&field, &why))
        }
    };
    let (from, to) = (moment("from", now - DEFAULT_RANGE_MS)?, moment("to", now)?);
    if from >= to {
        return Err(invalid(&format!("{name}.to"), "must be after from"));
    }
    Ok((from, to))
}
