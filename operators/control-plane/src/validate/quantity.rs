//! CPU and memory of a component: quantities, of which none is less than it must be.

use skep_api::control_plane::ComponentResources;
use skep_core::quantity::amount;

use super::InvalidSpec;

/// Checks one component's CPU and memory: each a quantity, and the limit no less than the request.
pub(super) fn check_resources(
    field: &str,
    resources: &ComponentResources,
) -> Result<ComponentResources, InvalidSpec> {
    let ComponentResources {
        cpu,
        memory,
        memory_limit,
        go_memory_limit,
    } = resources;
    let check = |name: &str, value: &str| {
        amount(value).filter(|amount| *amount > 0.0).ok_or_else(|| {
            InvalidSpec::new(
                format!("{field}.{name}"),
                "is no positive quantity such as 100m or 256Mi",
            )
        })
    };
    check("cpu", cpu)?;
    let (request, limit) = (check("memory", memory)?, check("memoryLimit", memory_limit)?);
    if limit < request {
        return Err(InvalidSpec::new(
            format!("{field}.memoryLimit"),
            "is less than memory",
        ));
    }
    if let Some(text) = go_memory_limit {
        let soft = go_bytes(text).ok_or_else(|| {
            InvalidSpec::new(
                format!("{field}.goMemoryLimit"),
                "is no number of bytes such as 768MiB",
            )
        })?;
        if soft > limit {
            return Err(InvalidSpec::new(
                format!("{field}.goMemoryLimit"),
                "is more than memoryLimit",
            ));
        }
    }
    Ok(resources.clone())
}

/// The bytes that `GOMEMLIMIT` takes.
fn go_bytes(text: &str) -> Option<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = match suffix {
        "" | "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(cpu: &str, memory: &str, limit: &str, go: Option<&str>) -> ComponentResources {
        ComponentResources {
            cpu: cpu.into(),
            memory: memory.into(),
            memory_limit: limit.into(),
            go_memory_limit: go.map(Into::into),
        }
    }

    #[test]
    fn usual_quantities_are_taken() {
        for (cpu, memory, limit, go) in [
            ("50m", "256Mi", "1Gi", Some("768MiB")),
            ("1.5", "1G", "1G", None),
            ("1", "1", "1", Some("1")),
        ] {
            assert!(
                check_resources("r", &resources(cpu, memory, limit, go)).is_ok(),
                "{cpu} {memory}"
            );
        }
    }

    #[test]
    fn each_mistake_names_its_field() {
        let cases = [
            ("", "1Mi", "1Mi", None, "r.cpu"),
            ("-1", "1Mi", "1Mi", None, "r.cpu"),
            ("0", "1Mi", "1Mi", None, "r.cpu"),
            ("1\n", "1Mi", "1Mi", None, "r.cpu"),
            ("1", "1MB", "1Mi", None, "r.memory"),
            ("1", "1Gi", "1Mi", None, "r.memoryLimit"),
            ("1", "1Mi", "1Gi", Some("1Gi"), "r.goMemoryLimit"),
            ("1", "1Mi", "1Gi", Some("2GiB"), "r.goMemoryLimit"),
        ];
        for (cpu, memory, limit, go, field) in cases {
            let error = check_resources("r", &resources(cpu, memory, limit, go)).unwrap_err();
            assert_eq!(error.field, field, "{error}");
        }
    }
}
