//! Kubeconfigs: one cluster, one user, one context; nothing that runs a program.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::error::PkiError;
use crate::leaf::Leaf;
use crate::pem::{CertificatePem, KeyPem};

/// A kubeconfig as YAML, which holds a secret: no `Display`, and its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct KubeconfigText(String);

impl KubeconfigText {
    /// The YAML itself, for the Secret, file or answer that it is written to.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KubeconfigText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KubeconfigText(redacted)")
    }
}

/// Builds a kubeconfig.
#[derive(Clone)]
pub struct Kubeconfig {
    name: String,
    cluster: Cluster,
    user: User,
    namespace: Option<String>,
}

impl fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubeconfig")
            .field("name", &self.name)
            .field("server", &self.cluster.server)
            .finish_non_exhaustive()
    }
}

impl Kubeconfig {
    /// A kubeconfig whose cluster, user and context are called `name`. `authority` is PEM, and may hold
    /// several certificates.
    pub fn new(name: &str, server: &str, authority: &str) -> Self {
        Self {
            name: name.to_owned(),
            cluster: Cluster {
                server: server.to_owned(),
                certificate_authority_data: STANDARD.encode(authority),
                tls_server_name: None,
            },
            user: User::default(),
            namespace: None,
        }
    }

    /// Names the server whose certificate is expected, where the address is another's (the front's).
    #[must_use]
    pub fn tls_server_name(mut self, name: &str) -> Self {
        self.cluster.tls_server_name = Some(name.to_owned());
        self
    }

    /// Sets the context's namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Authenticates with a certificate and its key.
    #[must_use]
    pub fn client_certificate(mut self, certificate: &CertificatePem, key: &KeyPem) -> Self {
        self.user = User {
            client_certificate_data: Some(STANDARD.encode(certificate.as_bytes())),
            client_key_data: Some(STANDARD.encode(key.expose())),
            token: None,
        };
        self
    }

    /// Authenticates with a leaf.
    #[must_use]
    pub fn leaf(self, leaf: &Leaf) -> Self {
        self.client_certificate(&leaf.certificate, &leaf.key)
    }

    /// Authenticates with a bearer token.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.user = User {
            token: Some(token.to_owned()),
            ..User::default()
        };
        self
    }

    /// Writes the YAML.
    pub fn build(self) -> Result<KubeconfigText, PkiError> {
        let Self {
            name,
            cluster,
            user,
            namespace,
        } = self;
        let context = Context {
            cluster: name.clone(),
            user: name.clone(),
            namespace,
        };
        let file = File {
            api_version: "v1",
            kind: "Config",
            clusters: [Named {
                name: name.clone(),
                entry: ClusterEntry { cluster },
            }],
            users: [Named {
                name: name.clone(),
                entry: UserEntry { user },
            }],
            contexts: [Named {
                name: name.clone(),
                entry: ContextEntry { context },
            }],
            current_context: name,
        };
        serde_saphyr::to_string(&file)
            .map(KubeconfigText)
            .map_err(|error| PkiError::Yaml(Box::new(error)))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    api_version: &'static str,
    kind: &'static str,
    clusters: [Named<ClusterEntry>; 1],
    users: [Named<UserEntry>; 1],
    contexts: [Named<ContextEntry>; 1],
    #[serde(rename = "current-context")]
    current_context: String,
}

#[derive(Serialize)]
struct Named<T> {
    name: String,
    #[serde(flatten)]
    entry: T,
}

#[derive(Serialize)]
struct ClusterEntry {
    cluster: Cluster,
}

#[derive(Serialize)]
struct UserEntry {
    user: User,
}

#[derive(Serialize)]
struct ContextEntry {
    context: Context,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority_data: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_server_name: Option<String>,
}

#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    client_certificate_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_key_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

#[derive(Serialize)]
struct Context {
    cluster: String,
    user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
}
