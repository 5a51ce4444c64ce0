//! The little DER that is written by hand: a distinguished name with several values of one attribute, and
//! the certificate around it. rcgen keeps one value per attribute, but a user has several groups.
//!
//! Encoding after ITU-T X.690, sections 8 and 10.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BIT_STRING: u8 = 0x03;
const UTF8_STRING: u8 = 0x0c;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// id-at-commonName, 2.5.4.3.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
/// id-at-organizationName, 2.5.4.10.
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];

/// The position of the subject in a version 3 `TBSCertificate`: version, serial number, signature, issuer
/// and validity come before it (RFC 5280, section 4.1).
const SUBJECT: usize = 5;

/// A name with one relative name for each organization, then the common name, as Go writes them.
pub(crate) fn name(common_name: &str, organizations: &[String]) -> Vec<u8> {
    let mut content = Vec::new();
    for organization in organizations {
        content.extend(relative_name(&ORGANIZATION, organization));
    }
    content.extend(relative_name(&COMMON_NAME, common_name));
    element(SEQUENCE, &content)
}

/// Replaces the subject of a `TBSCertificate`; nothing when `tbs` is not one.
pub(crate) fn with_subject(tbs: &[u8], subject: &[u8]) -> Option<Vec<u8>> {
    let fields = elements(contents(tbs)?)?;
    let mut content = Vec::with_capacity(tbs.len() + subject.len());
    for (index, field) in fields.iter().enumerate() {
        content.extend_from_slice(if index == SUBJECT { subject } else { field });
    }
    (fields.len() > SUBJECT).then(|| element(SEQUENCE, &content))
}

/// Splits a certificate into its `TBSCertificate` and its algorithm.
pub(crate) fn split_certificate(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    match elements(contents(certificate)?)?.as_slice() {
        [tbs, algorithm, _signature] => Some((tbs, algorithm)),
        _ => None,
    }
}

/// Puts a certificate together.
pub(crate) fn join_certificate(tbs: &[u8], algorithm: &[u8], signature: &[u8]) -> Vec<u8> {
    // The first octet says how many bits of the last one are unused.
    let bits: Vec<u8> = std::iter::once(0).chain(signature.iter().copied()).collect();
    element(SEQUENCE, &[tbs, algorithm, &element(BIT_STRING, &bits)].concat())
}

fn relative_name(attribute: &[u8], value: &str) -> Vec<u8> {
    let pair = [
        element(OBJECT_IDENTIFIER, attribute),
        element(UTF8_STRING, value.as_bytes()),
    ]
    .concat();
    element(SET, &element(SEQUENCE, &pair))
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => bytes.push(short),
        _ => {
            let length = content.len().to_be_bytes();
            let first = length
                .iter()
                .position(|byte| *byte != 0)
                .unwrap_or(length.len() - 1);
            let significant = &length[first..];
            // A usize has at most eight octets, so the count fits beside the flag.
            bytes.push(0x80 | significant.len().to_le_bytes()[0]);
            bytes.extend_from_slice(significant);
        }
    }
    bytes.extend_from_slice(content);
    bytes
}

/// The contents of the one element that `bytes` is.
fn contents(bytes: &[u8]) -> Option<&[u8]> {
    let (header, length) = header(bytes)?;
    (bytes.len() == header + length).then(|| &bytes[header..])
}

/// The elements one after another in `bytes`, each with its header.
fn elements(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (header, length) = header(bytes)?;
        let (first, rest) = bytes.split_at_checked(header.checked_add(length)?)?;
        found.push(first);
        bytes = rest;
    }
    Some(found)
}

/// The lengths of the header and of the content of the first element.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = *bytes.get(1)?;
    if first < 0x80 {
        return Some((2, usize::from(first)));
    }
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 {
        return None;
    }
    let octets = bytes.get(2..2 + count)?;
    let length = octets
        .iter()
        .fold(0, |length, octet| (length << 8) | usize::from(*octet));
    Some((2 + count, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_take_as_few_octets_as_needed() {
        assert_eq!(element(SEQUENCE, &[]), [0x30, 0]);
        assert_eq!(element(SEQUENCE, &[7; 127])[..2], [0x30, 127]);
        assert_eq!(element(SEQUENCE, &[7; 128])[..3], [0x30, 0x81, 128]);
        assert_eq!(element(SEQUENCE, &[7; 300])[..4], [0x30, 0x82, 1, 44]);
        for size in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![9; size];
            assert_eq!(contents(&element(SET, &content)), Some(content.as_slice()));
        }
    }

    #[test]
    fn broken_bytes_are_no_elements() {
        assert_eq!(contents(&[0x30, 5, 1]), None);
        assert_eq!(elements(&[0x30, 0x80]), None);
        assert_eq!(elements(&[0x30]), None);
        assert_eq!(with_subject(&[0x30, 0], &[]), None);
    }
}
