//! Payload members and ad hoc filters that choose series.
//!
//! The query editor writes values in three ways: a list of plain texts, a plain text, or a text
//! in which everything special is escaped as in a regular expression, several of them as `(a|b)`.

use serde_json::Value;

use super::asked::{Members, invalid, list, shown};
use crate::api::problem::ApiError;
use crate::history::query::matcher::{InvalidMatcher, MAX_MATCHERS};
use crate::history::query::{Label, Matcher};

/// What Grafana may send for a variable of which all values are chosen.
const ALL: &str = "$__all";

/// A plain value as a text.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// The texts that a pattern stands for, if it is one such as `a`, `a\.b` or `(a|b)`.
pub(super) fn literals(pattern: &str) -> Option<Vec<String>> {
    let inner = pattern.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let mut texts = vec![String::new()];
    let mut characters = inner.unwrap_or(pattern).chars();
    while let Some(character) = characters.next() {
        let text = texts.last_mut()?;
        match character {
            '|' => texts.push(String::new()),
            // A letter after a backslash is a class, such as \d.
            '\\' => text.push(characters.next().filter(|c| !c.is_alphanumeric())?),
            '.' | '^' | '$' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' => return None,
            other => text.push(other),
        }
    }
    Some(texts)
}

/// The name in `$name`, `${name}`, `${name:format}` or `[[name]]`.
fn variable(text: &str) -> Option<&str> {
    let braced = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let squared = text.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]"));
    let name = match braced.or(squared) {
        Some(inner) => inner.split(':').next()?,
        None => text.strip_prefix('$')?,
    };
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (is_name && name != "__all").then_some(name)
}

/// A value with a variable of the dashboard, which is not replaced yet, in its place.
fn resolved<'a>(field: &str, value: &'a Value, scoped: &'a Members) -> Result<&'a Value, ApiError> {
    let Some(name) = value.as_str().and_then(variable) else { return Ok(value) };
    scoped
        .get(name)
        .and_then(|variable| variable.get("value"))
        .ok_or_else(|| invalid(field, &format!("the dashboard has no variable {:?}", shown(name))))
}

/// The texts that a member stands for; none where it says nothing or everything.
pub(super) fn texts(
    field: &str,
    value: &Value,
    scoped: &Members,
) -> Result<Option<Vec<String>>, ApiError> {
    let texts = match resolved(field, value, scoped)? {
        Value::Array(values) => {
            let texts = values.iter().map(scalar).collect::<Option<Vec<_>>>();
            texts.ok_or_else(|| invalid(field, "must be a list of strings"))?
        }
        Value::Null => return Ok(None),
        other => {
            let text = scalar(other)
                .ok_or_else(|| invalid(field, "must be a string or a list of strings"))?;
            if text.trim().is_empty() {
                return Ok(None);
            }
            literals(&text).unwrap_or_else(|| vec![text])
        }
    };
    Ok((!texts.iter().any(|text| text == ALL)).then_some(texts))
}

/// The condition of a payload member named like a label; none where it says nothing.
fn matcher(label: Label, value: &Value, scoped: &Members) -> Result<Option<Matcher>, ApiError> {
    let name = label.name();
    let value = resolved(name, value, scoped)?;
    // What all stands for may be a pattern of its own, alone in a list.
    let value = match value {
        Value::Array(values) if values.len() == 1 && values[0].is_string() => &values[0],
        other => other,
    };
    let Some(texts) = texts(name, value, scoped)? else { return Ok(None) };
    match value.as_str() {
        Some(text) if literals(text).is_none() => {
            // It may be meant as it stands: a model's name has dots.
            let pattern = format!("{}|{text}", regex::escape(text));
            Matcher::matches(label, &pattern).map(Some).map_err(|why| invalid(name, &said(&why)))
        }
        _ => Ok(Some(Matcher::one_of(label, texts))),
    }
}

/// What is wrong with a pattern, without the part that was put before it.
fn said(why: &InvalidMatcher) -> String {
    match why {
        InvalidMatcher::Pattern { why, .. } => format!("is not a regular expression: {why}"),
        other => other.to_string(),
    }
}

/// The conditions of a payload's members.
pub(super) fn of_payload(payload: &Members, scoped: &Members) -> Result<Vec<Matcher>, ApiError> {
    let of = |label: &Label| {
        payload.get(label.name()).and_then(|value| matcher(*label, value, scoped).transpose())
    };
    Label::ALL.iter().filter_map(of).collect()
}

/// The conditions of ad hoc filters. One that is not complete yet says nothing.
pub(super) fn of_filters(members: &Members) -> Result<Vec<Matcher>, ApiError> {
    let filters = list(members, "filters")?;
    if filters.len() > MAX_MATCHERS {
        return Err(invalid("filters", &format!("are more than {MAX_MATCHERS}")));
    }
    let of = |(at, filter)| of_filter(&format!("filters[{at}]"), filter).transpose();
    filters.iter().enumerate().filter_map(of).collect()
}

fn of_filter(field: &str, filter: &Value) -> Result<Option<Matcher>, ApiError> {
    let member = |name: &str| match filter.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(value) => scalar(value).ok_or_else(|| invalid(field, "must have a key and a value")),
    };
    if !filter.is_object() {
        return Err(invalid(field, "must be an object"));
    }
    let (key, operator, value) = (member("key")?, member("operator")?, member("value")?);
    if key.is_empty() {
        return Ok(None);
    }
    let label = Label::named(&key)
        .ok_or_else(|| invalid(field, &format!("{:?} is not a label", shown(&key))))?;
    let values = || match filter.get("values").and_then(Value::as_array) {
        Some(values) if !values.is_empty() => values.iter().filter_map(scalar).collect(),
        _ => vec![value.clone()],
    };
    let matches =
        || Matcher::matches(label, &value).map_err(|why| invalid(field, &why.to_string()));
    Ok(Some(match operator.as_str() {
        "" | "=" => Matcher::equal(label, value),
        "!=" => Matcher::equal(label, value).negated(),
        "=~" => matches()?,
        "!~" => matches()?.negated(),
        "=|" => Matcher::one_of(label, values()),
        "!=|" => Matcher::one_of(label, values()).negated(),
        other => {
            let detail = format!("{:?} is not one of = != =~ !~ =| !=|", shown(other));
            return Err(invalid(field, &detail));
        }
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn admits(value: &Value, candidate: &str) -> bool {
        let scoped = json!({"hive": {"value": ["a", "b"]}, "one": {"value": "a"}});
        let scoped = scoped.as_object().unwrap();
        matcher(Label::Model, value, scoped)
            .unwrap()
            .is_none_or(|matcher| matcher.admits(candidate))
    }

    #[test]
    fn every_way_of_writing_values() {
        for value in [
            json!("llama-3.2"),
            json!("llama-3\\.2"),
            json!("(llama-3\\.2|other)"),
            json!(["llama-3.2", "other"]),
            json!("llama.*"),
            json!(["llama.*"]),
            json!("$__all"),
            json!(["$__all"]),
            json!(""),
            json!(null),
        ] {
            assert!(admits(&value, "llama-3.2"), "{value}");
        }
        for value in [json!("lama"), json!("(a|b)"), json!([]), json!(["llama.*", "x"]), json!(3)] {
            assert!(!admits(&value, "llama-3.2"), "{value}");
        }
        assert!(admits(&json!(8080), "8080") && admits(&json!("a+b"), "a+b"));
        for text in ["$hive", "${hive}", "${hive:regex}", "[[hive]]"] {
            assert!(admits(&json!(text), "b") && !admits(&json!(text), "c"), "{text}");
        }
        assert!(admits(&json!("$one"), "a") && !admits(&json!("$one"), "b"));
        assert!(matcher(Label::Model, &json!("$nobody"), &Members::new()).is_err());
    }

    proptest! {
        #[test]
        fn what_the_editor_escapes_is_read_back(texts in proptest::collection::vec("\\PC{1,8}", 1..4)) {
            let escaped: Vec<_> = texts.iter().map(|text| regex::escape(text)).collect();
            let pattern = format!("({})", escaped.join("|"));
            prop_assert_eq!(literals(&pattern), Some(texts));
        }

        #[test]
        fn any_text_is_a_condition_or_an_error(text in "\\PC{0,30}") {
            let _ = matcher(Label::Model, &json!(text), &Members::new());
        }
    }
}
