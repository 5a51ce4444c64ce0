//! Reads a JSON object field by field and collects everything that is wrong with it.
//!
//! A derive would stop at the first mistake; a person wants to be told all of them at once.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::problem::{FieldError, Problem};

/// The longest field name that an error repeats, in characters.
const SHOWN: usize = 60;

/// A JSON object of which each field is taken once; what is left over is unknown.
#[derive(Debug)]
pub struct Fields {
    prefix: String,
    left: BTreeMap<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Fields {
    /// Starts on a body, which must be an object.
    pub fn of(body: Value) -> Result<Self, Problem> {
        match body {
            Value::Object(map) => Ok(Self::over(String::new(), map)),
            other => {
                let message = format!("must be a JSON object, not {}", describe(&other));
                Err(Problem::invalid("body", vec![FieldError::new("", message)]))
            }
        }
    }

    fn over(prefix: String, map: Map<String, Value>) -> Self {
        Self {
            prefix,
            left: map.into_iter().collect(),
            known: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Whether the field is given and not null.
    pub fn has(&self, field: &str) -> bool {
        self.left.get(field).is_some_and(|value| !value.is_null())
    }

    /// Whether the field is given, be it null.
    pub fn names(&self, field: &str) -> bool {
        self.left.contains_key(field)
    }

    /// Takes a text; null is as good as absent.
    pub fn text(&mut self, field: &'static str) -> Option<String> {
        match self.take(field)? {
            Value::String(text) => Some(text),
            other => self.wrong_type(field, "a text", &other),
        }
    }

    /// Takes a text that must be there.
    pub fn required_text(&mut self, field: &'static str) -> Option<String> {
        if !self.has(field) {
            self.take(field);
            self.error(field, "is required");
            return None;
        }
        self.text(field)
    }

    /// Takes a text and parses it into its type.
    pub fn parsed<T: FromStr<Err: std::fmt::Display>>(&mut self, field: &'static str) -> Option<T> {
        let text = self.text(field)?;
        self.parse(field, &text)
    }

    /// Takes a text that must be there and parses it into its type.
    pub fn required<T: FromStr<Err: std::fmt::Display>>(&mut self, field: &'static str) -> Option<T> {
        let text = self.required_text(field)?;
        self.parse(field, &text)
    }

    /// Takes one of a few words.
    pub fn choice<T: Copy>(&mut self, field: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(field)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.error(
            field,
            format!("must be one of {}, not {:?}", words.join(", "), shown(&text)),
        );
        None
    }

    /// Takes true or false.
    pub fn flag(&mut self, field: &'static str) -> Option<bool> {
        match self.take(field)? {
            Value::Bool(flag) => Some(flag),
            other => self.wrong_type(field, "true or false", &other),
        }
    }

    /// Takes an object and reads it with `read`; its errors become this one's.
    pub fn object<T>(&mut self, field: &'static str, read: impl FnOnce(&mut Fields) -> T) -> Option<T> {
        let map = match self.take(field)? {
            Value::Object(map) => map,
            other => return self.wrong_type(field, "an object", &other),
        };
        let mut inner = Self::over(format!("{}{field}.", self.prefix), map);
        let value = read(&mut inner);
        inner.refuse_unknown();
        self.errors.append(&mut inner.errors);
        Some(value)
    }

    /// Records that a field is wrong.
    pub fn error(&mut self, field: &str, message: impl Into<String>) {
        self.errors
            .push(FieldError::new(format!("{}{field}", self.prefix), message));
    }

    /// Takes a field without looking at it.
    pub fn skip(&mut self, field: &str) {
        self.left.remove(field);
    }

    /// Whether every field so far is right and none is left over.
    pub fn is_flawless(&self) -> bool {
        self.errors.is_empty() && self.left.is_empty()
    }

    /// Ends the reading: the fields that are left are refused by name.
    pub fn finish(self, what: &str) -> Result<(), Problem> {
        self.finish_with(what, Vec::new())
    }

    /// Ends the reading with what others found wrong; a field that is wrong in itself is named once.
    pub fn finish_with(mut self, what: &str, found: Vec<FieldError>) -> Result<(), Problem> {
        self.refuse_unknown();
        for error in found {
            if !self.errors.iter().any(|known| known.field == error.field) {
                self.errors.push(error);
            }
        }
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(what, self.errors))
        }
    }

    fn refuse_unknown(&mut self) {
        let known = self.known.join(", ");
        for name in std::mem::take(&mut self.left).into_keys() {
            self.error(shown(&name), format!("is unknown here; the fields are {known}"));
        }
    }

    fn take(&mut self, field: &'static str) -> Option<Value> {
        self.known.push(field);
        self.left.remove(field).filter(|value| !value.is_null())
    }

    fn parse<T: FromStr<Err: std::fmt::Display>>(&mut self, field: &'static str, text: &str) -> Option<T> {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(field, error.to_string());
                None
            }
        }
    }

    fn wrong_type<T>(&mut self, field: &str, wanted: &str, given: &Value) -> Option<T> {
        self.error(field, format!("must be {wanted}, not {}", describe(given)));
        None
    }
}

fn shown(text: &str) -> &str {
    text.char_indices()
        .nth(SHOWN)
        .map_or(text, |(end, _)| &text[..end])
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_mistake_is_told_at_once() {
        let mut fields = Fields::of(json!({
            "name": 7, "flag": "yes", "nested": {"a": true, "b": 1}, "surprise": 1, "size": "huge"
        }))
        .unwrap();
        fields.required_text("name");
        fields.flag("flag");
        fields.object("nested", |inner| inner.text("a"));
        fields.choice("size", &[("small", 1), ("large", 2)]);
        fields.required_text("absent");
        let problem = fields.finish("thing").unwrap_err();
        let named: Vec<_> = problem.errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(
            named,
            [
                "name", "flag", "nested.a", "nested.b", "size", "absent", "surprise"
            ]
        );
        assert_eq!(problem.detail, "7 fields of the thing are invalid");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in [json!([]), json!("a"), json!(1), json!(null)] {
            assert_eq!(Fields::of(body).unwrap_err().status, 422);
        }
    }
}
