//! By what the hub's builder and the process on this machine know each other: an authority and a token, made once.

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use rand::Rng;
use skep_pki::CertificateAuthority;

use crate::platform::home::Home;

/// Characters of the token: 190 bits.
const TOKEN_LENGTH: usize = 32;

/// What both sides know.
pub struct Access {
    /// Signs the server's certificates.
    pub authority: CertificateAuthority,
    /// The bearer token of the client.
    pub token: String,
}

impl Access {
    /// What a state directory holds, made where it is missing.
    pub fn ensure(home: &Home) -> Result<Self> {
        let file = |name: &str| home.path().join("provider").join(name);
        let (certificate, key, token) = (file("ca.crt"), file("ca.key"), file("token"));
        let read = |path: &std::path::Path| std::fs::read_to_string(path);
        if let (Ok(certificate), Ok(key), Ok(token)) = (read(&certificate), read(&key), read(&token)) {
            let authority = CertificateAuthority::from_pem(&certificate, &key).with_context(|| {
                format!("the authority in {} is of no use: remove it", file("").display())
            })?;
            return Ok(Self { authority, token });
        }
        let authority = CertificateAuthority::create("skep-provider", Timestamp::now())?;
        let made = Self {
            token: draw(&mut rand::rng()),
            authority,
        };
        home.write(&token, &made.token)?;
        home.write(&key, made.authority.key().expose())?;
        home.write(&certificate, made.authority.certificate().as_str())?;
        Ok(made)
    }
}

fn draw(chance: &mut impl Rng) -> String {
    (0..TOKEN_LENGTH)
        .map(|_| char::from(chance.sample(rand::distr::Alphanumeric)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let first = Access::ensure(&home).unwrap();
        assert_eq!(first.token.len(), TOKEN_LENGTH);
        let again = Access::ensure(&home).unwrap();
        assert_eq!((again.token, again.authority), (first.token, first.authority));
    }
}
