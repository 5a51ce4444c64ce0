use jiff::SignedDuration;
use skep_core::CELL_AGENTS;
use skep_pki::{CertificateAuthority, Subject, request_for};

use super::*;

const OLD: Option<&str> = Some("old123");
const NEW: Option<&str> = Some("new456");

fn cell() -> CellName {
    "one".parse().unwrap()
}

fn now() -> Timestamp {
    "2026-11-01T10:00:00Z".parse().unwrap()
}

fn after(hours: i64) -> Timestamp {
    now() + SignedDuration::from_hours(hours)
}

fn key_alone() -> Stored {
    Stored::make(&cell(), "old123", None).unwrap()
}

/// A certificate of `key` in `user`'s name for three hours from `now`.
fn sign(key: &KeyPem, user: &str) -> CertificatePem {
    let authority = CertificateAuthority::create("hub", now()).unwrap();
    let request = request_for(key, user, &[CELL_AGENTS]).unwrap();
    let subject = Subject {
        username: user.to_owned(),
        groups: vec![CELL_AGENTS.to_owned()],
    };
    let ttl = SignedDuration::from_hours(3);
    authority
        .sign_request(request.as_str(), &subject, ttl, now())
        .unwrap()
}

fn certified() -> Stored {
    let stored = key_alone();
    let pem = sign(&stored.key, &stored.registration.user());
    stored.certified(stored.key.clone(), pem.as_bytes()).unwrap()
}

fn renewed() -> Stored {
    let (stored, key) = (certified(), KeyPem::generate().unwrap());
    let pem = sign(&key, &stored.registration.user());
    stored.certified(key, pem.as_bytes()).unwrap()
}

#[test]
fn what_to_do_follows_from_what_is_stored_the_token_the_denial_and_the_time() {
    assert_eq!(decide(None, OLD, false, now()), Step::MakeKey);
    // Without a token the key cannot be made for one; the caller says that there is none.
    assert_eq!(decide(None, None, false, now()), Step::MakeKey);
    let key = key_alone();
    for (token, is_denied, step) in [
        (OLD, false, Step::Register),
        // The same token and a denied key: it tries on.
        (OLD, true, Step::Register),
        (None, true, Step::Register),
        // Another token for a key that is not denied: the hub may know the key already.
        (NEW, false, Step::Register),
        (NEW, true, Step::MakeKey),
    ] {
        assert_eq!(
            decide(Some(&key), token, is_denied, now()),
            step,
            "{token:?} {is_denied}"
        );
    }
    for stored in [certified(), renewed()] {
        for (token, is_denied, hours, step) in [
            (OLD, false, 0, Step::Use),
            (None, false, 0, Step::Use),
            (NEW, false, 0, Step::Use),
            (OLD, true, 0, Step::Use),
            (NEW, true, 0, Step::MakeKey),
            (OLD, false, 2, Step::Renew),
            (None, false, 2, Step::Renew),
            (NEW, false, 2, Step::Renew),
            (OLD, true, 2, Step::Renew),
            (NEW, true, 2, Step::MakeKey),
            (NEW, false, 4, Step::MakeKey),
        ] {
            assert_eq!(
                decide(Some(&stored), token, is_denied, after(hours)),
                step,
                "{token:?} {is_denied} {hours}"
            );
        }
    }
    // After the end the first key asks again with its token; a later one has not the key of its name.
    assert_eq!(decide(Some(&certified()), OLD, false, after(4)), Step::Register);
    assert_eq!(decide(Some(&renewed()), OLD, false, after(4)), Step::AwaitToken);
    assert_eq!(decide(Some(&renewed()), None, false, after(4)), Step::AwaitToken);
}

#[test]
fn what_is_stored_is_read_back_and_a_renewal_keeps_the_name() {
    for stored in [key_alone(), certified(), renewed()] {
        let mut secret = stored.secret();
        secret.metadata.resource_version = Some("7".into());
        let read = Stored::read(&secret, &cell()).unwrap();
        assert_eq!(read.key, stored.key);
        assert_eq!(read.registration, stored.registration);
        assert_eq!(read.bootstrap_id, "old123");
        assert_eq!(read.version.as_deref(), Some("7"));
        assert_eq!(read.certificate.is_some(), stored.certificate.is_some());
    }
    assert!(certified().is_named_after_its_key() && !renewed().is_named_after_its_key());
    // A key without a certificate has none of an earlier one, and takes the place of exactly that Secret.
    let old = Stored {
        version: Some("7".into()),
        ..renewed()
    };
    let made = Stored::make(&cell(), "new456", Some(&old)).unwrap();
    let secret = made.secret();
    assert_eq!(secret.data.unwrap().into_keys().collect::<Vec<_>>(), ["tls.key"]);
    assert_eq!(secret.metadata.resource_version.as_deref(), Some("7"));
    assert_ne!(made.registration, old.registration);
}

#[test]
fn a_secret_that_is_of_no_use_is_told_without_its_key() {
    let stored = certified();
    let with = |key: &str, text: &str| {
        let mut secret = stored.secret();
        let data = secret.data.as_mut().unwrap();
        data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
        Stored::read(&secret, &cell()).unwrap_err()
    };
    let other = sign(&KeyPem::generate().unwrap(), &stored.registration.user());
    for (key, text) in [
        ("tls.key", "no key"),
        ("tls.crt", ""),
        ("tls.crt", "no PEM"),
        ("tls.crt", other.as_str()),
    ] {
        let told = with(key, text).to_string();
        assert!(
            told.starts_with(&format!(
                "{key} of the Secret skep-system/skep-agent-identity cannot be read"
            )),
            "{told}"
        );
    }
    assert!(Stored::read(&reference(), &cell()).is_err());
    let told = Stored::read(&stored.secret(), &"two".parse().unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        told.contains(&stored.registration.user()) && told.contains("this is the cell two"),
        "{told}"
    );
    let secret = stored.key.expose().lines().nth(1).unwrap();
    assert!(!format!("{stored:?}{told}").contains(secret));
}
