//! Compares statuses as the API keeps them: nulls are nothing, and conditions have no order.

use serde_json::Value;

/// Whether a write of `after` would change nothing, where this controller writes the whole status.
pub(super) fn is_same_status(before: &Value, after: &Value) -> bool {
    normal(before) == normal(after)
}

/// Whether a write of `part` would change nothing, where other controllers write other parts.
pub(super) fn holds_status(before: &Value, part: &Value) -> bool {
    fn holds(whole: &Value, part: &Value) -> bool {
        match (whole, part) {
            (Value::Object(whole), Value::Object(part)) => part
                .iter()
                .all(|(key, value)| whole.get(key).is_some_and(|known| holds(known, value))),
            (Value::Array(whole), Value::Array(part)) if is_typed_list(part) => part.iter().all(|item| {
                whole
                    .iter()
                    .any(|known| known["type"] == item["type"] && holds(known, item))
            }),
            _ => whole == part,
        }
    }
    holds(&normal(before), &normal(part))
}

/// Drops nulls and empty objects, and orders lists that are maps by `type` (conditions), because the API
/// keeps those in the order of their first writing.
fn normal(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .filter(|(_, field)| !field.is_null())
                .map(|(key, field)| (key.clone(), normal(field)))
                .collect(),
        ),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(normal).collect();
            if is_typed_list(&items) {
                items.sort_by(|a, b| a["type"].as_str().cmp(&b["type"].as_str()));
            }
            Value::Array(items)
        }
        Value::Null => Value::Object(serde_json::Map::new()),
        other => other.clone(),
    }
}

fn is_typed_list(items: &[Value]) -> bool {
    !items.is_empty()
        && items
            .iter()
            .all(|item| item.get("type").is_some_and(Value::is_string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_is_null_and_conditions_have_no_order() {
        assert!(is_same_status(&Value::Null, &json!({})));
        assert!(is_same_status(&json!({"a": null, "b": 1}), &json!({"b": 1})));
        let (a, b) = (
            json!({"type": "A", "status": "True"}),
            json!({"type": "B", "status": "True"}),
        );
        assert!(is_same_status(
            &json!({"conditions": [a, b]}),
            &json!({"conditions": [b, a]})
        ));
        assert!(!is_same_status(
            &json!({"members": ["a", "b"]}),
            &json!({"members": ["b", "a"]})
        ));
        assert!(!is_same_status(&json!({"a": 1, "b": 2}), &json!({"a": 1})));
    }

    #[test]
    fn a_part_is_held_by_a_whole() {
        let whole =
            json!({"a": {"x": 1, "y": 2}, "conditions": [{"type": "A", "status": "True", "reason": "R"}]});
        assert!(holds_status(&whole, &json!({"a": {"x": 1}})));
        assert!(holds_status(
            &whole,
            &json!({"conditions": [{"type": "A", "status": "True"}]})
        ));
        assert!(!holds_status(&whole, &json!({"a": {"x": 2}})));
        assert!(!holds_status(
            &whole,
            &json!({"conditions": [{"type": "B", "status": "True"}]})
        ));
        assert!(!holds_status(&Value::Null, &json!({"a": 1})));
    }
}
