//! The revision of a control plane: a hash of what it shall be.
//!
//! It depends on values alone, never on the order in which fields or map entries were written.

use serde_json::Value;
use sha2::{Digest, Sha256};
use skep_api::ControlPlaneSpec;

/// Bytes of the digest that are kept: 64 bits tell the revisions of one tenant apart.
const KEPT: usize = 8;

/// SHA-256 of the canonical JSON of `spec`, its first 16 hexadecimal characters.
pub fn revision(spec: &ControlPlaneSpec) -> String {
    let value = serde_json::to_value(spec).unwrap_or_default();
    let mut canonical = String::new();
    write_canonical(&value, &mut canonical);
    hex::encode(&Sha256::digest(canonical.as_bytes())[..KEPT])
}

/// Writes keys in order: `serde_json` keeps them so only while no crate turns on its `preserve_order`.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort();
            out.push('{');
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(&fields[key], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_keys_does_not_show() {
        let mut out = String::new();
        write_canonical(&json!({"b": [1, {"d": null, "c": "\"x"}], "a": true}), &mut out);
        assert_eq!(out, r#"{"a":true,"b":[1,{"c":"\"x","d":null}]}"#);
    }
}
