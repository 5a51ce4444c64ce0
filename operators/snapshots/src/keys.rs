//! The keys that snapshots are encrypted with: age's X25519 identities, the newest first.

use std::fmt;
use std::io::Read;

use age::secrecy::ExposeSecret;
use age::x25519::{Identity, Recipient};
use age::{DecryptError, Decryptor, EncryptError};

/// One key or more: the first encrypts, all are tried to decrypt, so that a key is replaced by one put before it.
#[derive(Clone)]
pub struct Keys {
    first: Identity,
    older: Vec<Identity>,
}

/// A text that holds no keys; it never says what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeys {
    /// Nothing but empty lines and comments.
    #[error("there is no key")]
    Empty,
    /// A line that is no key.
    #[error("line {line} is not an AGE-SECRET-KEY-")]
    Line {
        /// Its number, from 1.
        line: usize,
    },
}

impl Keys {
    /// Makes one new key.
    pub fn generate() -> Self {
        Self {
            first: Identity::generate(),
            older: Vec::new(),
        }
    }

    /// Reads one `AGE-SECRET-KEY-…` a line; empty lines and those that begin with `#` are left out, as age does.
    pub fn parse(text: &str) -> Result<Self, InvalidKeys> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let read = |(line, text): (usize, &str)| text.parse().map_err(|_| InvalidKeys::Line { line });
        let mut all = lines.map(read);
        Ok(Self {
            first: all.next().ok_or(InvalidKeys::Empty)??,
            older: all.collect::<Result<_, _>>()?,
        })
    }

    /// The text that [`Keys::parse`] reads; it is a secret.
    pub fn expose(&self) -> String {
        let lines = self.all().map(|key| key.to_string().expose_secret().to_owned());
        lines.collect::<Vec<_>>().join("\n") + "\n"
    }

    pub(crate) fn recipient(&self) -> Recipient {
        self.first.to_public()
    }

    /// All of them, to decrypt with.
    pub(crate) fn identities(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.all().map(|key| key as &dyn age::Identity)
    }

    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, EncryptError> {
        age::encrypt(&self.recipient(), plain)
    }

    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, DecryptError> {
        let mut plain = Vec::new();
        let mut reader = Decryptor::new_buffered(sealed)?.decrypt(self.identities())?;
        reader.read_to_end(&mut plain)?;
        Ok(plain)
    }

    fn all(&self) -> impl Iterator<Item = &Identity> {
        std::iter::once(&self.first).chain(&self.older)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}
