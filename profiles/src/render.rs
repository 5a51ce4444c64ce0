//! Renders a profile's template: strict, and with helpers that keep every value one YAML value.
//!
//! Templates come from `ClusterProfile` objects: they read no files and know no partials.

use handlebars::{
    Context, Handlebars, Helper, HelperResult, Output, RenderContext, RenderErrorReason, no_escape,
};
use handlebars::{HelperDef, ScopedJson};
use serde::Serialize;
use serde_json::Value;

/// A template that could not be rendered.
#[derive(Debug, thiserror::Error)]
#[error("the template cannot be rendered")]
pub struct RenderError(#[source] Box<handlebars::RenderError>);

/// Renders `template` with `values`; a name that is not there is an error, save in `#if`, where it is false.
pub fn render<T: Serialize>(template: &str, values: &T) -> Result<String, RenderError> {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    registry.register_escape_fn(no_escape);
    registry.set_prevent_indent(false);
    registry.register_helper("json", Box::new(json));
    registry.register_helper("integer", Box::new(integer));
    registry.register_helper("join", Box::new(Join));
    registry.register_helper("base64", Box::new(Base64));
    registry
        .render_template(template, values)
        .map_err(|source| RenderError(Box::new(source)))
}

/// `{{json x}}`: a value as JSON, which is YAML that cannot end early.
fn json(
    helper: &Helper<'_>,
    _: &Handlebars<'_>,
    _: &Context,
    _: &mut RenderContext<'_, '_>,
    out: &mut dyn Output,
) -> HelperResult {
    out.write(&param(helper, "json", 0)?.to_string())?;
    Ok(())
}

/// `{{integer x}}`: a text that is a whole number, as that number.
fn integer(
    helper: &Helper<'_>,
    _: &Handlebars<'_>,
    _: &Context,
    _: &mut RenderContext<'_, '_>,
    out: &mut dyn Output,
) -> HelperResult {
    let value = param(helper, "integer", 0)?;
    let number: i64 = match value {
        Value::String(text) => text.parse().map_err(|_| invalid("integer", value))?,
        Value::Number(number) => number.as_i64().ok_or_else(|| invalid("integer", value))?,
        _ => return Err(invalid("integer", value).into()),
    };
    out.write(&number.to_string())?;
    Ok(())
}

/// `(join a b …)`: the texts of all parameters, one after the other.
struct Join;

impl HelperDef for Join {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, handlebars::RenderError> {
        let mut joined = String::new();
        for index in 0..helper.params().len() {
            match param(helper, "join", index)? {
                Value::String(text) => joined.push_str(text),
                Value::Number(number) => joined.push_str(&number.to_string()),
                other => return Err(invalid("join", other).into()),
            }
        }
        Ok(ScopedJson::Derived(Value::String(joined)))
    }
}

/// `(base64 a)`: a text as the value of a Secret's key, or of any field that holds bytes.
struct Base64;

impl HelperDef for Base64 {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, handlebars::RenderError> {
        match param(helper, "base64", 0)? {
            Value::String(text) => {
                let encoded = data_encoding::BASE64.encode(text.as_bytes());
                Ok(ScopedJson::Derived(Value::String(encoded)))
            }
            other => Err(invalid("base64", other).into()),
        }
    }
}

fn param<'a>(
    helper: &'a Helper<'_>,
    name: &'static str,
    index: usize,
) -> Result<&'a Value, RenderErrorReason> {
    let missing = || RenderErrorReason::ParamNotFoundForIndex(name, index);
    let param = helper.param(index).ok_or_else(missing)?;
    if param.is_value_missing() {
        let path = param.relative_path().cloned();
        return Err(RenderErrorReason::MissingVariable(path));
    }
    Ok(param.value())
}

fn invalid(helper: &'static str, value: &Value) -> RenderErrorReason {
    let given: String = value.to_string().chars().take(80).collect();
    RenderErrorReason::Other(format!("{helper} cannot take {given}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_that_is_not_there_is_an_error() {
        for template in ["{{a}}", "{{json a}}", "{{json b.c}}", "{{json (join a)}}"] {
            assert!(render(template, &json!({"b": {}})).is_err(), "{template}");
        }
    }

    #[test]
    fn values_stay_values() {
        let values = json!({"s": "a\"\n- b: {{c}} #", "n": 3, "t": "4", "o": {"k": "v"}});
        assert_eq!(render("{{json s}}", &values).unwrap(), r#""a\"\n- b: {{c}} #""#);
        assert_eq!(
            render("{{json o}} {{json (join n t)}} {{integer t}}", &values).unwrap(),
            r#"{"k":"v"} "34" 4"#
        );
        assert!(render("{{integer s}}", &values).is_err());
        assert_eq!(render("{{json (base64 t)}}", &values).unwrap(), r#""NA==""#);
        assert!(render("{{json (base64 n)}}", &values).is_err());
    }
}
