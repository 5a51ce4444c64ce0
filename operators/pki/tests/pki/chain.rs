//! Verifies chains as rustls does, independently of the crate under test.

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use skep_pki::CertificatePem;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The usage that is asked of a certificate.
#[derive(Clone, Copy)]
pub enum Role {
    Server,
    Client,
}

pub fn verify(
    leaf: &CertificatePem,
    authority: &CertificatePem,
    role: Role,
    now: Timestamp,
) -> Result<(), webpki::Error> {
    let (leaf, authority) = (der(leaf), der(authority));
    let anchor = anchor_from_trusted_cert(&authority).unwrap();
    let usage = match role {
        Role::Server => KeyUsage::server_auth(),
        Role::Client => KeyUsage::client_auth(),
    };
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(
        now.as_second().try_into().unwrap(),
    ));
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    EndEntityCert::try_from(&leaf)?
        .verify_for_usage(algorithms, &[anchor], &[], time, usage, None, None)
        .map(drop)
}

pub fn is_valid_for(leaf: &CertificatePem, name: &str) -> bool {
    let leaf = der(leaf);
    let name = ServerName::try_from(name).unwrap();
    EndEntityCert::try_from(&leaf)
        .unwrap()
        .verify_is_valid_for_subject_name(&name)
        .is_ok()
}

fn der(certificate: &CertificatePem) -> CertificateDer<'static> {
    certificate.der().unwrap().into()
}
