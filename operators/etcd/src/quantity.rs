//! Quantities of Kubernetes, as far as a datastore has them: bytes, and CPU in thousandths.

use std::fmt;

/// An amount of bytes and the text that it was given as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes {
    text: String,
    bytes: u64,
}

impl Bytes {
    /// Reads `2Gi`, `500M`, `1024`; nothing for a text that is no whole, positive amount of bytes.
    pub fn parse(text: &str) -> Option<Self> {
        const UNITS: [(&str, u64); 10] = [
            ("Ki", 1 << 10),
            ("Mi", 1 << 20),
            ("Gi", 1 << 30),
            ("Ti", 1 << 40),
            ("k", 1_000),
            ("M", 1_000_000),
            ("G", 1_000_000_000),
            ("T", 1_000_000_000_000),
            ("Pi", 1 << 50),
            ("", 1),
        ];
        let (number, unit) = UNITS
            .iter()
            .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|number| (number, *unit)))?;
        let bytes = whole(number)?.checked_mul(unit)?;
        (bytes > 0).then(|| Self {
            text: text.to_owned(),
            bytes,
        })
    }

    /// The number of bytes.
    pub fn get(&self) -> u64 {
        self.bytes
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An amount of CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu(String);

impl Cpu {
    /// Reads `50m`, `2`, `0.5`; nothing for a text that is no positive amount of CPU.
    pub fn parse(text: &str) -> Option<Self> {
        let is_positive = match text.strip_suffix('m') {
            Some(thousandths) => whole(thousandths)? > 0,
            None => match text.split_once('.') {
                Some((whole_part, fraction)) => {
                    fraction.len() <= 3 && (whole(whole_part)? > 0 || whole(fraction)? > 0)
                }
                None => whole(text)? > 0,
            },
        };
        is_positive.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn whole(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.len() <= 18 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_their_unit() {
        for (text, bytes) in [
            ("2Gi", 2 << 30),
            ("1536Mi", 1536 << 20),
            ("500M", 500_000_000),
            ("7", 7),
        ] {
            assert_eq!(Bytes::parse(text).unwrap().get(), bytes, "{text}");
        }
        for bad in [
            "",
            "0",
            "-1Gi",
            "1.5Gi",
            "Gi",
            "2gi",
            "2 Gi",
            "99999999999Ti",
            "1m",
        ] {
            assert!(Bytes::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn cpu_is_positive() {
        for good in ["50m", "2", "0.5", "1.250"] {
            assert!(Cpu::parse(good).is_some(), "{good}");
        }
        for bad in ["", "0", "0m", "0.0", "-1", "m", "1.2345", "2x", "."] {
            assert!(Cpu::parse(bad).is_none(), "{bad}");
        }
    }
}
