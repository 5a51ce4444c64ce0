//! Which signing requests are granted, denied and left alone.

#![allow(clippy::unwrap_used, clippy::panic)]

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
    CertificateSigningRequestStatus,
};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType,
};
use skep_fleet::identity::{Denial, Verdict, judge};

const AGENT: &str = "system:serviceaccount:skep-system:skep-agent";

fn params(names: &[(DnType, &str)]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in names {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params
}

fn request(params: &CertificateParams) -> CertificateSigningRequest {
    let key = KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    CertificateSigningRequest {
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: "kubernetes.io/kube-apiserver-client".to_owned(),
            usages: Some(vec!["digital signature".to_owned(), "client auth".to_owned()]),
            expiration_seconds: Some(86_400),
            username: Some(AGENT.to_owned()),
            ..CertificateSigningRequestSpec::default()
        },
        ..CertificateSigningRequest::default()
    }
}

fn good() -> CertificateParams {
    params(&[
        (DnType::CommonName, "skep:cell:local"),
        (DnType::OrganizationName, "skep:cells"),
    ])
}

fn verdict(request: &CertificateSigningRequest) -> Verdict {
    judge(request, &[AGENT.to_owned()], |cell| cell.as_str() == "local")
}

fn denied(request: &CertificateSigningRequest) -> Denial {
    match verdict(request) {
        Verdict::Deny(denial) => denial,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agents_request_is_granted() {
    assert_eq!(
        verdict(&request(&good())),
        Verdict::Approve("local".parse().unwrap())
    );
    let mut usages = good();
    usages.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    usages.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    assert_eq!(
        verdict(&request(&usages)),
        Verdict::Approve("local".parse().unwrap())
    );
}

#[test]
fn what_does_not_speak_of_cells_is_left_alone() {
    let node = params(&[
        (DnType::CommonName, "system:node:x"),
        (DnType::OrganizationName, "system:nodes"),
    ]);
    assert_eq!(verdict(&request(&node)), Verdict::Foreign);
    let mut other_signer = request(&good());
    other_signer.spec.signer_name = "example.com/signer".to_owned();
    assert_eq!(verdict(&other_signer), Verdict::Foreign);
    let mut nonsense = request(&good());
    nonsense.spec.request = ByteString(b"nonsense".to_vec());
    assert_eq!(verdict(&nonsense), Verdict::Foreign);
}

#[test]
fn what_is_decided_stays_decided() {
    let mut decided = request(&good());
    let condition = CertificateSigningRequestCondition {
        type_: "Denied".to_owned(),
        ..Default::default()
    };
    decided.status = Some(CertificateSigningRequestStatus {
        conditions: Some(vec![condition]),
        ..Default::default()
    });
    assert_eq!(verdict(&decided), Verdict::Foreign);
}

#[test]
fn only_the_agents_account_may_ask() {
    let mut other = request(&good());
    other.spec.username = Some("system:serviceaccount:project-a:skep-agent".to_owned());
    assert!(matches!(denied(&other), Denial::Requester(_)));
    other.spec.username = None;
    assert!(matches!(denied(&other), Denial::Requester(_)));
}

#[test]
fn the_subject_is_exact() {
    let wrong: &[&[(DnType, &str)]] = &[
        &[(DnType::CommonName, "skep:cell:local")],
        &[(DnType::OrganizationName, "skep:cells")],
        &[
            (DnType::CommonName, "skep:cell:local"),
            (DnType::OrganizationName, "system:masters"),
        ],
        &[
            (DnType::CommonName, "admin"),
            (DnType::OrganizationName, "skep:cells"),
        ],
        &[
            (DnType::CommonName, "skep:cell:"),
            (DnType::OrganizationName, "skep:cells"),
        ],
        &[
            (DnType::CommonName, "skep:cell:A/b"),
            (DnType::OrganizationName, "skep:cells"),
        ],
        &[
            (DnType::CommonName, "skep:cell:local"),
            (DnType::OrganizationName, "skep:cells"),
            (DnType::OrganizationalUnitName, "more"),
        ],
    ];
    for names in wrong {
        assert_eq!(denied(&request(&params(names))), Denial::Subject, "{names:?}");
    }
}

#[test]
fn a_cell_must_exist() {
    let other = params(&[
        (DnType::CommonName, "skep:cell:other"),
        (DnType::OrganizationName, "skep:cells"),
    ]);
    assert_eq!(denied(&request(&other)), Denial::UnknownCell("other".to_owned()));
}

#[test]
fn usages_names_and_validity_are_bounded() {
    let mut usages = request(&good());
    usages.spec.usages = Some(vec![
        "client auth".into(),
        "digital signature".into(),
        "server auth".into(),
    ]);
    assert_eq!(denied(&usages), Denial::Usages);
    usages.spec.usages = None;
    assert_eq!(denied(&usages), Denial::Usages);

    let mut named = good();
    named.subject_alt_names = vec![SanType::DnsName("kubernetes".try_into().unwrap())];
    assert_eq!(denied(&request(&named)), Denial::Extensions);

    for seconds in [None, Some(86_401)] {
        let mut long = request(&good());
        long.spec.expiration_seconds = seconds;
        assert_eq!(denied(&long), Denial::Expiration);
    }
}

#[test]
fn holders_of_tokens_and_registered_agents_ask_for_their_own_name_only() {
    let name = format!("r{}", "a".repeat(25));
    let user = format!("skep:cell:local:{name}");
    let registered = params(&[
        (DnType::CommonName, user.as_str()),
        (DnType::OrganizationName, "skep:cells"),
    ]);
    let mut asked = request(&registered);
    assert!(matches!(denied(&asked), Denial::Requester(_)));
    asked.spec.username = Some("system:bootstrap:abcdef".to_owned());
    // Another bootstrap token than ours, such as one that nodes join with.
    asked.spec.groups = Some(vec!["system:bootstrappers:kubeadm".to_owned()]);
    assert!(matches!(denied(&asked), Denial::Requester(_)));
    asked.spec.groups = Some(vec!["system:bootstrappers:skep".to_owned()]);
    assert!(matches!(denied(&asked), Denial::Key { .. }));
    asked.spec.username = Some(user);
    assert!(matches!(verdict(&asked), Verdict::Renew(of) if of.name == name));
    asked.spec.username = Some("skep:cell:local".to_owned());
    assert!(matches!(denied(&asked), Denial::Requester(_)));
}
