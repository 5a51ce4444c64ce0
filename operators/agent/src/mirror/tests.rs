use super::*;
use crate::hub::Cursor;

fn record(name: &str) -> Change<DeploymentRecord> {
    let mut record: DeploymentRecord =
        serde_saphyr::from_str(include_str!("../../tests/fixtures/record.yaml")).unwrap();
    record.metadata.name = Some(name.to_owned());
    Change::Present(Box::new(record))
}

fn request(cpid: &str, name: &str) -> Change<CertificateRequest> {
    let text = format!(
        "{{metadata: {{name: {name}}}, spec: {{cpid: {cpid}, request: r, ttlSeconds: 600, username: u, groups: []}}}}"
    );
    let text = text.replacen(
        '{',
        "{apiVersion: skep.dev/v1alpha1, kind: CertificateRequest, ",
        1,
    );
    Change::Present(serde_saphyr::from_str(&text).unwrap())
}

fn pull(
    complete: bool,
    records: Vec<Change<DeploymentRecord>>,
    requests: Vec<Change<CertificateRequest>>,
) -> Pull {
    Pull {
        records,
        requests,
        since: Cursor::new("1/1"),
        complete,
    }
}

fn names(keys: &BTreeSet<Key>) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

#[test]
fn changes_add_up() {
    let mirror = Mirror::default();
    assert!(!mirror.is_complete());
    let first = pull(true, vec![record("a"), record("b")], vec![request("c1", "r")]);
    assert_eq!(names(&mirror.apply(first)), ["c1/r", "a", "b"]);
    assert!(mirror.is_complete());
    let second = pull(
        false,
        vec![Change::Gone("a".into())],
        vec![Change::Gone("r".into())],
    );
    assert_eq!(names(&mirror.apply(second)), ["c1/r", "a"]);
    assert_eq!(mirror.records(), ["b"]);
    assert!(mirror.requests(None).is_empty());
}

#[test]
fn what_a_complete_pull_lacks_is_gone() {
    let mirror = Mirror::default();
    mirror.apply(pull(
        true,
        vec![record("a"), record("b")],
        vec![request("c1", "r")],
    ));
    let concerned = mirror.apply(pull(true, vec![record("b")], Vec::new()));
    assert_eq!(names(&concerned), ["c1/r", "a", "b"]);
    assert!(mirror.record("a").is_none());
    assert!(mirror.request("c1", "r").is_none());
}

#[test]
fn a_namesake_for_another_control_plane_concerns_both() {
    let mirror = Mirror::default();
    mirror.apply(pull(true, Vec::new(), vec![request("c1", "r")]));
    let concerned = mirror.apply(pull(false, Vec::new(), vec![request("c2", "r")]));
    assert_eq!(names(&concerned), ["c1/r", "c2/r"]);
    assert!(mirror.request("c1", "r").is_none());
    assert_eq!(mirror.requests(Some("c2")).len(), 1);
}
