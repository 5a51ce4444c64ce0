//! Where a store is and who may use it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{Certificate, ClientOptions, RetryConfig};

/// Connections to a store that is there are made at once; the rest is packets that went lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A store of objects that was checked as far as can be without asking it.
#[derive(Clone, PartialEq, Eq)]
pub struct Location(Kind);

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    S3(Bucket),
    Directory(PathBuf),
}

/// A bucket of a store that speaks S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name: 3 to 63 lowercase letters, digits, `-` and `.`.
    pub name: String,
    /// The folder of all snapshots in it, without `/` at its ends; may be empty.
    pub prefix: String,
    /// Its region; stores that have none take `us-east-1`.
    pub region: String,
    /// The store's URL, `http` or `https`, where it is not Amazon's.
    pub endpoint: Option<String>,
    /// The only authorities that the endpoint is trusted by, PEM, where they are not those of the machine.
    pub ca: Option<String>,
}

/// A field of a [`Location`] that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {expected}")]
pub struct InvalidLocation {
    /// The field.
    pub field: &'static str,
    /// What it must be.
    pub expected: &'static str,
}

impl Location {
    /// A bucket.
    pub fn s3(bucket: Bucket) -> Result<Self, InvalidLocation> {
        let Bucket {
            name,
            prefix,
            region,
            endpoint,
            ca,
        } = &bucket;
        let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = name.bytes().next().is_some_and(lower) && name.bytes().last().is_some_and(lower);
        let fits =
            (3..=63).contains(&name.len()) && name.bytes().all(|byte| lower(byte) || b"-.".contains(&byte));
        let region_fits =
            (1..=63).contains(&region.len()) && region.bytes().all(|byte| lower(byte) || byte == b'-');
        let prefix_fits = prefix.len() <= 512 && (prefix.is_empty() || prefix.split('/').all(is_folder));
        demand(
            ends && fits,
            "bucket",
            "3 to 63 lowercase letters, digits, '-' and '.'",
        )?;
        demand(region_fits, "region", "1 to 63 lowercase letters, digits and '-'")?;
        demand(
            prefix_fits,
            "prefix",
            "names of letters, digits, '-', '_' and '.' between '/'",
        )?;
        let endpoint_fits = endpoint.as_deref().is_none_or(is_endpoint);
        demand(
            endpoint_fits,
            "endpoint",
            "http:// or https:// with a host and no path",
        )?;
        let ca_fits = ca
            .as_deref()
            .is_none_or(|ca| certificates(ca).is_ok_and(|all| !all.is_empty()));
        demand(ca_fits, "ca", "certificates in PEM")?;
        Ok(Self(Kind::S3(bucket)))
    }

    /// A directory that exists, such as the mount of a shared volume.
    pub fn directory(path: &Path) -> Result<Self, InvalidLocation> {
        demand(path.is_absolute(), "directory", "an absolute path")?;
        Ok(Self(Kind::Directory(path.to_owned())))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }
}

/// As in `s3://bucket/prefix`, or the path.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::S3(Bucket { name, prefix, .. }) if prefix.is_empty() => write!(f, "s3://{name}"),
            Kind::S3(Bucket { name, prefix, .. }) => write!(f, "s3://{name}/{prefix}"),
            Kind::Directory(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Location({self})")
    }
}

/// A key pair of S3.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Who.
    pub access_key: String,
    /// The proof of it.
    pub secret_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Bucket {
    /// A client whose requests each end in `timeout`, and their repetitions soon after it.
    pub(crate) fn connect(
        &self,
        credentials: Option<&Credentials>,
        timeout: Duration,
    ) -> Result<AmazonS3, object_store::Error> {
        let plain = self
            .endpoint
            .as_deref()
            .is_some_and(|url| url.starts_with("http://"));
        // The instance's own identity may come from a public service, which a private authority does not sign.
        let own_roots = credentials.is_some() && (plain || self.ca.is_some());
        let mut options = ClientOptions::new()
            .with_timeout(timeout)
            .with_connect_timeout(timeout.min(CONNECT_TIMEOUT))
            .with_allow_http(plain)
            .with_no_system_certificates(own_roots);
        for certificate in certificates(self.ca.as_deref().unwrap_or_default())? {
            options = options.with_root_certificate(certificate);
        }
        let mut builder = match credentials {
            Some(Credentials {
                access_key,
                secret_key,
            }) => AmazonS3Builder::new()
                .with_access_key_id(access_key)
                .with_secret_access_key(secret_key),
            None => AmazonS3Builder::from_env(),
        };
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        builder
            .with_bucket_name(&self.name)
            .with_region(&self.region)
            .with_virtual_hosted_style_request(false)
            .with_client_options(options)
            .with_retry(RetryConfig {
                retry_timeout: timeout,
                ..RetryConfig::default()
            })
            .build()
    }
}

fn demand(holds: bool, field: &'static str, expected: &'static str) -> Result<(), InvalidLocation> {
    holds.then_some(()).ok_or(InvalidLocation { field, expected })
}

fn certificates(pem: &str) -> Result<Vec<Certificate>, object_store::Error> {
    Certificate::from_pem_bundle(pem.as_bytes())
}

fn is_folder(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed) && name.bytes().any(|byte| byte != b'.')
}

fn is_endpoint(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|host| !host.as_str().contains('@'))
            && uri.path() == "/"
            && uri.query().is_none()
    })
}
