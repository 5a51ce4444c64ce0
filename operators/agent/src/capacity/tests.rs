//! Small cells, and what is told of them.

use super::*;

const NODES: &str = "
- metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}, annotations: {x: y}}
  spec: {podCIDR: 10.0.0.0/24}
  status: {allocatable: {cpu: 3920m, memory: 8000Mi, pods: '110'}, conditions: [{type: Ready, status: 'True'}]}
- metadata: {name: n2, labels: {topology.kubernetes.io/zone: a}}
  status: {allocatable: {cpu: '4', memory: 8Gi, pods: '110'}, conditions: [{type: Ready, status: 'False'}]}
- metadata: {name: n3, labels: {topology.kubernetes.io/zone: b}}
  status: {allocatable: {cpu: '4', memory: 8Gi, pods: '110'}, conditions: [{type: Ready, status: Unknown}]}
- metadata: {name: n4, labels: {topology.kubernetes.io/zone: a}}
  spec: {unschedulable: true}
  status: {allocatable: {cpu: '4', memory: 8Gi, pods: '110'}, conditions: [{type: Ready, status: 'True'}]}
- metadata: {name: n5, labels: {topology.kubernetes.io/zone: a, kubernetes.io/hostname: five.example}}
  spec: {taints: [{key: dedicated, effect: NoSchedule}]}
  status: {allocatable: {cpu: '4', memory: 8Gi, pods: '110'}, conditions: [{type: Ready, status: 'True'}]}
- metadata: {name: n6, labels: {topology.kubernetes.io/zone: c}}
  spec: {unschedulable: true}
  status: {allocatable: {cpu: '4', memory: 8Gi, pods: '110'}, conditions: [{type: Ready, status: 'True'}]}
- metadata: {name: stray}
  status: {allocatable: {cpu: '4', memory: 8Gi, pods: '110'}, conditions: [{type: Ready, status: 'True'}]}
";
const PODS: &str = "
- metadata: {name: api, namespace: cp-cabcdefghi}
  spec:
    nodeName: n1
    overhead: {cpu: 10m}
    containers: [{name: a, resources: {requests: {cpu: 50m, memory: 256Mi}}}, {name: b}]
    initContainers:
    - {name: side, restartPolicy: Always, resources: {requests: {cpu: 5m, memory: 24Mi}}}
    - {name: first, resources: {requests: {cpu: 100m, memory: 16Mi}}}
- metadata: {name: dns, namespace: kube-system}
  spec: {nodeName: n1, containers: [{name: a, resources: {requests: {cpu: 100m, memory: 70Mi}}}]}
- metadata: {name: like-a-tenants, namespace: cp-not}
  spec: {nodeName: n1, containers: [{name: a, resources: {requests: {cpu: 1m}}}]}
- metadata: {name: ended, namespace: kube-system}
  spec: {nodeName: n1, containers: [{name: a, resources: {requests: {cpu: '1'}}}]}
  status: {phase: Succeeded}
- metadata: {name: waits, namespace: cp-cabcdefghi}
  spec: {containers: [{name: a, resources: {requests: {cpu: '1'}}}]}
";
const VOLUMES: &str = "
- metadata: {name: v1}
  spec:
    capacity: {storage: 2000Mi}
    claimRef: {namespace: cp-cabcdefghi, name: data}
    nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [n1]}]}]}}
- metadata: {name: v2}
  spec:
    capacity: {storage: 2000Mi}
    nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: topology.kubernetes.io/zone, operator: In, values: [b]}]}]}}
- metadata: {name: v3}
  spec:
    capacity: {storage: 1000Mi}
    nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [five.example]}]}]}}
- metadata: {name: anywhere}
  spec: {capacity: {storage: 2000Mi}}
";

fn read_all<K: serde::de::DeserializeOwned>(text: &str) -> Vec<K> {
    serde_saphyr::from_str(text).unwrap()
}

fn told(is_shrunk: bool) -> Vec<ZoneCapacity> {
    let (mut nodes, mut pods, mut volumes): (Vec<Node>, Vec<Pod>, Vec<PersistentVolume>) =
        (read_all(NODES), read_all(PODS), read_all(VOLUMES));
    if is_shrunk {
        nodes.iter_mut().for_each(shrink_node);
        pods.iter_mut().for_each(shrink_pod);
        volumes.iter_mut().for_each(shrink_volume);
    }
    measure(nodes.iter(), pods.iter(), volumes.iter())
}

#[test]
fn zones_are_told_apart_and_tenants_from_the_cell_itself() {
    let told = told(false);
    let names: Vec<(&str, i32, bool)> = told
        .iter()
        .map(|zone| (zone.name.as_str(), zone.ready_nodes, zone.lost))
        .collect();
    // Nodes that are cordoned or tainted are ready and give nothing.
    assert_eq!(names, [("a", 3, false), ("b", 0, true), ("c", 1, true)]);
    let quantities = |of: &BTreeMap<String, String>| {
        let values = ["cpu", "memory", "pods", "volumes", "datastore"].map(|name| of[name].clone());
        values.join(" ")
    };
    assert_eq!(quantities(&told[0].allocatable), "3920m 8000Mi 110 2 3000Mi");
    // The first init container asks for more processor than all that runs later, and for less memory.
    assert_eq!(quantities(&told[0].committed), "115m 280Mi 1 1 2000Mi");
    assert_eq!(quantities(&told[0].system), "101m 70Mi 2 0 0Mi");
    assert_eq!(quantities(&told[1].allocatable), "0m 0Mi 0 1 2000Mi");
    assert_eq!(quantities(&told[1].committed), "0m 0Mi 0 0 0Mi");
}

#[test]
fn what_is_kept_of_objects_is_all_that_is_measured() {
    assert_eq!(told(true), told(false));
    let mut nodes: Vec<Node> = read_all(NODES);
    nodes.iter_mut().for_each(shrink_node);
    assert_eq!(nodes[0].spec.as_ref().unwrap().pod_cidr, None);
    assert_eq!(nodes[0].metadata.annotations, None);
}

#[test]
fn a_cell_without_nodes_has_no_zones() {
    assert_eq!(measure([].iter(), [].iter(), [].iter()), []);
}
