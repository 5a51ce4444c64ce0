//! Each field that can be wrong is named.

use super::*;
use crate::fixtures::control_plane;

#[test]
fn the_fixture_is_taken() {
    let tenant = validate(&control_plane()).unwrap();
    assert_eq!(tenant.namespace(), "cp-cabcdefghi");
    assert_eq!(tenant.endpoint.api, "api.cabcdefghi.local.skep.internal");
    assert_eq!(tenant.api_server.arguments["max-requests-inflight"], "200");
}

#[test]
fn the_way_back_is_konnectivity_unless_said() {
    for (text, way_back) in [
        (None, WayBack::Konnectivity),
        (Some("konnectivity"), WayBack::Konnectivity),
        (Some("interface"), WayBack::Interface),
    ] {
        let mut object = control_plane();
        let parameters = text.map(|text| ("wayBack".to_owned(), text.to_owned()));
        object.spec.parameters.extend(parameters);
        assert_eq!(validate(&object).unwrap().way_back, way_back);
    }
}

#[test]
fn each_mistake_names_its_field() {
    type Change = fn(&mut ControlPlane);
    let cases: &[(&str, Change)] = &[
        ("metadata.name", |c| c.metadata.name = Some("demo".into())),
        ("metadata.uid", |c| c.metadata.uid = None),
        ("spec.region", |c| c.spec.region = "A".into()),
        ("spec.domain", |c| c.spec.domain = "a..b".into()),
        ("spec.network.services", |c| {
            c.spec.network.services = "198.19.0.0/20".into();
        }),
        ("spec.tenant.project", |c| c.spec.tenant.project = "a/b".into()),
        ("spec.tenant.name", |c| c.spec.tenant.name = String::new()),
        ("spec.class", |c| c.spec.class = "small\n".into()),
        ("spec.profile", |c| c.spec.profile = "-".into()),
        ("spec.version", |c| c.spec.version = "latest".into()),
        ("spec.etcd.members", |c| c.spec.etcd.members = 2),
        ("spec.etcd.image", |c| c.spec.etcd.image = "a b".into()),
        ("spec.apiServer.image", |c| {
            c.spec.api_server.image = "a\nb".into();
        }),
        ("spec.apiServer.replicas", |c| c.spec.api_server.replicas = 10),
        ("spec.scheduler.resources.cpu", |c| {
            c.spec.scheduler.resources.cpu = "fast".into();
        }),
        ("spec.apiServer.arguments[token-auth-file]", |c| {
            c.spec
                .api_server
                .arguments
                .insert("token-auth-file".into(), "/x".into());
        }),
        ("spec.parameters[wayBack]", |c| {
            c.spec.parameters.insert("wayBack".into(), "Interface".into());
        }),
        ("spec.controllerManager.arguments[v]", |c| {
            c.spec
                .controller_manager
                .arguments
                .insert("v".into(), "2\n".into());
        }),
    ];
    for (field, change) in cases {
        let mut object = control_plane();
        change(&mut object);
        let error = validate(&object).unwrap_err();
        assert_eq!(error.field, *field, "{error}");
        assert!(!error.to_string().contains('\n'), "{error:?}");
    }
}
