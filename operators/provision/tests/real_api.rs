//! The server against a real kube-apiserver: every bad input, every right, every promise of the API.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc
)]

mod hub;

use std::time::Duration;

use futures::StreamExt;
use hub::caller::{Caller, send};
use hub::cell::{next_request, place_cluster, remove, sign};
use hub::{Hub, cluster_binding, has_namespace};
use kube::Api;
use reqwest::Method;
use serde_json::json;
use skep_api::TenantCluster;

const CLUSTERS: &str = "/v1/projects/shop/clusters";

#[tokio::test(flavor = "multi_thread")]
async fn the_server_keeps_its_word_over_a_real_api_server() {
    let mut hub = Hub::start().await;
    hub.apply(
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "owner"}, "rules": [
            {"apiGroups": ["skep.dev"], "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["*"]}]}),
    )
    .await;
    hub.user("owner").await;
    hub.apply(cluster_binding("owner", "owner", "default")).await;
    {
        let owner = Caller {
            hub: &hub,
            token: hub.user("owner").await,
        };
        callers_are_told_apart(&hub).await;
        projects(&owner).await;
        bad_bodies(&owner).await;
        creation_and_replay(&owner).await;
        lists_page(&owner).await;
        changes(&owner).await;
        tokens(&hub, &owner).await;
        kubeconfigs(&hub, &owner).await;
        events(&hub, &owner).await;
        deletion(&owner).await;
        catalog_and_the_rest(&owner).await;
    }
    hub_down(&mut hub).await;
}

async fn callers_are_told_apart(hub: &Hub) {
    let nobody = send(hub.http.get(format!("{}{CLUSTERS}", hub.url))).await;
    nobody.is_problem(401);
    assert!(
        nobody.headers["www-authenticate"]
            .to_str()
            .unwrap()
            .starts_with("Bearer")
    );
    let unknown = format!("skep_shop-00000000_{}", "0".repeat(64));
    for token in ["garbage", "a.b.c", &unknown] {
        Caller {
            hub,
            token: token.to_owned(),
        }
        .get(CLUSTERS)
        .await
        .is_problem(401);
    }
    let stranger = Caller {
        hub,
        token: hub.user("stranger").await,
    };
    stranger.get(CLUSTERS).await.is_problem(403);
    stranger.get("/v1/projects").await.is_problem(403);
    stranger
        .post("/v1/projects", &json!({"name": "mine"}))
        .await
        .is_problem(403);
    stranger.get("/v1/versions").await.is(200);
}

async fn projects(owner: &Caller<'_>) {
    let made = owner.post("/v1/projects", &json!({"name": "shop"})).await;
    assert_eq!(made.is(201).headers["location"], "/v1/projects/shop");
    let taken = owner.post("/v1/projects", &json!({"name": "shop"})).await;
    assert_eq!(taken.is_problem(409).body()["current"]["name"], "shop");
    owner
        .post_with_key("/v1/projects", &json!({"name": "other"}), "p1")
        .await
        .is(201);
    let again = owner
        .post_with_key("/v1/projects", &json!({"name": "other"}), "p1")
        .await;
    assert_eq!(again.is(201).headers["idempotency-replayed"], "true");
    owner
        .post_with_key("/v1/projects", &json!({"name": "third"}), "p1")
        .await
        .is_problem(422);
    assert!(!has_namespace(&owner.hub.cluster.admin, "project-third").await);
    for name in ["", "kube", "No", &"x".repeat(41), "../x"] {
        let refused = owner.post("/v1/projects", &json!({"name": name})).await;
        assert_eq!(refused.is_problem(422).fields(), ["name"]);
    }
    let names = owner.get("/v1/projects").await.is(200).body();
    assert_eq!(names["items"].as_array().unwrap().len(), 2, "{names}");
    owner.get("/v1/projects/shop").await.is(200);
    owner.get("/v1/projects/nobody").await.is_problem(404);
    owner.delete("/v1/projects/other").await.is(202);
}

async fn bad_bodies(owner: &Caller<'_>) {
    let raw = |body: &'static str, kind: &'static str| {
        send(
            owner
                .request(Method::POST, CLUSTERS)
                .header("content-type", kind)
                .body(body),
        )
    };
    let cut = raw("{\"name\": \"de", "application/json").await;
    assert!(
        cut.is_problem(400).body()["detail"]
            .as_str()
            .unwrap()
            .contains("line 1, column 12")
    );
    raw("", "application/json").await.is_problem(400);
    raw("{\"name\": \"a\"} x", "application/json")
        .await
        .is_problem(400);
    raw("name=a", "application/x-www-form-urlencoded")
        .await
        .is_problem(415);
    raw("[]", "application/json").await.is_problem(422);
    let large = json!({"name": "a", "profile": "x".repeat(70_000)});
    owner.post(CLUSTERS, &large).await.is_problem(413);
    let many = json!({"name": "No_Label", "version": "latest", "profile": 7, "class": "huge", "surprise": true,
        "availability": "Sometimes", "network": {"pods": "198.19.0.0/17", "extra": 1}});
    let fields = owner.post(CLUSTERS, &many).await.is_problem(422).fields();
    for field in [
        "name",
        "version",
        "profile",
        "class",
        "surprise",
        "availability",
        "network.services",
        "network.extra",
    ] {
        assert!(
            fields.contains(&field.to_owned()),
            "{field} is not among {fields:?}"
        );
    }
    for (field, body) in [
        ("version", json!({"name": "bad", "version": "9.9.9"})),
        ("profile", json!({"name": "bad", "profile": "nonsense"})),
        ("region", json!({"name": "bad", "region": "atlantis"})),
        (
            "network.pods",
            json!({"name": "bad", "network": {"pods": "198.19.0.1/17", "services": "198.19.128.0/20"}}),
        ),
        (
            "network.services",
            json!({"name": "bad", "network": {"pods": "198.19.0.0/17", "services": "198.19.64.0/20"}}),
        ),
        (
            "network.pods",
            json!({"name": "bad", "network": {"pods": "198.18.0.0/16", "services": "198.19.128.0/20"}}),
        ),
        ("name", json!({"name": "x".repeat(41)})),
        ("name", json!({"name": "x".repeat(253)})),
        ("name", json!({"name": "имя"})),
        ("name", json!({})),
    ] {
        let refused = owner.post(CLUSTERS, &body).await;
        assert_eq!(refused.is_problem(422).fields(), [field], "{body}");
    }
    let missing = owner
        .post("/v1/projects/nobody/clusters", &json!({"name": "a"}))
        .await;
    missing.is_problem(404);
    owner.get(&format!("{CLUSTERS}/bad")).await.is_problem(404);
    owner.get("/v1/nothing").await.is_problem(404);
    let wrong = send(owner.request(Method::PUT, CLUSTERS)).await;
    assert!(wrong.is_problem(405).headers.contains_key("allow"));
}

async fn creation_and_replay(owner: &Caller<'_>) {
    let body = json!({"name": "demo", "class": "small"});
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = owner
        .request(Method::POST, CLUSTERS)
        .header("Idempotency-Key", "k1");
    let made = send(request.header("traceparent", parent).json(&body)).await;
    assert_eq!(
        made.is(202).headers["location"],
        "/v1/projects/shop/clusters/demo"
    );
    assert!(!made.headers.contains_key("idempotency-replayed"));
    assert_eq!(made.body()["class"], "small");
    let clusters: Api<TenantCluster> = Api::namespaced(owner.hub.cluster.admin.clone(), "project-shop");
    let object = clusters.get("demo").await.unwrap();
    assert_eq!(
        object.metadata.annotations.unwrap()["skep.dev/traceparent"],
        parent
    );
    let again = owner.post_with_key(CLUSTERS, &body, "k1").await;
    assert_eq!(again.is(202).headers["idempotency-replayed"], "true");
    assert_eq!(again.body()["uid"], made.body()["uid"]);
    let text = "{ \"class\" : \"small\",\n \"name\":\"demo\"}";
    let spaced = owner
        .request(Method::POST, CLUSTERS)
        .header("content-type", "application/json");
    send(spaced.header("Idempotency-Key", "k1").body(text))
        .await
        .is(202);
    let other = json!({"name": "demo", "class": "large"});
    owner.post_with_key(CLUSTERS, &other, "k1").await.is_problem(422);
    owner
        .post_with_key(CLUSTERS, &json!({"name": "demo2", "class": "small"}), "k1")
        .await
        .is_problem(422);
    let taken = owner.post_with_key(CLUSTERS, &body, "k2").await;
    assert_eq!(taken.is_problem(409).body()["current"]["uid"], made.body()["uid"]);
    owner.post(CLUSTERS, &body).await.is_problem(409);
    owner
        .post_with_key(CLUSTERS, &body, &"x".repeat(256))
        .await
        .is_problem(400);
    let racing = json!({"name": "racing"});
    let race = (0..8).map(|_| owner.post_with_key(CLUSTERS, &racing, "k3"));
    let answers = futures::future::join_all(race).await;
    let first = answers[0].body()["uid"].clone();
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == 202 && answer.body()["uid"] == first)
    );
    owner.delete("/v1/projects/shop").await.is_problem(409);
}

async fn lists_page(owner: &Caller<'_>) {
    owner.post(CLUSTERS, &json!({"name": "third"})).await.is(202);
    let first = owner.get(&format!("{CLUSTERS}?limit=2")).await.is(200).body();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let token = first["continue"].as_str().unwrap();
    let rest = owner
        .request(Method::GET, CLUSTERS)
        .query(&[("limit", "2"), ("continue", token)]);
    let rest = send(rest).await.is(200).body();
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert!(rest["continue"].is_null());
    for query in ["limit=0", "limit=501", "limit=x", "continue=nonsense", "sort=up"] {
        owner.get(&format!("{CLUSTERS}?{query}")).await.is_problem(400);
    }
    owner.get("/v1/projects/nobody/clusters").await.is_problem(404);
}

async fn changes(owner: &Caller<'_>) {
    let demo = format!("{CLUSTERS}/demo");
    let patched = owner
        .patch(&demo, &json!({"class": "medium", "deletionProtection": true}))
        .await;
    assert_eq!(patched.is(202).body()["class"], "medium");
    let merge = owner
        .request(Method::PATCH, &demo)
        .header("content-type", "application/merge-patch+json");
    let unset = send(merge.body("{\"class\": null}")).await;
    assert_eq!(unset.is(202).body()["class"], "auto");
    let refused = owner
        .patch(
            &demo,
            &json!({"region": "x", "name": "y", "colour": 1, "version": "0.1.0"}),
        )
        .await;
    let fields = refused.is_problem(422).fields();
    assert!(
        ["region", "name", "colour", "version"]
            .iter()
            .all(|f| fields.contains(&(*f).to_owned())),
        "{fields:?}"
    );
    let protected = owner.delete(&demo).await;
    assert_eq!(protected.is_problem(409).fields(), ["deletionProtection"]);
    owner
        .patch(&format!("{CLUSTERS}/none"), &json!({}))
        .await
        .is_problem(404);
    owner.patch(&demo, &json!([1])).await.is_problem(422);
}

async fn tokens(hub: &Hub, owner: &Caller<'_>) {
    let place = "/v1/projects/shop/tokens";
    owner
        .post("/v1/projects", &json!({"name": "shop-two"}))
        .await
        .is(201);
    let made = owner
        .post_with_key(place, &json!({"ttl": "1h", "description": "ci"}), "t1")
        .await;
    let (id, text) = (
        made.is(201).body()["id"].clone(),
        made.body()["token"].as_str().unwrap().to_owned(),
    );
    let again = owner
        .post_with_key(place, &json!({"ttl": "1h", "description": "ci"}), "t1")
        .await;
    assert_eq!(again.is(201).body()["id"], id);
    assert!(again.body()["token"].is_null());
    let bearer = Caller {
        hub,
        token: text.clone(),
    };
    bearer.get(CLUSTERS).await.is(200);
    bearer.get("/v1/projects/shop").await.is(200);
    bearer.get("/v1/projects/shop-two/clusters").await.is_problem(403);
    bearer.get("/v1/projects").await.is_problem(403);
    bearer.post(place, &json!({})).await.is_problem(403);
    let forged = Caller {
        hub,
        token: text.replace("skep_shop-", "skep_shop-two-"),
    };
    forged.get("/v1/projects/shop-two/clusters").await.is_problem(401);
    let wrong = Caller {
        hub,
        token: format!(
            "{}{}",
            &text[..text.len() - 1],
            if text.ends_with('0') { '1' } else { '0' }
        ),
    };
    wrong.get(CLUSTERS).await.is_problem(401);
    let listed = owner.get(place).await;
    assert_eq!(listed.is(200).body()["items"][0]["id"], id);
    assert!(!listed.text.contains(&text));
    for body in [
        json!({"ttl": "0s"}),
        json!({"ttl": "20000h"}),
        json!({"ttl": "soon"}),
        json!({"ttl": 3}),
    ] {
        assert_eq!(owner.post(place, &body).await.is_problem(422).fields(), ["ttl"]);
    }
    owner
        .delete(&format!("{place}/{}", id.as_str().unwrap()))
        .await
        .is(204);
    bearer.get(CLUSTERS).await.is_problem(401);
    owner
        .delete(&format!("{place}/{}", id.as_str().unwrap()))
        .await
        .is_problem(404);
    owner
        .delete(&format!("{place}/..%2fskep-provision-tls"))
        .await
        .is_problem(404);
}

async fn kubeconfigs(hub: &Hub, owner: &Caller<'_>) {
    let place = format!("{CLUSTERS}/demo/kubeconfig");
    let (_, csr) = skep_pki::new_request("anyone", &[]).unwrap();
    let body = json!({"csr": csr.as_str(), "ttl": "30m"});
    owner.post(&place, &body).await.is_problem(409);
    place_cluster(hub, "demo").await;
    let (_, masters) = skep_pki::new_request("x", &["system:masters"]).unwrap();
    for (wrong, fields) in [
        (json!({"csr": masters.as_str()}), vec!["csr"]),
        (json!({"csr": "nonsense"}), vec!["csr"]),
        (json!({"csr": csr.as_str(), "ttl": "25h"}), vec!["ttl"]),
        (json!({"csr": csr.as_str(), "ttl": "1m"}), vec!["ttl"]),
        (json!({"csr": csr.as_str(), "username": "root"}), vec!["username"]),
    ] {
        assert_eq!(owner.post(&place, &wrong).await.is_problem(422).fields(), fields);
    }
    let removal = async { remove(hub, &next_request(hub).await).await };
    let (answer, ()) = tokio::join!(owner.post(&place, &body), removal);
    answer.is_problem(409);
    let signature = async {
        let request = next_request(hub).await;
        sign(hub, &request).await;
        request
    };
    let (answer, request) = tokio::join!(owner.post_with_key(&place, &body, "c1"), signature);
    let credentials = answer.is(200).body();
    assert_eq!(credentials["server"], "https://198.18.0.2:443");
    assert_eq!(credentials["tlsServerName"], "api.cabcdefghi.local.skep.internal");
    assert_eq!(
        request.spec.username,
        "skep:user:system:serviceaccount:default:owner"
    );
    assert_eq!(
        (request.spec.ttl_seconds, request.spec.groups[0].0.as_str()),
        (1800, "skep:tenant-admins")
    );
    let again = owner.post_with_key(&place, &body, "c1").await.is(200).body();
    assert_eq!(again, credentials);
}

async fn events(hub: &Hub, owner: &Caller<'_>) {
    owner
        .get(&format!("{CLUSTERS}/none/events"))
        .await
        .is_problem(404);
    let answer = owner
        .request(Method::GET, &format!("{CLUSTERS}/racing/events"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut bytes = answer.bytes_stream();
    let mut text = String::new();
    let mut has_changed = false;
    let mut has_deleted = false;
    let reading = async {
        while let Some(chunk) = bytes.next().await {
            text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
            if text.contains("event: cluster") && !has_changed {
                has_changed = true;
                place_cluster(hub, "racing").await;
            }
            if text.contains("\"address\":\"198.18.0.2:443\"") && !has_deleted {
                has_deleted = true;
                owner.delete(&format!("{CLUSTERS}/racing")).await.is(202);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading)
        .await
        .expect("the stream ends with the cluster");
    assert!(text.trim_end().ends_with("event: deleted\ndata: {}"), "{text}");
}

async fn deletion(owner: &Caller<'_>) {
    let demo = format!("{CLUSTERS}/demo");
    owner
        .patch(&demo, &json!({"deletionProtection": false}))
        .await
        .is(202);
    owner.delete(&demo).await.is(202);
    owner.delete(&demo).await.is_problem(404);
    let listed = owner.delete("/v1/projects/shop").await;
    assert_eq!(
        listed.is_problem(409).body()["current"]["clusters"],
        json!(["third"])
    );
    owner.delete(&format!("{CLUSTERS}/third")).await.is(202);
    owner.delete("/v1/projects/shop").await.is(202);
    owner
        .post(CLUSTERS, &json!({"name": "late"}))
        .await
        .is_problem(409);
}

async fn catalog_and_the_rest(owner: &Caller<'_>) {
    let versions = owner.get("/v1/versions").await.is(200).body();
    assert_eq!(
        versions["items"][0],
        json!({"version": "1.36.3", "default": true, "profiles": ["standard"]})
    );
    let classes = owner.get("/v1/classes").await.is(200).body();
    assert_eq!(classes["items"][0]["name"], "small");
    let regions = owner.get("/v1/regions").await.is(200).body();
    assert_eq!(regions["items"][0]["zones"], json!(["a", "b", "c"]));
    assert_eq!(
        owner.get("/v1/profiles").await.is(200).body()["items"][0]["name"],
        "standard"
    );
    let metrics = owner.get("/metrics").await;
    assert!(
        metrics
            .is(200)
            .text
            .contains("route=\"/v1/projects/{project}/clusters\""),
        "{}",
        metrics.text
    );
    assert!(!metrics.text.contains("demo"));
    assert_eq!(
        owner.get("/readyz").await.is(200).headers["x-content-type-options"],
        "nosniff"
    );
    assert!(owner.get("/openapi.json").await.is(200).body()["openapi"].is_string());
    let nothing = json!({});
    let limited =
        futures::future::join_all((0..200).map(|_| owner.patch("/v1/projects/x/clusters/y", &nothing)));
    let refused = limited
        .await
        .into_iter()
        .find(|answer| answer.status == 429)
        .expect("a flood is stopped");
    assert!(refused.is_problem(429).headers.contains_key("retry-after"));
}

async fn hub_down(hub: &mut Hub) {
    let token = hub.user("owner").await;
    hub.cluster.kill_api_server();
    let owner = Caller { hub, token };
    let refused = owner.get("/v1/projects").await;
    assert!(refused.is_problem(503).headers.contains_key("retry-after"));
    owner.get("/readyz").await.is_problem(503);
    owner.get("/healthz").await.is(200);
    hub.shutdown.cancel();
}
