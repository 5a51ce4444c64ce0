//! Names that people type, parsed once at the edge.
//!
//! A name knows its own limits; what a name refers to is not its business.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("a {what} must not be empty")]
    Empty {
        /// What the name names.
        what: &'static str,
    },
    /// The name has more characters than its kind allows.
    #[error("a {what} has at most {limit} characters, this one has {length}")]
    TooLong {
        /// What the name names.
        what: &'static str,
        /// The most characters that are allowed.
        limit: usize,
        /// The characters that were given.
        length: usize,
    },
    /// The name is not a DNS label (RFC 1123).
    #[error(
        "a {what} consists of lower-case letters, digits and '-', and starts with a letter and ends with a letter or digit; {value:?} does not"
    )]
    NotALabel {
        /// What the name names.
        what: &'static str,
        /// The name that was given, cut to 80 characters.
        value: String,
    },
    /// The name is taken by the platform itself.
    #[error("the {what} {value:?} is reserved for the platform")]
    Reserved {
        /// What the name names.
        what: &'static str,
        /// The name that was given.
        value: String,
    },
}

fn check_label(what: &'static str, value: &str, limit: usize) -> Result<(), NameError> {
    if value.is_empty() {
        return Err(NameError::Empty { what });
    }
    let length = value.chars().count();
    if length > limit {
        return Err(NameError::TooLong { what, limit, length });
    }
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let starts = value.starts_with(|c: char| c.is_ascii_lowercase());
    if !starts || value.ends_with('-') || !value.chars().all(is_inner) {
        let value = value.chars().take(80).collect();
        return Err(NameError::NotALabel { what, value });
    }
    Ok(())
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $what:literal, $limit:literal, [$($reserved:literal),*]) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The most characters that such a name may have.
            pub const LIMIT: usize = $limit;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(value: &str) -> Result<Self, NameError> {
                check_label($what, value, $limit)?;
                let reserved: &[&str] = &[$($reserved),*];
                if reserved.contains(&value) {
                    return Err(NameError::Reserved { what: $what, value: value.to_owned() });
                }
                Ok(Self(value.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(value: String) -> Result<Self, NameError> {
                value.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

label!(
    /// A tenant cluster's name within its project: a DNS label of at most 40 characters.
    ClusterName, "cluster name", 40, []
);
label!(
    /// A project's name: a DNS label of at most 40 characters.
    ProjectName, "project name", 40, ["kube", "system"]
);
label!(
    /// A meta cluster's name: a DNS label of at most 40 characters.
    CellName, "cell name", 40, []
);
label!(
    /// A region's name: a DNS label of at most 30 characters.
    Region, "region", 30, []
);
label!(
    /// A zone's name within its region: a DNS label of at most 20 characters.
    Zone, "zone", 20, []
);

/// What the user names of cells' agents at the hub begin with.
pub(crate) const AGENT_PREFIX: &str = "skep:cell:";

impl ProjectName {
    /// The namespace at the hub that is this project.
    pub fn namespace(&self) -> String {
        format!("project-{}", self.0)
    }
}

impl CellName {
    /// The namespace at the hub that holds this cell's records.
    pub fn namespace(&self) -> String {
        format!("skep-cell-{}", self.0)
    }

    /// The user name of this cell's agent at the hub.
    pub fn agent_user(&self) -> String {
        format!("{AGENT_PREFIX}{}", self.0)
    }

    /// The user name at the hub of this cell's agent under one registration.
    pub fn registered_user(&self, registration: &str) -> String {
        format!("{AGENT_PREFIX}{}:{registration}", self.0)
    }
}

/// The DNS domain below which every region's host names live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Domain(String);

impl Domain {
    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = NameError;
    fn from_str(value: &str) -> Result<Self, NameError> {
        if value.len() > 100 {
            return Err(NameError::TooLong {
                what: "domain",
                limit: 100,
                length: value.len(),
            });
        }
        for label in value.split('.') {
            check_label("domain", label, 63)?;
        }
        Ok(Self(value.to_owned()))
    }
}

impl TryFrom<String> for Domain {
    type Error = NameError;
    fn try_from(value: String) -> Result<Self, NameError> {
        value.parse()
    }
}

impl From<Domain> for String {
    fn from(domain: Domain) -> Self {
        domain.0
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label_within_its_limit() {
        for good in ["a", "demo", "t-1", &"x".repeat(40)] {
            assert!(good.parse::<ClusterName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "ä",
            "a.b",
            "a_b",
            "1a",
            "a b",
            "a\n",
            &"x".repeat(41),
        ] {
            assert!(bad.parse::<ClusterName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_reserved_project_is_refused_by_name() {
        let error = "kube".parse::<ProjectName>().unwrap_err().to_string();
        assert_eq!(error, "the project name \"kube\" is reserved for the platform");
    }

    #[test]
    fn a_domain_is_a_row_of_labels() {
        assert!("skep.internal".parse::<Domain>().is_ok());
        assert!("skep..internal".parse::<Domain>().is_err());
        assert!(".internal".parse::<Domain>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn whatever_parses_prints_as_it_was_given(value in "\\PC{0,60}") {
            if let Ok(name) = value.parse::<ClusterName>() {
                proptest::prop_assert_eq!(name.to_string(), value);
            }
        }
    }
}
