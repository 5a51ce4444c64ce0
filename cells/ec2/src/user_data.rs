//! What an instance does when it first starts: it writes how its agent comes to the hub, and begins the cluster or joins it.
//!
//! The image has containerd, kubelet and kubeadm. A joining node trusts who can sign the cluster's information with the join
//! token, which only nodes of the cell know (kubeadm's discovery by token); the authority's hash cannot be pinned, since the first
//! node makes the authority itself.

use std::fmt::Write;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use skep_builder::Order;

use crate::settings::Settings;

/// Where the registration lies on each node that begins a cluster, for the agent.
const HUB: &str = "/etc/skep/hub";
const END: &str = "SKEP_END";

/// Which node the script is for.
pub(crate) struct Node<'a> {
    pub name: String,
    pub zone: &'a str,
    /// Whether it begins the cluster.
    pub is_first: bool,
}

/// The script, as EC2 takes it.
pub(crate) fn user_data(order: &Order, settings: &Settings, api: &str, node: &Node<'_>) -> String {
    STANDARD.encode(script(order, settings, api, node))
}

fn script(order: &Order, settings: &Settings, api: &str, node: &Node<'_>) -> String {
    let token = join_token(&settings.join_secret, order.token.as_str());
    let mut script = String::from("#!/bin/sh\nset -eu\numask 077\nmkdir -p /etc/skep\n");
    let (verb, config) = if node.is_first {
        let _ = writeln!(script, "mkdir -p {HUB}");
        let registration = &order.registration;
        let files = [
            ("server", Some(&registration.hub)),
            ("ca.crt", Some(&registration.authority)),
            ("token", registration.token.as_ref()),
        ];
        for (file, text) in files {
            if let Some(text) = text {
                write_file(&mut script, &format!("{HUB}/{file}"), text);
            }
        }
        ("init", init(order, api, node, &token))
    } else {
        ("join", join(api, node, &token))
    };
    write_file(&mut script, "/etc/skep/kubeadm.yaml", &config);
    script += "systemctl enable --now containerd kubelet\n";
    // A node that starts again is a member already.
    let _ = writeln!(
        script,
        "test -e /etc/kubernetes/kubelet.conf || kubeadm {verb} --config /etc/skep/kubeadm.yaml"
    );
    script
}

fn write_file(script: &mut String, path: &str, text: &str) {
    let _ = writeln!(script, "cat > {path} <<'{END}'\n{}\n{END}", text.trim_end());
}

fn init(order: &Order, api: &str, node: &Node<'_>, token: &str) -> String {
    let (ranges, cell) = (&order.ranges, &order.cell);
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens: [{{token: {token}, ttl: 0s, usages: [signing, authentication], groups: ['system:bootstrappers:kubeadm:default-node-token']}}]
localAPIEndpoint: {{advertiseAddress: {api}}}
{}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: {cell}
controlPlaneEndpoint: {api}:6443
networking: {{podSubnet: {}, serviceSubnet: {}}}
",
        registration(node),
        ranges.pods.trunc(),
        ranges.services.trunc()
    )
}

fn join(api: &str, node: &Node<'_>, token: &str) -> String {
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery: {{bootstrapToken: {{apiServerEndpoint: '{api}:6443', token: {token}, unsafeSkipCAVerification: true}}}}
{}
",
        registration(node)
    )
}

fn registration(node: &Node<'_>) -> String {
    let Node { name, zone, .. } = node;
    format!(
        "nodeRegistration: {{name: {name}, taints: [], kubeletExtraArgs: [{{name: node-labels, value: topology.kubernetes.io/zone={zone}}}]}}"
    )
}

/// The token by which nodes of a cell join: the same for each pass, and another for each order.
fn join_token(secret: &[u8], order: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let tag = hex::encode(hmac::sign(&key, order.as_bytes()));
    format!("{}.{}", &tag[..6], &tag[6..22])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::order;

    fn settings() -> Settings {
        Settings {
            platform: "test".to_owned(),
            image: "ami-1".to_owned(),
            node_type: "m5.xlarge".to_owned(),
            pods_per_node: 14,
            vcpus_left: None,
            join_secret: vec![7; 32],
        }
    }

    #[test]
    fn scripts_are_as_recorded() {
        let order = order("10.1.0.0/16", "10.2.0.0/16", &["a"], 2);
        for (name, is_first) in [("init", true), ("join", false)] {
            let node = Node {
                name: format!("cell-a-{name}"),
                zone: "a",
                is_first,
            };
            let script = script(&order, &settings(), "10.1.0.4", &node);
            assert!(script.len() < 12_000, "EC2 takes 16 KiB in base64");
            insta::with_settings!({snapshot_path => "../tests/golden", prepend_module_to_snapshot => false}, {
                insta::assert_snapshot!(name, script);
            });
        }
    }

    #[test]
    fn each_order_has_its_own_join_token() {
        let (one, other) = (join_token(b"secret", "a"), join_token(b"secret", "b"));
        assert_ne!(one, other);
        assert_eq!(one, join_token(b"secret", "a"));
        assert_eq!((one.len(), one.find('.')), (23, Some(6)));
    }
}
