//! The agent of a cell whose hub is another cluster, against a real API server and the hub's real controllers.

#![allow(clippy::unwrap_used, clippy::panic)]

mod lab;

use jiff::{SignedDuration, Timestamp};
use lab::{Fuse, Identity, Lab};
use skep_core::CELL_AGENTS;
use skep_pki::{CertificatePem, KeyPem, Subject, request_for};

/// What the API server calls the holder of a bootstrap token.
fn holder(id: &str) -> String {
    format!("system:bootstrap:{id}")
}

/// A certificate of the stored key of which two thirds are over.
fn old_certificate(lab: &Lab, identity: &Identity) -> CertificatePem {
    let user = identity.user().unwrap();
    let key = KeyPem::parse(&identity.key).unwrap();
    let request = request_for(&key, &user, &[CELL_AGENTS]).unwrap();
    let subject = Subject {
        username: user,
        groups: vec![CELL_AGENTS.to_owned()],
    };
    let begin = Timestamp::now() - SignedDuration::from_mins(50);
    let ttl = SignedDuration::from_mins(60);
    let authority = &lab.cluster.authority;
    authority
        .sign_request(request.as_str(), &subject, ttl, begin)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_it_dies_one_key_registers_and_takes_one_use() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let lab = Lab::start(&names).await;
    // It reads the Secret, stores the key, registers it and stores the certificate.
    let deaths = (1..=3).flat_map(|request| [(request, false), (request, true)]);
    for (cell, (request, is_sent)) in names.into_iter().zip(deaths) {
        let id = lab.put_token(cell, 1).await;
        let fuse = Fuse::new(request, is_sent);
        let agent = lab.start_agent(cell, fuse.wire(&lab.agent_client()));
        fuse.burns().await;
        drop(agent);
        let (stored, asked) = (lab.identity().await, lab.requests().await);
        let asked: Vec<_> = asked
            .into_iter()
            .filter(|(user, _)| *user == holder(&id))
            .collect();
        // The key is stored before anything is asked, and the certificate only afterwards.
        assert_eq!(
            stored.is_some(),
            (request, is_sent) >= (2, true),
            "{request} {is_sent}"
        );
        assert_eq!(asked.len(), usize::from(request == 3), "{request} {is_sent}");
        let certificate = stored.as_ref().and_then(|stored| stored.certificate.as_ref());
        assert_eq!(certificate.is_some(), (request, is_sent) == (3, true));
        for (_, name) in &asked {
            assert_eq!(
                *name,
                format!("skep:cell:{cell}:{}", stored.as_ref().unwrap().made)
            );
        }

        let agent = lab.start_agent(cell, lab.agent_client());
        lab.checks_in(cell).await;
        let now = lab.identity().await.unwrap();
        if let Some(stored) = stored {
            assert_eq!(now.key, stored.key, "{request} {is_sent}");
        }
        assert_eq!(now.user().unwrap(), format!("skep:cell:{cell}:{}", now.made));
        assert_eq!((lab.used(cell).await, now.bootstrap_id), (1, id));
        let of_cell = lab.registrations().await;
        let of_cell: Vec<_> = of_cell.iter().filter(|made| made.spec.cell == cell).collect();
        assert_eq!(of_cell.len(), 1, "{request} {is_sent}");
        assert_eq!(of_cell[0].metadata.name.as_ref(), Some(&now.made));
        drop(agent);
        lab.delete_identity().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_restarts_with_what_is_stored_and_renews_by_its_own_certificate() {
    let lab = Lab::start(&["one"]).await;
    let id = lab.put_token("eu", 1).await;
    let agent = lab.start_agent("one", lab.agent_client());
    lab.checks_in("one").await;
    drop(agent);
    let first = lab.identity().await.unwrap();
    let user = first.user().unwrap();
    assert_eq!(lab.requests().await, [(holder(&id), user.clone())]);

    // No token is needed any more, and nobody is asked.
    lab.take_token();
    let agent = lab.start_agent("one", lab.agent_client());
    lab.checks_in("one").await;
    drop(agent);
    assert_eq!(lab.identity().await.unwrap(), first);
    assert_eq!(lab.requests().await.len(), 1);

    let due = old_certificate(&lab, &first);
    lab.put_certificate(Some(&due)).await;
    let _agent = lab.start_agent("one", lab.agent_client());
    let renewed = lab
        .identity_that("it is renewed", |now| now.key != first.key)
        .await;
    assert_ne!(renewed.made, first.made);
    // Key and certificate came together, and the name stays.
    assert_eq!(renewed.user(), Some(user.clone()));
    assert_eq!(
        lab.requests().await,
        [(holder(&id), user.clone()), (user.clone(), user)]
    );
    assert_eq!((lab.used("eu").await, renewed.bootstrap_id), (1, id));
    assert_eq!(lab.registrations().await.len(), 1);
    lab.checks_in("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_key_stays_until_another_token_is_put_there() {
    let lab = Lab::start(&["one"]).await;
    lab.put_token("first", 3).await;
    let agent = lab.start_agent("one", lab.agent_client());
    lab.checks_in("one").await;
    drop(agent);
    let first = lab.identity().await.unwrap();
    lab.revoke(&first.made).await;
    // Its certificate renews nothing any more.
    lab.put_certificate(Some(&old_certificate(&lab, &first))).await;
    let _agent = lab.start_agent("one", lab.agent_client());
    let told = lab.warned("RegistrationRefused").await;
    assert!(
        told.contains(&first.made) && told.contains("put a new token into"),
        "{told}"
    );
    // As if its answer had been lost: the same key asks again with the same token.
    lab.put_certificate(None).await;
    let told = lab.warned("RegistrationNotStanding").await;
    assert!(told.contains("register with a new key and token"), "{told}");
    let still = lab.identity().await.unwrap();
    assert_eq!((still.key, still.certificate), (first.key.clone(), None));
    assert_eq!(lab.used("first").await, 1);

    let id = lab.put_token("second", 1).await;
    let second = lab
        .identity_that("a new key is certified", |now| now.certificate.is_some())
        .await;
    assert_ne!(second.key, first.key);
    assert_eq!(second.user().unwrap(), format!("skep:cell:one:{}", second.made));
    assert_eq!(second.bootstrap_id, id);
    assert_eq!((lab.used("first").await, lab.used("second").await), (1, 1));
    lab.checks_in("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_the_hub_does_not_know_is_told_and_another_one_takes_the_same_key() {
    let lab = Lab::start(&["one"]).await;
    lab.write_token("abc123.0123456789abcdef");
    let _agent = lab.start_agent("one", lab.agent_client());
    let told = lab.warned("UnknownToken").await;
    assert!(
        told.contains("no bootstrap token abc123") && !told.contains("0123456789abcdef"),
        "{told}"
    );
    let first = lab.identity().await.unwrap();
    assert_eq!((first.certificate, first.bootstrap_id.as_str()), (None, "abc123"));

    let id = lab.put_token("eu", 1).await;
    let second = lab
        .identity_that("it is certified", |now| now.certificate.is_some())
        .await;
    assert_eq!((second.key, second.bootstrap_id), (first.key, id));
    lab.checks_in("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_revoked_while_it_runs_takes_up_another_token() {
    let lab = Lab::start(&["one"]).await;
    lab.put_token("first", 3).await;
    let _agent = lab.start_agent("one", lab.agent_client());
    lab.checks_in("one").await;
    let first = lab.identity().await.unwrap();
    // Another token alone changes nothing.
    let id = lab.put_token("second", 1).await;
    lab.checks_in("one").await;
    assert_eq!(lab.identity().await.unwrap(), first);
    assert_eq!(lab.used("second").await, 0);

    lab.revoke(&first.made).await;
    let second = lab.identity_that("a new key is certified", |now| {
        now.key != first.key && now.certificate.is_some()
    });
    let second = second.await;
    assert_eq!(second.bootstrap_id, id);
    assert_eq!((lab.used("first").await, lab.used("second").await), (1, 1));
    lab.checks_in("one").await;
}
