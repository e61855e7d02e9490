//! The parameters of a question, from the URL or from a posted document.

use hive_contract::{Code, Problem};
use serde_json::Value;

use crate::api::params::Params;
use crate::api::problem::ApiError;

/// Parameters that may be given several times; posted, they may be lists.
const REPEATABLE: [&str; 3] = ["metric", "match", "group_by"];

/// Parameters as text.
#[derive(Debug)]
pub(super) struct Given {
    parameters: Vec<(String, String)>,
    /// What an error in one of them is called.
    code: Code,
}

impl Given {
    /// Those of a URL.
    pub(super) fn in_url(params: Params) -> Self {
        Self { parameters: params.into_pairs(), code: Code::InvalidParameter }
    }

    /// Those of a JSON object: texts or numbers, and lists of them where a parameter may be
    /// given several times. Other members are ignored.
    pub(super) fn in_body(body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            Problem::new(Code::MalformedJson, format!("the body is not JSON: {error}"))
        })?;
        let Value::Object(members) = value else {
            let detail = "the body must be an object with the parameters as its members";
            return Err(Problem::new(Code::InvalidField, detail).into());
        };
        let mut parameters = Vec::new();
        for (name, value) in members {
            match value {
                Value::Null => {}
                Value::Array(values) if REPEATABLE.contains(&&*name) => {
                    // An empty list of labels is not the same as none: all in one.
                    if values.is_empty() && name == "group_by" {
                        parameters.push((name.clone(), String::new()));
                    }
                    for (at, value) in values.into_iter().enumerate() {
                        let text = text(value).ok_or_else(|| {
                            let field = format!("{name}[{at}]");
                            Problem::field(Code::InvalidField, &field, "must be a string or number")
                        })?;
                        parameters.push((name.clone(), text));
                    }
                }
                value => match text(value) {
                    Some(text) => parameters.push((name, text)),
                    // Nobody asks for what it is.
                    None if !super::parse::PARAMETERS.contains(&&*name) => {}
                    None => {
                        let expected = if REPEATABLE.contains(&&*name) {
                            "must be a string, a number, or a list of them"
                        } else {
                            "must be a string or a number"
                        };
                        return Err(Problem::field(Code::InvalidField, &name, expected).into());
                    }
                },
            }
        }
        Ok(Self { parameters, code: Code::InvalidField })
    }

    /// All values of a parameter.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.parameters.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter; an empty one counts as none.
    pub(super) fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next().map(str::trim).filter(|value| !value.is_empty())
    }

    /// The error that a parameter's value is not allowed.
    pub(super) fn invalid(&self, name: &str, detail: &str) -> ApiError {
        Problem::field(self.code, name, detail).into()
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
