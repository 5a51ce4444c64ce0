use skep_builder::{Ranges, Registration};

use super::*;

pub(crate) fn order(nodes: &str, pods: &str, zones: &[&str], nodes_per_zone: u8) -> Order {
    Order {
        token: "token".parse().unwrap(),
        cell: "cell".parse().unwrap(),
        pool: "pool".to_owned(),
        region: "eu".parse().unwrap(),
        domain: "skep.internal".parse().unwrap(),
        zones: zones.iter().map(|zone| zone.parse().unwrap()).collect(),
        nodes_per_zone,
        node_type: None,
        ranges: Ranges {
            nodes: nodes.parse().unwrap(),
            pods: pods.parse().unwrap(),
            services: "10.96.0.0/16".parse().unwrap(),
        },
        registration: Registration {
            hub: "https://hub:6443".to_owned(),
            authority: String::new(),
            token: Some("a.b".to_owned()),
        },
    }
}

fn refused(order: &Order) -> &'static str {
    match Layout::of(order, 20) {
        Err(ProviderError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_zone_has_a_subnet_of_its_own_within_the_range() {
    let layout = Layout::of(&order("10.1.7.0/16", "10.2.0.0/16", &["a", "b", "c"], 3), 20).unwrap();
    let subnets: Vec<String> = layout.zones.iter().map(|zone| zone.nodes.to_string()).collect();
    assert_eq!(subnets, ["10.1.0.0/18", "10.1.64.0/18", "10.1.128.0/18"]);
    assert_eq!(layout.zones[1].pods.to_string(), "10.2.64.0/18");
    assert_eq!(layout.api().unwrap().to_string(), "10.1.0.4");
    let single = Layout::of(&order("10.1.0.0/28", "10.2.0.0/16", &["a"], 11), 20).unwrap();
    assert_eq!(single.zones[0].nodes.to_string(), "10.1.0.0/28");
}

#[test]
fn what_cannot_be_met_is_told_by_field() {
    let pods = "10.2.0.0/16";
    assert_eq!(refused(&order("10.1.0.0/16", pods, &[], 1)), "zones");
    assert_eq!(refused(&order("10.1.0.0/16", pods, &["a", "a"], 1)), "zones");
    assert_eq!(refused(&order("10.1.0.0/16", pods, &["a"], 0)), "nodesPerZone");
    assert_eq!(refused(&order("10.1.0.0/28", pods, &["a"], 12)), "ranges.nodes");
    assert_eq!(
        refused(&order("10.1.0.0/27", pods, &["a", "b", "c"], 1)),
        "ranges.nodes"
    );
    assert_eq!(refused(&order("10.0.0.0/15", pods, &["a"], 1)), "ranges.nodes");
    assert_eq!(
        refused(&order("10.1.0.0/16", "10.2.0.0/24", &["a", "b", "c"], 3)),
        "ranges.pods"
    );
    assert_eq!(refused(&order("10.2.4.0/24", pods, &["a"], 1)), "ranges.pods");
    assert_eq!(
        refused(&order("10.96.1.0/24", pods, &["a"], 1)),
        "ranges.services"
    );
    assert_eq!(
        refused(&order("10.1.0.0/16", "10.96.0.0/24", &["a"], 1)),
        "ranges.services"
    );
}
