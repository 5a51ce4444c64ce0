//! Whether a kubelet gets the serving certificate that it asks for. Pure.
//!
//! The signer `kubernetes.io/kubelet-serving` fixes subject and usages (its documentation lists them); whose names and
//! addresses a node may serve, only an approver can know: those that the Node object has.

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::core::v1::Node;
use skep_pki::{San, ServingRequest, describe_serving_request};

/// The signer whose requests are judged.
pub const SIGNER: &str = "kubernetes.io/kubelet-serving";
/// The prefix of nodes' users.
const NODE_USER: &str = "system:node:";
const NODE_GROUP: &str = "system:nodes";

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has its answer, or is another signer's.
    Nothing,
    /// It is granted.
    Approve,
    /// It is refused; why.
    Deny(String),
    /// The node is not known, or has not told of its addresses: too early to say.
    Later,
}

/// The node that a request is about, where it needs a judgement at all.
pub fn node_of(request: &CertificateSigningRequest) -> Option<&str> {
    let is_answered = request.status.as_ref().is_some_and(|status| {
        let conditions = status.conditions.iter().flatten();
        status.certificate.is_some()
            || conditions
                .into_iter()
                .any(|known| matches!(known.type_.as_str(), "Approved" | "Denied"))
    });
    let spec = &request.spec;
    if is_answered || spec.signer_name != SIGNER {
        return None;
    }
    Some(spec.username.as_deref()?.strip_prefix(NODE_USER).unwrap_or(""))
}

/// Judges a request against the node that it comes from.
pub fn judge(request: &CertificateSigningRequest, node: Option<&Node>) -> Verdict {
    let Some(name) = node_of(request) else {
        return Verdict::Nothing;
    };
    let spec = &request.spec;
    if let Some(objection) = object_to_requester(spec, name) {
        return Verdict::Deny(objection);
    }
    let described = std::str::from_utf8(&spec.request.0)
        .map_err(|error| error.to_string())
        .and_then(|text| describe_serving_request(text).map_err(|error| error.to_string()));
    let described = match described {
        Ok(described) => described,
        Err(problem) => return Verdict::Deny(problem),
    };
    if let Some(objection) = object_to_content(spec, name, &described) {
        return Verdict::Deny(objection);
    }
    let Some(own) = node.map(names_of).filter(|own| !own.is_empty()) else {
        return Verdict::Later;
    };
    match described.sans.iter().find(|asked| !own.contains(*asked)) {
        None => Verdict::Approve,
        Some(San::Dns(foreign)) => Verdict::Deny(format!("node {name} has no host name {foreign:?}")),
        Some(San::Ip(foreign)) => Verdict::Deny(format!("node {name} has no address {foreign}")),
    }
}

fn object_to_requester(spec: &CertificateSigningRequestSpec, name: &str) -> Option<String> {
    let is_node = spec.groups.iter().flatten().any(|group| group == NODE_GROUP);
    if name.is_empty() || !is_node {
        return Some("only a node may ask for a kubelet's serving certificate".to_owned());
    }
    None
}

fn object_to_content(
    spec: &CertificateSigningRequestSpec,
    name: &str,
    request: &ServingRequest,
) -> Option<String> {
    let user = format!("{NODE_USER}{name}");
    if request.common_name.as_deref() != Some(user.as_str()) {
        return Some(format!("the request is for another than {user:?}"));
    }
    if request.organizations != [NODE_GROUP] {
        return Some(format!("the organization must be {NODE_GROUP:?} alone"));
    }
    if request.sans.is_empty() || request.has_other_names {
        return Some("it must ask for host names or addresses and for nothing else".to_owned());
    }
    let usages: BTreeSet<&str> = spec.usages.iter().flatten().map(String::as_str).collect();
    let allowed = ["digital signature", "key encipherment", "server auth"];
    if !usages.contains("server auth") || !usages.iter().all(|usage| allowed.contains(usage)) {
        return Some(format!(
            "the usages must be {:?} and no others",
            allowed.join(", ")
        ));
    }
    None
}

/// What a node may serve as: its host names and addresses as its object has them.
fn names_of(node: &Node) -> BTreeSet<San> {
    let addresses = node
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten());
    addresses.map(|address| San::parse(&address.address)).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn node() -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": "demo-1"},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "198.19.255.11"},
                {"type": "Hostname", "address": "demo-1"},
            ]},
        }))
        .unwrap()
    }

    /// A request for a node's certificate with these names, as a kubelet makes it.
    fn request(common_name: &str, organization: &str, sans: &[&str]) -> CertificateSigningRequest {
        let key = rcgen::KeyPair::generate().unwrap();
        let sans: Vec<String> = sans.iter().map(|san| (*san).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(sans).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, common_name);
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, organization);
        let text = params.serialize_request(&key).unwrap().pem().unwrap();
        CertificateSigningRequest {
            spec: CertificateSigningRequestSpec {
                request: ByteString(text.into_bytes()),
                signer_name: SIGNER.into(),
                username: Some("system:node:demo-1".into()),
                groups: Some(vec!["system:nodes".into(), "system:authenticated".into()]),
                usages: Some(vec!["digital signature".into(), "server auth".into()]),
                ..CertificateSigningRequestSpec::default()
            },
            ..CertificateSigningRequest::default()
        }
    }

    fn honest() -> CertificateSigningRequest {
        request("system:node:demo-1", "system:nodes", &["demo-1", "198.19.255.11"])
    }

    fn reason(request: &CertificateSigningRequest) -> String {
        match judge(request, Some(&node())) {
            Verdict::Deny(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_kubelet_asks_for_is_granted() {
        assert_eq!(judge(&honest(), Some(&node())), Verdict::Approve);
    }

    #[test]
    fn a_node_that_is_not_there_yet_is_waited_for() {
        assert_eq!(judge(&honest(), None), Verdict::Later);
        assert_eq!(judge(&honest(), Some(&Node::default())), Verdict::Later);
    }

    #[test]
    fn foreign_names_and_addresses_are_refused() {
        let of = |sans: &[&str]| reason(&request("system:node:demo-1", "system:nodes", sans));
        assert!(of(&["demo-1", "198.19.255.12"]).contains("no address 198.19.255.12"));
        assert!(of(&["demo-2"]).contains("no host name \"demo-2\""));
        assert!(of(&["kubernetes.default.svc"]).contains("no host name"));
        assert!(of(&[]).contains("host names or addresses"));
    }

    #[test]
    fn another_nodes_name_is_refused() {
        let sans = ["demo-1"];
        assert!(reason(&request("system:node:demo-2", "system:nodes", &sans)).contains("another"));
        assert!(reason(&request("system:node:demo-1", "system:masters", &sans)).contains("organization"));
    }

    #[test]
    fn only_nodes_may_ask_and_only_to_serve() {
        let mut person = honest();
        person.spec.username = Some("someone".into());
        assert!(reason(&person).contains("only a node"));
        let mut grouped = honest();
        grouped.spec.groups = None;
        assert!(reason(&grouped).contains("only a node"));
        for usages in [vec!["client auth".to_owned(), "server auth".into()], vec![]] {
            let mut more = honest();
            more.spec.usages = Some(usages);
            assert!(reason(&more).contains("usages"));
        }
        let mut broken = honest();
        broken.spec.request = ByteString(b"nonsense".to_vec());
        assert!(reason(&broken).contains("PEM"));
    }

    #[test]
    fn others_requests_and_answered_ones_are_left_alone() {
        let mut other = honest();
        other.spec.signer_name = "kubernetes.io/kube-apiserver-client-kubelet".into();
        assert_eq!(judge(&other, Some(&node())), Verdict::Nothing);
        let mut answered = honest();
        answered.status = serde_json::from_value(json!({"conditions": [
            {"type": "Denied", "status": "True"},
        ]}))
        .unwrap();
        assert_eq!(judge(&answered, Some(&node())), Verdict::Nothing);
    }
}
