//! What etcd says of its own stream: a database in whole pages, and the SHA-256 of it in the last 32 bytes.

use sha2::{Digest, Sha256};

use crate::error::Damage;

/// The SHA-256 at the end; etcd's `etcdutl/snapshot` asks for the same.
const TRAILER_BYTES: usize = 32;
/// The database grows by these; the rest of a length divided by it tells a trailer from none.
const SECTOR_BYTES: u64 = 512;

/// Counts and hashes a stream, and holds back only what may be its trailer.
#[derive(Default)]
pub(crate) struct Check {
    hash: Sha256,
    bytes: u64,
    held: Vec<u8>,
}

/// What a whole stream was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub bytes: u64,
    /// Of everything, the trailer too.
    pub sha256: String,
}

impl Check {
    pub fn update(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.held.extend_from_slice(piece);
        let settled = self.held.len().saturating_sub(TRAILER_BYTES);
        self.hash.update(&self.held[..settled]);
        self.held.drain(..settled);
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn finish(mut self) -> Result<Content, Damage> {
        let trailer = TRAILER_BYTES as u64;
        if self.bytes <= trailer || self.bytes % SECTOR_BYTES != trailer {
            return Err(Damage::CutOff);
        }
        if self.hash.clone().finalize().as_slice() != self.held {
            return Err(Damage::Checksum);
        }
        self.hash.update(&self.held);
        Ok(Content {
            bytes: self.bytes,
            sha256: hex::encode(self.hash.finalize()),
        })
    }
}
