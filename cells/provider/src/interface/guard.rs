//! What a pod with an interface in a tenant's network may reach and be reached by.
//!
//! A tenant decides where its apiserver dials: by a Node's address and port, by endpoints of a Service, by a webhook.
//! So by the cell's side it may reach only what an apiserver needs there: datastores, which let in no certificate but
//! their own tenant's, and the resolver. By the tenant's side nobody gets in, and nothing goes through. The rules do
//! not cover what the pod reaches in the tenant's network, which is the tenant's own, nor a datastore's port of
//! another tenant, where the handshake fails.

use super::{CELL_INTERFACE, INTERFACE};
use crate::address::Slot;

/// The port of datastores.
const ETCD_PORT: u16 = 2379;
/// The port of the resolver.
const DNS_PORT: u16 = 53;

/// Rules for `nft`, the same however often they are loaded.
pub(super) fn build_rules(slot: Slot) -> String {
    let (services, dns) = (slot.services(), slot.dns());
    format!(
        "table inet skep-interface
delete table inet skep-interface
table inet skep-interface {{
  chain input {{
    type filter hook input priority filter; policy accept;
    iifname \"{INTERFACE}\" ct state established,related accept
    iifname \"{INTERFACE}\" drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    oifname != \"{CELL_INTERFACE}\" accept
    ct state established,related accept
    ip daddr {services} tcp dport {ETCD_PORT} accept
    ip daddr {dns} udp dport {DNS_PORT} accept
    ip daddr {dns} tcp dport {DNS_PORT} accept
    reject
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        insta::assert_snapshot!(build_rules(Slot::try_from(0).unwrap()));
    }
}
