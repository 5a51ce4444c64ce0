//! A cell's spec, parsed once: names, and ranges that do not overlap.

use ipnet::IpNet;
use skep_api::CellSpec;
use skep_core::{Domain, Region, Zone};

/// A cell's spec that can be acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidCell {
    /// The region.
    pub region: Region,
    /// The domain of its tenants' host names.
    pub domain: Domain,
    /// Its zones, in order.
    pub zones: Vec<Zone>,
}

/// A field that cannot be acted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The path below `spec`.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for FieldError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Checks a spec; all mistakes at once.
pub fn validate(spec: &CellSpec) -> Result<ValidCell, Vec<FieldError>> {
    let CellSpec {
        pool: _,
        region,
        domain,
        zones,
        network,
        gateway,
        cordoned: _,
        provider: _,
        nodes_per_zone: _,
    } = spec;
    let mut errors = Vec::new();
    let mut note = |field, message: String| errors.push(FieldError { field, message });
    let region = region
        .parse::<Region>()
        .map_err(|error| note("region", error.to_string()));
    let domain = domain
        .parse::<Domain>()
        .map_err(|error| note("domain", error.to_string()));
    let mut parsed = Vec::new();
    for zone in zones {
        match zone.parse::<Zone>() {
            Ok(zone) if parsed.contains(&zone) => note("zones", format!("{zone} is there twice")),
            Ok(zone) => parsed.push(zone),
            Err(error) => note("zones", error.to_string()),
        }
    }
    let ranges = [
        ("network.nodes", &network.nodes),
        ("network.pods", &network.pods),
        ("network.services", &network.services),
    ];
    let mut known: Vec<(&'static str, IpNet)> = Vec::new();
    for (field, text) in ranges {
        match parse_range(text) {
            Ok(range) => {
                if let Some((other, value)) = known.iter().find(|(_, value)| is_overlapping(range, *value)) {
                    note(field, format!("{range} overlaps {value}, {other}"));
                }
                known.push((field, range));
            }
            Err(message) => note(field, message),
        }
    }
    if !is_address(&gateway.address) {
        note(
            "gateway.address",
            format!("{:?} is no host:port", shortened(&gateway.address)),
        );
    }
    match (region, domain) {
        (Ok(region), Ok(domain)) if errors.is_empty() => Ok(ValidCell {
            region,
            domain,
            zones: parsed,
        }),
        _ => Err(errors),
    }
}

fn parse_range(text: &str) -> Result<IpNet, String> {
    let range: IpNet = text
        .parse()
        .map_err(|_| format!("{:?} is no CIDR", shortened(text)))?;
    if range.trunc() == range {
        Ok(range)
    } else {
        Err(format!(
            "{range} has host bits set; the network is {}",
            range.trunc()
        ))
    }
}

fn is_overlapping(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// A host name or address, a colon and a port; IPv6 in brackets.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let is_name = !host.is_empty() && host.len() <= 253 && host.chars().all(is_inner);
    let is_host = bracketed.map_or(is_name, |inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    is_port && is_host
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
region: local
domain: skep.internal
zones: [a, b, c]
network: {nodes: 198.18.0.0/24, services: 198.18.4.0/22, pods: 198.18.16.0/20}
gateway: {address: '198.18.0.2:443'}
";

    fn fields(text: &str) -> Vec<&'static str> {
        let spec: CellSpec = serde_saphyr::from_str(text).unwrap();
        validate(&spec)
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|error| error.field)
            .collect()
    }

    #[test]
    fn a_cell_with_ranges_apart_is_taken() {
        assert!(fields(GOOD).is_empty());
        assert!(fields(&GOOD.replace("198.18.0.2:443", "[2001:db8::1]:443")).is_empty());
        assert!(fields(&GOOD.replace("198.18.0.2:443", "gateway.example.com:443")).is_empty());
    }

    #[test]
    fn each_mistake_names_its_field() {
        let cases = [
            ("local", "Local", "region"),
            ("skep.internal", "skep..internal", "domain"),
            ("[a, b, c]", "[a, b, a]", "zones"),
            ("[a, b, c]", "[a, B]", "zones"),
            ("198.18.16.0/20", "198.18.0.0/16", "network.pods"),
            ("198.18.16.0/20", "198.18.16.1/20", "network.pods"),
            ("198.18.4.0/22", "nonsense", "network.services"),
            ("198.18.0.2:443", "198.18.0.2", "gateway.address"),
            ("198.18.0.2:443", "198.18.0.2:0", "gateway.address"),
            ("198.18.0.2:443", "a b:443", "gateway.address"),
        ];
        for (good, bad, field) in cases {
            assert!(fields(&GOOD.replace(good, bad)).contains(&field), "{bad}");
        }
    }
}
