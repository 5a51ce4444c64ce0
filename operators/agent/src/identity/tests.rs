use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use skep_core::{CELL_AGENTS, CellName};
use skep_pki::{check_request, new_request};

use super::request::{Answer, answer, build_request};
use super::*;

fn cell() -> CellName {
    "local".parse().unwrap()
}

fn request() -> CertificateSigningRequest {
    let (_, request) = new_request(&cell().agent_user(), &[CELL_AGENTS]).unwrap();
    let mut request = build_request(&cell(), &request);
    request.metadata.name = Some("skep-agent-local-abcde".into());
    request
}

fn judged(type_: &str, certificate: Option<&str>) -> Result<Answer, IdentityError> {
    let mut request = request();
    request.status = Some(CertificateSigningRequestStatus {
        certificate: certificate.map(|text| ByteString(text.as_bytes().to_vec())),
        conditions: Some(vec![CertificateSigningRequestCondition {
            type_: type_.into(),
            status: "True".into(),
            reason: Some("UnknownCell".into()),
            message: Some("there is no cell local".into()),
            ..CertificateSigningRequestCondition::default()
        }]),
    });
    answer(&request)
}

#[test]
fn it_asks_for_exactly_what_the_hub_approves() {
    let request = request();
    assert_eq!(request.spec.signer_name, "kubernetes.io/kube-apiserver-client");
    assert_eq!(request.spec.usages.unwrap(), ["digital signature", "client auth"]);
    assert_eq!(request.spec.expiration_seconds, Some(86_400));
    let text = String::from_utf8(request.spec.request.0).unwrap();
    let summary = check_request(&text).unwrap();
    assert_eq!(summary.common_name.as_deref(), Some("skep:cell:local"));
    assert_eq!(summary.organizations, ["skep:cells"]);
}

#[test]
fn an_answer_is_awaited() {
    assert_eq!(answer(&request()).unwrap(), Answer::Pending);
    assert_eq!(judged("Approved", None).unwrap(), Answer::Pending);
    assert_eq!(judged("Approved", Some("")).unwrap(), Answer::Pending);
    assert_eq!(
        judged("Approved", Some("pem")).unwrap(),
        Answer::Issued(b"pem".to_vec())
    );
}

#[test]
fn a_denial_says_which_request_and_why() {
    let error = judged("Denied", None).unwrap_err();
    assert_eq!(error.category(), "denied");
    let told =
        "the hub denied the signing request skep-agent-local-abcde: UnknownCell: there is no cell local";
    assert_eq!(error.to_string(), told);
    assert_eq!(judged("Failed", Some("pem")).unwrap_err().category(), "signer");
}

#[test]
fn the_key_is_in_no_error_and_no_debug_output() {
    let (key, _) = new_request("skep:cell:local", &["skep:cells"]).unwrap();
    let authority = skep_pki::CertificateAuthority::create("ca", Timestamp::now()).unwrap();
    let info = auth_info(authority.certificate(), &key).unwrap();
    let encoded = STANDARD.encode(key.expose());
    assert!(!format!("{info:?}").contains(&encoded));
    assert!(info.token.is_none() && info.token_file.is_none() && info.exec.is_none());
}
