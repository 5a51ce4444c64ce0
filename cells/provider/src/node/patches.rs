//! What the control plane's static pods ask for, as patches that kubeadm applies.

use std::collections::BTreeMap;

use serde::Serialize;

use super::yaml;
use crate::error::Error;

#[derive(Serialize)]
struct PodPatch {
    spec: PodPatchSpec,
}

#[derive(Serialize)]
struct PodPatchSpec {
    containers: [ContainerPatch; 1],
}

#[derive(Serialize)]
struct ContainerPatch {
    name: &'static str,
    resources: Resources,
}

#[derive(Serialize)]
struct Resources {
    requests: BTreeMap<&'static str, &'static str>,
}

/// Requests of the static pods: kubeadm's 650m would be all that one of three nodes on two cores has.
const REQUESTS: [(&str, &str, &str); 4] = [
    ("etcd", "100m", "64Mi"),
    ("kube-apiserver", "150m", "256Mi"),
    ("kube-controller-manager", "30m", "64Mi"),
    ("kube-scheduler", "20m", "32Mi"),
];

/// Renders kubeadm's patches, as (file name, content).
pub(crate) fn build_patches() -> Result<Vec<(String, String)>, Error> {
    let patch = |(name, cpu, memory)| {
        let requests = BTreeMap::from([("cpu", cpu), ("memory", memory)]);
        let containers = [ContainerPatch {
            name,
            resources: Resources { requests },
        }];
        let text = yaml(
            "kubeadm's patches",
            &PodPatch {
                spec: PodPatchSpec { containers },
            },
        )?;
        Ok((format!("{name}+strategic.yaml"), text))
    };
    REQUESTS.into_iter().map(patch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let text: Vec<_> = build_patches()
            .unwrap()
            .into_iter()
            .map(|(n, t)| format!("# {n}\n{t}"))
            .collect();
        insta::assert_snapshot!(text.join("\n"));
    }
}
