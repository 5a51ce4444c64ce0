//! Command-line flags in a stable order.

use std::collections::BTreeMap;

/// Modern suites for TLS 1.2 with forward secrecy and authenticated encryption; all our keys are ECDSA.
pub const CIPHER_SUITES: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,\
TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,\
TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,\
TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256";

/// Flags of one program: a name without dashes to its value, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<&'static str, String>);

impl Flags {
    /// Starts from what every component has in common.
    pub fn common() -> Self {
        Self::default()
            .set("profiling", "false")
            .set("tls-cipher-suites", CIPHER_SUITES)
            .set("tls-min-version", "VersionTLS12")
    }

    /// Sets one flag.
    #[must_use]
    pub fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.insert(name, value.into());
        self
    }

    /// Sets what validation has let through; last, so that it replaces a default of ours.
    #[must_use]
    pub fn with(mut self, arguments: &BTreeMap<&'static str, String>) -> Self {
        self.0
            .extend(arguments.iter().map(|(name, value)| (*name, value.clone())));
        self
    }

    /// The arguments as a program takes them, sorted by name.
    pub fn render(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(name, value)| format!("--{name}={value}"))
            .collect()
    }
}
