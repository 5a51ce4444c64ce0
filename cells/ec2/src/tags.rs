//! The tags that everything carries, and by which it is found again.

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
