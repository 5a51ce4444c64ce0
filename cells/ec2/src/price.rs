//! What an order's nodes are and cost, by the planner's table of instance types.

use skep_builder::{Order, ProviderError};
use skep_planner::instance::{InstanceType, InstanceTypes};

/// The instance type of an order's nodes: the one that it names, or the usual one.
pub fn node(order: &Order, usual: &str, table: &InstanceTypes) -> Result<InstanceType, ProviderError> {
    let name = order.node_type.as_deref().unwrap_or(usual);
    table
        .types
        .get(name)
        .copied()
        .ok_or_else(|| ProviderError::Invalid {
            field: "nodeType",
            message: format!("{name} is not in the table of instance types"),
        })
}

/// The price of so many nodes in thousandths of a dollar an hour, rounded up once for all of them.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a price in thousandths is far below 2^52"
)]
pub fn price_milli(node: &InstanceType, nodes: u32) -> i64 {
    // A price has no more than four decimals: tenths of a thousandth are exact, and sums of them too.
    let hundredths = (node.price * 100_000.0).round() as i64;
    (hundredths * i64::from(nodes)).div_euclid(100) + i64::from(hundredths * i64::from(nodes) % 100 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_that_of_all_nodes_rounded_up_once() {
        let table = InstanceTypes::shipped().unwrap();
        let node = InstanceType {
            price: 0.0416,
            ..table.types["m5.large"]
        };
        assert_eq!([0, 1, 5].map(|nodes| price_milli(&node, nodes)), [0, 42, 208]);
    }
}
