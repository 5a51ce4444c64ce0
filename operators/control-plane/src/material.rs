//! Keys and certificates: which Secrets must be created, which renewed, from what is there.
//!
//! An authority, the service-account keys and the key at rest are made once and never again: losing one
//! means losing the tenant, so a control plane that has lived and lacks one waits for a person. Pure but for
//! the chance inside the crypto library; the bytes of the key at rest are an argument.

mod leaves;

pub use leaves::KUBELET_CLIENT;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use skep_pki::{
    AtRestKey, CertificateAuthority, CertificatePem, EncryptionConfiguration, PkiError, ServiceAccountKeys,
};
use skep_runtime::Categorised;

use crate::build::labels::build_metadata;
use crate::secrets::{
    API_SERVER, API_SERVER_KUBELET_CLIENT, AT_REST, CERTIFICATE, CLUSTER_CA, CONTROLLER_MANAGER_KUBECONFIG,
    ENCRYPTION, FRONT_PROXY_CA, FRONT_PROXY_CLIENT, KONNECTIVITY_CA, KONNECTIVITY_KUBECONFIG,
    KONNECTIVITY_SERVER, KUBELET_CLIENT_CA, METRICS_SERVER, OPERATOR_KUBECONFIG, PRIVATE_KEY,
    SCHEDULER_KUBECONFIG, SERVICE_ACCOUNT, SERVICE_ACCOUNT_PRIVATE, SERVICE_ACCOUNT_PUBLIC,
};
use crate::validate::Tenant;

/// The resources that are encrypted in the datastore.
const ENCRYPTED: &[&str] = &["secrets"];

/// Every Secret that this operator makes.
pub const ALL: [&str; 15] = [
    CLUSTER_CA,
    FRONT_PROXY_CA,
    KUBELET_CLIENT_CA,
    KONNECTIVITY_CA,
    SERVICE_ACCOUNT,
    AT_REST,
    API_SERVER,
    API_SERVER_KUBELET_CLIENT,
    FRONT_PROXY_CLIENT,
    CONTROLLER_MANAGER_KUBECONFIG,
    SCHEDULER_KUBECONFIG,
    KONNECTIVITY_SERVER,
    KONNECTIVITY_KUBECONFIG,
    METRICS_SERVER,
    OPERATOR_KUBECONFIG,
];

/// Keys that cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// What must never be made twice is gone.
    #[error(
        "secret {name} is missing from a control plane that has run; restore it, a new one would lock everybody out"
    )]
    Lost {
        /// The Secret's name.
        name: &'static str,
    },
    /// What must never be made twice is there and of no use.
    #[error("secret {name} cannot be used and is not replaced: {problem}")]
    Unusable {
        /// The Secret's name.
        name: &'static str,
        /// What is wrong, without its content.
        problem: String,
    },
    /// A key or certificate could not be made.
    #[error("cannot make secret {name}")]
    Make {
        /// The Secret's name.
        name: &'static str,
        /// Why.
        #[source]
        source: PkiError,
    },
}

impl Categorised for MaterialError {
    fn category(&self) -> &'static str {
        match self {
            Self::Lost { .. } => "key-lost",
            Self::Unusable { .. } => "key-unusable",
            Self::Make { source, .. } => source.category(),
        }
    }
}

/// What has to be written, and what a status says of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Material {
    /// Secrets that must not exist yet.
    pub create: Vec<Secret>,
    /// Leaves that are missing, due or wrong.
    pub renew: Vec<Secret>,
    /// The cluster CA's certificate.
    pub certificate_authority: CertificatePem,
    /// When the first of the leaves ends.
    pub first_expiry: Option<Timestamp>,
}

/// Whether a control plane has ever run; decides what a missing key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Nothing depends on its keys yet.
    New,
    /// Data and clients depend on its keys.
    Lived,
}

/// Whether every Secret of ours is there.
pub fn is_complete(secrets: &BTreeMap<String, Secret>) -> bool {
    ALL.iter().all(|name| secrets.contains_key(*name))
}

/// Decides what has to be written. `seed` becomes the key at rest when there is none.
///
/// # Errors
/// When something that is made once is lost or unusable, or when the crypto library fails.
pub fn build_material(
    tenant: &Tenant,
    secrets: &BTreeMap<String, Secret>,
    life: Life,
    seed: [u8; 32],
    now: Timestamp,
) -> Result<Material, MaterialError> {
    let mut maker = Maker {
        tenant,
        secrets,
        life,
        now,
        create: Vec::new(),
    };
    let cluster = maker.authority(CLUSTER_CA, "kubernetes")?;
    let front_proxy = maker.authority(FRONT_PROXY_CA, "front-proxy-ca")?;
    let kubelet_client = maker.authority(KUBELET_CLIENT_CA, "kubelet-client-ca")?;
    let konnectivity = maker.authority(KONNECTIVITY_CA, "konnectivity-ca")?;
    maker.service_account()?;
    maker.at_rest(seed)?;
    let authorities = leaves::Authorities {
        cluster,
        front_proxy,
        kubelet_client,
        konnectivity,
    };
    let (renew, first_expiry) = leaves::build_leaves(tenant, secrets, &authorities, now)?;
    Ok(Material {
        create: maker.create,
        renew,
        certificate_authority: authorities.cluster.certificate().clone(),
        first_expiry,
    })
}

struct Maker<'a> {
    tenant: &'a Tenant,
    secrets: &'a BTreeMap<String, Secret>,
    life: Life,
    now: Timestamp,
    create: Vec<Secret>,
}

impl Maker<'_> {
    fn authority(
        &mut self,
        name: &'static str,
        common_name: &str,
    ) -> Result<CertificateAuthority, MaterialError> {
        if let Some(secret) = self.secrets.get(name) {
            let (certificate, key) = (text(secret, CERTIFICATE), text(secret, PRIVATE_KEY));
            let (Some(certificate), Some(key)) = (certificate, key) else {
                return Err(lacking(name, CERTIFICATE));
            };
            return CertificateAuthority::from_pem(certificate, key).map_err(|error| {
                MaterialError::Unusable {
                    name,
                    problem: error.to_string(),
                }
            });
        }
        self.refuse_if_lost(name)?;
        let authority =
            CertificateAuthority::create(&format!("{common_name} {}", self.tenant.cpid), self.now)
                .map_err(|source| MaterialError::Make { name, source })?;
        let data = [
            (CERTIFICATE, authority.certificate().as_str()),
            (PRIVATE_KEY, authority.key().expose()),
        ];
        self.create.push(build_secret(self.tenant, name, &data));
        Ok(authority)
    }

    fn service_account(&mut self) -> Result<(), MaterialError> {
        let name = SERVICE_ACCOUNT;
        if let Some(secret) = self.secrets.get(name) {
            let has_both = [SERVICE_ACCOUNT_PRIVATE, SERVICE_ACCOUNT_PUBLIC]
                .iter()
                .all(|key| text(secret, key).is_some());
            return if has_both {
                Ok(())
            } else {
                Err(lacking(name, SERVICE_ACCOUNT_PRIVATE))
            };
        }
        self.refuse_if_lost(name)?;
        let keys = ServiceAccountKeys::generate().map_err(|source| MaterialError::Make { name, source })?;
        let data = [
            (SERVICE_ACCOUNT_PRIVATE, keys.private.expose()),
            (SERVICE_ACCOUNT_PUBLIC, keys.public.as_str()),
        ];
        self.create.push(build_secret(self.tenant, name, &data));
        Ok(())
    }

    fn at_rest(&mut self, seed: [u8; 32]) -> Result<(), MaterialError> {
        let name = AT_REST;
        if let Some(secret) = self.secrets.get(name) {
            return if text(secret, ENCRYPTION).is_some() {
                Ok(())
            } else {
                Err(lacking(name, ENCRYPTION))
            };
        }
        self.refuse_if_lost(name)?;
        let key = AtRestKey::new("key1", seed);
        let yaml = EncryptionConfiguration::secretbox(ENCRYPTED, &key, &[])
            .to_yaml()
            .map_err(|source| MaterialError::Make { name, source })?;
        self.create
            .push(build_secret(self.tenant, name, &[(ENCRYPTION, &yaml)]));
        Ok(())
    }

    fn refuse_if_lost(&self, name: &'static str) -> Result<(), MaterialError> {
        match self.life {
            Life::New => Ok(()),
            Life::Lived => Err(MaterialError::Lost { name }),
        }
    }
}

fn lacking(name: &'static str, key: &str) -> MaterialError {
    MaterialError::Unusable {
        name,
        problem: format!("it has no readable key {key}"),
    }
}

/// One value of a Secret, where it is there and text.
pub fn text<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
    std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

fn build_secret(tenant: &Tenant, name: &str, data: &[(&str, &str)]) -> Secret {
    let data = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())));
    Secret {
        metadata: build_metadata(tenant, name, name),
        type_: Some("Opaque".to_owned()),
        data: Some(data.collect()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests;
