//! The directory that says where a hub in another cluster is: the files of a Secret, which is updated in place.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::AuthInfo;
use serde_json::json;
use skep_pki::{CertificatePem, PkiError};

use super::IdentityError;

/// The file of the hub's address.
const SERVER: &str = "server";
/// The file of the hub's certificate authorities.
const AUTHORITIES: &str = "ca.crt";
/// The file of the bootstrap token.
const TOKEN: &str = "token";

/// A file of the directory that is of no use; what is in it is never told.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be read.
    #[error("cannot read {file}, a key of the Secret skep-system/skep-hub")]
    Read {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no address.
    #[error(
        "{file} is not the https address of the hub's API server, such as https://hub.example.com:6443: put it into the Secret skep-system/skep-hub"
    )]
    Server {
        /// The file.
        file: String,
    },
    /// It has no certificates.
    #[error(
        "{file} is not PEM certificates: put the authority that signed the certificate of the hub's API server into the Secret skep-system/skep-hub"
    )]
    Authorities {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: PkiError,
    },
    /// It is no token.
    #[error(
        "{file} is not a bootstrap token, ID.SECRET with 6 and 16 of a-z and 0-9: put one into the Secret skep-system/skep-hub"
    )]
    Token {
        /// The file.
        file: String,
    },
}

/// The directory of a hub, with the files `server`, `ca.crt` and `token`.
#[derive(Debug, Clone)]
pub struct HubDirectory {
    path: PathBuf,
}

/// A bootstrap token; its secret is in no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    id: String,
    secret: String,
}

impl HubDirectory {
    /// The directory, if it names a hub: without its file `server` there is none.
    pub fn find(path: &Path) -> Option<Self> {
        // One that cannot be looked at is told of when it is read.
        let is_none = matches!(path.join(SERVER).try_exists(), Ok(false));
        (!is_none).then(|| Self {
            path: path.to_owned(),
        })
    }

    /// Where the token is.
    pub(super) fn token_file(&self) -> String {
        self.file(TOKEN)
    }

    /// How the hub is reached, without credentials.
    pub(super) async fn hub(&self) -> Result<Config, DirectoryError> {
        let server = self.read(SERVER).await?;
        let mut config = parse_server(&server).ok_or_else(|| DirectoryError::Server {
            file: self.file(SERVER),
        })?;
        let authorities = parse_authorities(&self.read(AUTHORITIES).await?);
        let authorities = authorities.map_err(|source| DirectoryError::Authorities {
            file: self.file(AUTHORITIES),
            source,
        })?;
        config.root_cert = Some(authorities);
        // The agent has its own backoff, which people wait for.
        config.default_retry = false;
        Ok(config)
    }

    /// The token that is there now.
    pub(super) async fn token(&self) -> Result<BootstrapToken, DirectoryError> {
        let text = self.read(TOKEN).await?;
        BootstrapToken::parse(&text).ok_or_else(|| DirectoryError::Token {
            file: self.token_file(),
        })
    }

    fn file(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    async fn read(&self, name: &str) -> Result<String, DirectoryError> {
        let read = tokio::fs::read_to_string(self.path.join(name)).await;
        read.map_err(|source| DirectoryError::Read {
            file: self.file(name),
            source,
        })
    }
}

impl BootstrapToken {
    /// Reads `ID.SECRET`; space around it is left out.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.trim().split_once('.')?;
        let is_word = |word: &str, length| {
            let is_symbol = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            word.len() == length && word.bytes().all(is_symbol)
        };
        (is_word(id, 6) && is_word(secret, 16)).then(|| Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }

    /// Its public half.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// As credentials.
    pub(super) fn auth_info(&self) -> Result<AuthInfo, IdentityError> {
        let text = format!("{}.{}", self.id, self.secret);
        serde_json::from_value(json!({"token": text})).map_err(IdentityError::Config)
    }
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootstrapToken({}.redacted)", self.id)
    }
}

fn parse_server(text: &str) -> Option<Config> {
    let config = Config::new(text.trim().parse().ok()?);
    let address = &config.cluster_url;
    let is_plain = address.query().is_none()
        && address
            .authority()
            .is_some_and(|part| !part.as_str().contains('@') && !part.host().is_empty());
    (address.scheme_str() == Some("https") && is_plain).then_some(config)
}

fn parse_authorities(text: &str) -> Result<Vec<Vec<u8>>, PkiError> {
    let certificates = CertificatePem::parse_bundle(text)?;
    certificates.iter().map(CertificatePem::der).collect()
}

#[cfg(test)]
mod tests;
