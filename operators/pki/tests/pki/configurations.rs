//! The files that are made from keys: kubeconfigs, encryption at rest, service-account keys.

use crate::chain::at;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use skep_pki::{
    AtRestKey, CertificateAuthority, EncryptionConfiguration, Kubeconfig, LeafRequest, ServiceAccountKeys,
};

/// A YAML value: enough of one to look into what was written.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Yaml {
    Text(String),
    List(Vec<Yaml>),
    Map(std::collections::BTreeMap<String, Yaml>),
}

impl Yaml {
    fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |value, step| match value {
            Self::Map(map) => map.get(step),
            Self::List(list) => list.get(step.parse::<usize>().ok()?),
            Self::Text(_) => None,
        })
    }

    fn text(&self, path: &str) -> &str {
        match self.at(path) {
            Some(Self::Text(text)) => text,
            other => panic!("{path}: {other:?}"),
        }
    }
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::create("cluster-ca", at("2026-11-21T12:00:00Z")).unwrap()
}

#[test]
fn a_kubeconfig_with_a_certificate() {
    let ca = authority();
    let leaf = ca
        .issue(&LeafRequest::client("u", &["g"]), at("2026-11-21T12:00:00Z"))
        .unwrap();
    let text = Kubeconfig::new("c1", "https://198.18.0.2:443", ca.certificate().as_str())
        .tls_server_name("api.c1.local.skep.internal")
        .namespace("default")
        .leaf(&leaf)
        .build()
        .unwrap();
    assert_eq!(format!("{text:?}"), "KubeconfigText(redacted)");
    let yaml: Yaml = serde_saphyr::from_str(text.expose()).unwrap();
    for (path, value) in [
        ("apiVersion", "v1"),
        ("kind", "Config"),
        ("current-context", "c1"),
        ("clusters.0.name", "c1"),
        ("clusters.0.cluster.server", "https://198.18.0.2:443"),
        ("clusters.0.cluster.tls-server-name", "api.c1.local.skep.internal"),
        ("contexts.0.context.cluster", "c1"),
        ("contexts.0.context.user", "c1"),
        ("contexts.0.context.namespace", "default"),
    ] {
        assert_eq!(yaml.text(path), value, "{path}");
    }
    let decoded = |path| String::from_utf8(STANDARD.decode(yaml.text(path)).unwrap()).unwrap();
    assert_eq!(
        decoded("clusters.0.cluster.certificate-authority-data"),
        ca.certificate().as_str()
    );
    assert_eq!(
        decoded("users.0.user.client-certificate-data"),
        leaf.certificate.as_str()
    );
    assert_eq!(decoded("users.0.user.client-key-data"), leaf.key.expose());
    assert_eq!(yaml.at("users.0.user.token"), None);
}

#[test]
fn a_kubeconfig_with_a_token_has_no_key() {
    let text = Kubeconfig::new("hub", "https://h:6443", authority().certificate().as_str())
        .token("t: 1")
        .build();
    let yaml: Yaml = serde_saphyr::from_str(text.unwrap().expose()).unwrap();
    assert_eq!(yaml.text("users.0.user.token"), "t: 1");
    assert_eq!(yaml.at("users.0.user.client-key-data"), None);
    assert_eq!(yaml.at("clusters.0.cluster.tls-server-name"), None);
}

#[test]
fn texts_that_look_like_something_else_stay_texts() {
    for text in [
        "no",
        "off",
        "1e3",
        "0x10",
        "null",
        "~",
        "12345",
        "a: b",
        "- a",
        "#c",
        "2026-11-21",
        "'",
        "é\"\\",
    ] {
        let kubeconfig = Kubeconfig::new(text, "https://h", "ca")
            .token(text)
            .namespace(text)
            .build()
            .unwrap();
        let yaml: Yaml = serde_saphyr::from_str(kubeconfig.expose()).unwrap();
        for path in [
            "current-context",
            "users.0.user.token",
            "contexts.0.context.namespace",
            "contexts.0.name",
        ] {
            assert_eq!(yaml.text(path), text, "{path}");
        }
    }
}

#[test]
fn the_first_key_encrypts_and_older_ones_still_decrypt() {
    let (first, older) = (AtRestKey::new("k2", [2; 32]), AtRestKey::new("k1", [1; 32]));
    assert!(!format!("{first:?}").contains("2, 2"));
    let text = EncryptionConfiguration::secretbox(&["secrets", "configmaps"], &first, &[older])
        .to_yaml()
        .unwrap();
    let yaml: Yaml = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(yaml.text("apiVersion"), "apiserver.config.k8s.io/v1");
    assert_eq!(yaml.text("kind"), "EncryptionConfiguration");
    assert_eq!(yaml.text("resources.0.resources.1"), "configmaps");
    assert_eq!(yaml.text("resources.0.providers.0.secretbox.keys.0.name"), "k2");
    let secret = STANDARD
        .decode(yaml.text("resources.0.providers.0.secretbox.keys.1.secret"))
        .unwrap();
    assert_eq!(secret, [1; 32]);
    assert_eq!(yaml.at("resources.0.providers.1"), None);
}

#[test]
fn service_account_keys_are_read_back() {
    let keys = ServiceAccountKeys::generate().unwrap();
    assert!(keys.private.expose().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(keys.public.as_str().starts_with("-----BEGIN PUBLIC KEY-----"));
    assert_eq!(
        ServiceAccountKeys::from_private(keys.private.expose()).unwrap(),
        keys
    );
    assert!(!format!("{keys:?}").contains(keys.private.expose().lines().nth(1).unwrap()));
}
