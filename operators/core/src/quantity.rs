//! Quantities as Kubernetes writes them: a number and a suffix.

/// The bytes of a mebibyte, in which memory and storage are told and planned.
pub const MEBIBYTE: f64 = KIBI * KIBI;

/// The amount that a quantity such as `100m`, `1.5Gi` or `12e6` names; nothing for a text that is none, or is below 0.
///
/// The notation is that of `k8s.io/apimachinery/pkg/api/resource`.
pub fn amount(text: &str) -> Option<f64> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let is_number = |rest: &&str| rest.starts_with(|c: char| c.is_ascii_digit() || "+-".contains(c));
    let exponent = suffix.strip_prefix(['e', 'E']).filter(is_number);
    let factor = match (suffix, exponent) {
        (_, Some(exponent)) => 10_f64.powi(exponent.parse().ok()?),
        ("n", _) => 1e-9,
        ("u", _) => 1e-6,
        ("m", _) => 1e-3,
        ("", _) => 1.0,
        ("k", _) => 1e3,
        ("M", _) => 1e6,
        ("G", _) => 1e9,
        ("T", _) => 1e12,
        ("P", _) => 1e15,
        ("E", _) => 1e18,
        ("Ki", _) => KIBI,
        ("Mi", _) => KIBI * KIBI,
        ("Gi", _) => KIBI * KIBI * KIBI,
        ("Ti", _) => KIBI * KIBI * KIBI * KIBI,
        ("Pi", _) => KIBI * KIBI * KIBI * KIBI * KIBI,
        ("Ei", _) => KIBI * KIBI * KIBI * KIBI * KIBI * KIBI,
        _ => return None,
    };
    let amount = number.parse::<f64>().ok()? * factor;
    amount.is_finite().then_some(amount)
}

const KIBI: f64 = 1024.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suffix_of_kubernetes_is_read() {
        for (text, expected) in [
            ("0", 0.0),
            ("110", 110.0),
            ("1.5", 1.5),
            (".5", 0.5),
            ("100m", 0.1),
            ("3920m", 3.92),
            ("5u", 5e-6),
            ("7n", 7e-9),
            ("2k", 2e3),
            ("2M", 2e6),
            ("2G", 2e9),
            ("2T", 2e12),
            ("2P", 2e15),
            ("2E", 2e18),
            ("16303416Ki", 16_303_416.0 * 1024.0),
            ("1.5Gi", 1.5 * 1_073_741_824.0),
            ("1Ti", 1_099_511_627_776.0),
            ("1Pi", 1_125_899_906_842_624.0),
            ("1Ei", 1_152_921_504_606_846_976.0),
            ("12e6", 12e6),
            ("1E3", 1e3),
            ("5e-1", 0.5),
        ] {
            let read = amount(text).unwrap_or_else(|| panic!("{text}"));
            assert!((read - expected).abs() <= expected * 1e-12, "{text}: {read}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_nothing() {
        for text in [
            "", "Gi", "-1", "+1", "1 Gi", "1gi", "1MB", "1e", "1e+x", "1.2.3", "1\n", "1e999", "nan", "inf",
        ] {
            assert_eq!(amount(text), None, "{text:?}");
        }
    }
}
