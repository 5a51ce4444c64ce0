use std::error::Error;

use skep_pki::{CertificateAuthority, bundle};

use super::*;

const ID_AND_SECRET: &str = "abc123.0123456789abcdef";

/// A directory with these files.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            made.write(name, text);
        }
        made
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn directory(&self) -> HubDirectory {
        HubDirectory::find(self.0.path()).unwrap()
    }
}

fn authority() -> CertificateAuthority {
    CertificateAuthority::create("hub", jiff::Timestamp::now()).unwrap()
}

#[tokio::test]
async fn a_directory_says_where_the_hub_is_and_is_read_afresh() {
    let (first, second) = (authority(), authority());
    let both = bundle([first.certificate(), second.certificate()]);
    let files = Files::new(&[
        ("server", "https://hub.example.com:6443\n"),
        ("ca.crt", &both),
        ("token", "abc123.0123456789abcdef\n"),
    ]);
    let directory = files.directory();
    let hub = directory.hub().await.unwrap();
    assert_eq!(hub.cluster_url.to_string(), "https://hub.example.com:6443/");
    let der = |authority: &CertificateAuthority| authority.certificate().der().unwrap();
    assert_eq!(hub.root_cert.unwrap(), [der(&first), der(&second)]);
    assert!(hub.auth_info.token.is_none() && !hub.accept_invalid_certs);
    assert_eq!(directory.token().await.unwrap().id(), "abc123");

    files.write("token", "def456.0123456789abcdef");
    assert_eq!(directory.token().await.unwrap().id(), "def456");
}

#[test]
fn without_a_server_there_is_no_other_hub() {
    let files = Files::new(&[("token", ID_AND_SECRET)]);
    assert!(HubDirectory::find(files.0.path()).is_none());
    assert!(HubDirectory::find(Path::new("/nowhere/at/all")).is_none());
}

#[tokio::test]
async fn each_wrong_file_is_named_with_what_to_do() {
    for server in [
        "",
        "http://hub:6443",
        "hub:6443",
        "https://",
        "https://me@hub",
        "https://hub/?a=b",
        "a b",
    ] {
        let files = Files::new(&[("server", server), ("ca.crt", authority().certificate().as_str())]);
        let told = files.directory().hub().await.unwrap_err().to_string();
        assert!(
            told.contains("/server is not the https address"),
            "{server:?}: {told}"
        );
        assert!(told.contains("https://hub.example.com:6443") && told.contains("skep-system/skep-hub"));
    }
    let key = skep_pki::KeyPem::generate().unwrap();
    for authorities in ["", "no PEM", key.expose()] {
        let files = Files::new(&[("server", "https://hub"), ("ca.crt", authorities)]);
        let error = files.directory().hub().await.unwrap_err();
        let told = format!("{error} {:?} {}", error, error.source().unwrap());
        assert!(told.contains("/ca.crt is not PEM certificates"), "{told}");
        assert!(authorities.is_empty() || !told.contains(authorities.trim()));
    }
    let files = Files::new(&[("server", "https://hub")]);
    let told = files.directory().hub().await.unwrap_err().to_string();
    assert!(
        told.contains("cannot read") && told.contains("/ca.crt, a key of the Secret skep-system/skep-hub"),
        "{told}"
    );
    let told = files.directory().token().await.unwrap_err().to_string();
    assert!(told.contains("/token, a key of the Secret"), "{told}");
}

#[tokio::test]
async fn a_malformed_token_is_never_told() {
    for token in [
        "",
        "abc123",
        "abc123.",
        "abc123.0123456789abcde",
        "ABC123.0123456789abcdef",
        "abc123.0123456789abcdef.x",
    ] {
        let files = Files::new(&[("server", "https://hub"), ("token", token)]);
        let error = files.directory().token().await.unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(
            told.contains("/token is not a bootstrap token, ID.SECRET"),
            "{told}"
        );
        assert!(token.is_empty() || !told.contains(token), "{told}");
    }
    let token = BootstrapToken::parse(ID_AND_SECRET).unwrap();
    assert_eq!(format!("{token:?}"), "BootstrapToken(abc123.redacted)");
    assert!(!format!("{:?}", token.auth_info().unwrap()).contains("0123456789abcdef"));
}
