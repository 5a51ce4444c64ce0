//! Writes, against a mocked API server.

use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, PodStatus};
use kube::Api;
use kube::api::{ObjectMeta, Preconditions};
use serde_json::{Value, json};
use skep_runtime::{Applier, Categorised, Deletion, StatusWrite};

fn pod(status: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u1", "resourceVersion": "7", "finalizers": ["skep.dev/other"]},
        "status": status,
    }))
    .unwrap()
}

fn status(value: Value) -> PodStatus {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn apply_is_forced_and_names_its_manager() {
    let (client, mut server) = crate::mock::server();
    let object = ConfigMap {
        metadata: ObjectMeta {
            name: Some("c".into()),
            namespace: Some("n".into()),
            ..ObjectMeta::default()
        },
        data: Some([("k".into(), "v".into())].into()),
        ..ConfigMap::default()
    };
    let task = tokio::spawn(async move { Applier::new(client, "etcd").apply(&object).await });
    let call = server
        .expect(Method::PATCH, "/api/v1/namespaces/n/configmaps/c")
        .await;
    assert_eq!(call.query, "&force=true&fieldManager=skep.dev%2Fetcd");
    assert_eq!(call.body["kind"], "ConfigMap");
    assert_eq!(call.body["data"]["k"], "v");
    let answer = call.body.clone();
    call.answer(&answer);
    assert_eq!(task.await.unwrap().unwrap().data.unwrap()["k"], "v");
}

#[tokio::test]
async fn cluster_scoped_objects_have_no_namespace_in_their_path() {
    let (client, mut server) = crate::mock::server();
    let metadata = ObjectMeta {
        name: Some("cp-c1".into()),
        ..ObjectMeta::default()
    };
    let object = Namespace {
        metadata,
        ..Namespace::default()
    };
    let task = tokio::spawn(async move { Applier::new(client, "x").apply(&object).await });
    server
        .expect(Method::PATCH, "/api/v1/namespaces/cp-c1")
        .await
        .refuse(403, "Forbidden");
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.category(), "forbidden");
    assert_eq!(error.to_string(), "cannot apply Namespace cp-c1");
}

#[tokio::test]
async fn an_equal_status_is_not_written() {
    let (client, mut server) = crate::mock::server();
    let applier = Applier::new(client, "x");
    let conditions = json!([{"type": "B", "status": "True"}, {"type": "A", "status": "True"}]);
    let observed = pod(&json!({"phase": "Running", "conditions": conditions}));
    // The API server keeps conditions in the order of their first writing.
    let same = status(json!({"phase": "Running", "conditions": [conditions[1], conditions[0]]}));
    assert_eq!(
        applier.apply_status(&observed, &same).await.unwrap(),
        StatusWrite::Unchanged
    );
    let part = status(json!({"conditions": [conditions[1]]}));
    assert_eq!(
        applier.apply_status_part(&observed, &part).await.unwrap(),
        StatusWrite::Unchanged
    );
    drop(applier);
    assert!(server.next().await.is_none(), "nothing may be sent");
}

#[tokio::test]
async fn a_changed_status_is_written_with_its_uid() {
    let (client, mut server) = crate::mock::server();
    let observed = pod(&json!({"phase": "Pending", "message": "gone with the next write"}));
    let task = tokio::spawn(async move {
        let status = status(json!({"phase": "Pending"}));
        Applier::new(client, "x").apply_status(&observed, &status).await
    });
    let call = server
        .expect(Method::PATCH, "/api/v1/namespaces/n/pods/p/status")
        .await;
    assert_eq!(
        call.body["metadata"],
        json!({"name": "p", "namespace": "n", "uid": "u1"})
    );
    assert_eq!(call.body["status"], json!({"phase": "Pending"}));
    assert_eq!(
        (&call.body["kind"], &call.body["apiVersion"]),
        (&json!("Pod"), &json!("v1"))
    );
    assert!(call.body.get("spec").is_none());
    call.answer(&json!({}));
    assert_eq!(task.await.unwrap().unwrap(), StatusWrite::Written);
}

#[tokio::test]
async fn a_changed_part_is_written() {
    let (client, mut server) = crate::mock::server();
    let observed = pod(&json!({"phase": "Pending", "conditions": [{"type": "A", "status": "True"}]}));
    let task = tokio::spawn(async move {
        let part = status(json!({"conditions": [{"type": "A", "status": "False"}]}));
        Applier::new(client, "x")
            .apply_status_part(&observed, &part)
            .await
    });
    let call = server
        .expect(Method::PATCH, "/api/v1/namespaces/n/pods/p/status")
        .await;
    call.answer(&json!({}));
    assert_eq!(task.await.unwrap().unwrap(), StatusWrite::Written);
}

#[tokio::test]
async fn deletes_tolerate_absence_and_keep_their_preconditions() {
    let (client, mut server) = crate::mock::server();
    let task = tokio::spawn(async move {
        let applier = Applier::new(client.clone(), "x");
        let pods: Api<Pod> = Api::namespaced(client, "n");
        let preconditions = Preconditions {
            uid: Some("u1".into()),
            resource_version: None,
        };
        let absent = applier.delete(&pods, "p", Some(preconditions)).await.unwrap();
        let observed = applier.delete_observed(&pod(&json!({}))).await.unwrap();
        let other = applier.delete_observed(&pod(&json!({}))).await.unwrap_err();
        (absent, observed, other)
    });
    let path = "/api/v1/namespaces/n/pods/p";
    let call = server.expect(Method::DELETE, path).await;
    assert_eq!(call.body["preconditions"], json!({"uid": "u1"}));
    assert_eq!(call.body["propagationPolicy"], "Background");
    call.refuse(404, "NotFound");
    let call = server.expect(Method::DELETE, path).await;
    assert_eq!(call.body["preconditions"], json!({"uid": "u1"}));
    call.answer(&json!({"kind": "Status", "status": "Success"}));
    server.expect(Method::DELETE, path).await.refuse(409, "Conflict");
    let (absent, observed, other) = task.await.unwrap();
    assert_eq!((absent, observed), (Deletion::Absent, Deletion::Started));
    assert!(other.is_conflict());
}

#[tokio::test]
async fn finalizers_keep_what_others_added() {
    let (client, mut server) = crate::mock::server();
    let task = tokio::spawn(async move {
        let applier = Applier::new(client, "x");
        let observed = pod(&json!({}));
        applier.add_finalizer(&observed, "skep.dev/other").await.unwrap();
        applier.remove_finalizer(&observed, "skep.dev/x").await.unwrap();
        applier.add_finalizer(&observed, "skep.dev/x").await.unwrap();
        applier.remove_finalizer(&observed, "skep.dev/other").await
    });
    let path = "/api/v1/namespaces/n/pods/p";
    let call = server.expect(Method::PATCH, path).await;
    let metadata =
        json!({"uid": "u1", "resourceVersion": "7", "finalizers": ["skep.dev/other", "skep.dev/x"]});
    assert_eq!(call.body["metadata"], metadata);
    call.answer(&json!({}));
    let call = server.expect(Method::PATCH, path).await;
    assert_eq!(call.body["metadata"]["finalizers"], json!([]));
    call.refuse(404, "NotFound");
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn manifests_go_to_where_discovery_says() {
    let (client, mut server) = crate::mock::server();
    let text = "
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
---
apiVersion: v1
kind: Namespace
metadata: {name: n, namespace: nonsense}
";
    let task = tokio::spawn(async move { Applier::new(client, "up").apply_yaml(text).await });
    let resource = |name: &str, kind: &str, namespaced: bool| json!({"name": name, "singularName": "", "kind": kind, "namespaced": namespaced, "verbs": ["patch"]});
    let list = json!({"groupVersion": "v1", "resources": [resource("namespaces", "Namespace", false), resource("configmaps", "ConfigMap", true)]});
    server.expect(Method::GET, "/api/v1").await.answer(&list);
    let call = server.expect(Method::PATCH, "/api/v1/namespaces/n").await;
    assert!(call.body["metadata"].get("namespace").is_none());
    call.answer(&json!({"metadata": {"name": "n"}}));
    server.expect(Method::GET, "/api/v1").await.answer(&list);
    let call = server
        .expect(Method::PATCH, "/api/v1/namespaces/default/configmaps/c")
        .await;
    call.answer(&json!({"metadata": {"name": "c"}}));
    assert_eq!(task.await.unwrap().unwrap(), 2);
}
