//! The tags that everything carries, and by which it is found again.

use aws_lc_rs::digest::{SHA256, digest};
use aws_sdk_ec2::types::{Filter, ResourceType, Tag, TagSpecification};
use skep_builder::Token;

/// Tells the platform.
pub(crate) const PLATFORM: &str = "skep.dev/platform";
/// Tells the order.
pub(crate) const TOKEN: &str = "skep.dev/token";
/// Tells the cell, for people.
pub(crate) const CELL: &str = "skep.dev/cell";
/// Tells parts of one kind in one cell from each other.
pub(crate) const PART: &str = "skep.dev/part";

/// What a new part is tagged with, so that it is never there without.
pub(crate) struct Tags<'a> {
    pub platform: &'a str,
    pub token: &'a Token,
    pub cell: &'a str,
}

impl Tags<'_> {
    /// As a request takes them.
    pub fn of(&self, kind: ResourceType, part: &str) -> TagSpecification {
        let name = format!("{}-{part}", self.cell);
        let pairs = [
            (PLATFORM, self.platform),
            (TOKEN, self.token.as_str()),
            (CELL, self.cell),
            (PART, part),
            ("Name", name.as_str()),
        ];
        let tags = pairs.map(|(key, value)| Tag::builder().key(key).value(value).build());
        TagSpecification::builder()
            .resource_type(kind)
            .set_tags(Some(tags.to_vec()))
            .build()
    }
}

impl Tags<'_> {
    /// By what EC2 knows a request again: it takes 64 ASCII characters, and a part's name beside a token may have more.
    pub fn request(&self, part: &str) -> String {
        let named = format!("{}/{part}", self.token);
        hex::encode(digest(&SHA256, named.as_bytes()))
    }
}

/// The zone and the number of a node, by the name of its part, `node-ZONE-NUMBER`.
pub(crate) fn zone(part: &str) -> Option<(&str, &str)> {
    part.strip_prefix("node-")?.rsplit_once('-')
}

/// Everything of a platform, or of one order of it.
pub(crate) fn filters(platform: &str, token: Option<&Token>) -> Vec<Filter> {
    let filter = |key: &str, value: &str| Filter::builder().name(format!("tag:{key}")).values(value).build();
    let mut filters = vec![filter(PLATFORM, platform)];
    filters.extend(token.map(|token| filter(TOKEN, token.as_str())));
    filters
}

/// The value of a tag.
pub(crate) fn value<'a>(tags: &'a [Tag], key: &str) -> &'a str {
    let found = tags.iter().find(|tag| tag.key() == Some(key));
    found.and_then(Tag::value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_the_longest_names_is_short_enough_for_ec2() {
        let token = "t".repeat(40).parse().unwrap();
        let tags = Tags {
            platform: "test",
            token: &token,
            cell: "cell",
        };
        let (one, other) = ("pods-i-0123456789abcdef0-1", "pods-i-0123456789abcdef0-2");
        assert_eq!(tags.request(one).len(), 64);
        assert_eq!(tags.request(one), tags.request(one));
        assert_ne!(tags.request(one), tags.request(other));
    }

    #[test]
    fn a_zone_is_not_taken_for_one_whose_name_goes_on() {
        assert_eq!(zone("node-a-1"), Some(("a", "1")));
        assert_eq!(zone("node-a-1-2"), Some(("a-1", "2")));
        assert_eq!(zone("pods-i-1-1"), None);
    }
}
