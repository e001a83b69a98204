use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The length of a fingerprint key, in bytes.
pub const KEY_BYTES: usize = 32;

/// What a fingerprint is of. The same value has different fingerprints in different domains, so that a user who is
/// named like a token cannot be linked to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// The user's component of a path under a home root.
    HomeUser,
    /// An account name.
    Account,
    /// A secret that was matched.
    Secret,
}

impl Domain {
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::HomeUser => b"stillframe/fingerprint/1/home-user\0",
            Self::Account => b"stillframe/fingerprint/1/account\0",
            Self::Secret => b"stillframe/fingerprint/1/secret\0",
        }
    }
}

/// The key of all fingerprints: whoever has it can test guesses against a report, so it never leaves.
pub struct FingerprintKey(Zeroizing<[u8; KEY_BYTES]>);

/// Why a key file is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint key is 64 hexadecimal digits, and this is not")]
pub struct KeyError;

impl FingerprintKey {
    /// A key from 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key from the text of a key file: 64 hexadecimal digits, white space around them.
    ///
    /// # Errors
    /// [`KeyError`] for any other text.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.len() != KEY_BYTES.saturating_mul(2) || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(KeyError);
        }
        let mut bytes = [0; KEY_BYTES];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = str::from_utf8(pair).map_err(|_| KeyError)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| KeyError)?;
        }
        Ok(Self::new(bytes))
    }

    /// The text of a key file.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        let mut text = hex(&*self.0);
        text.push('\n');
        Zeroizing::new(text)
    }

    /// Names the key without telling it: reports with the same id have comparable fingerprints.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(self.mac(b"stillframe/key-id/1\0", b"").chars().take(16).collect())
    }

    /// The fingerprint of `value`.
    #[must_use]
    pub fn fingerprint(&self, domain: Domain, value: &[u8]) -> Fingerprint {
        Fingerprint(self.mac(domain.prefix(), value).chars().take(32).collect())
    }

    /// HMAC-SHA-256 of `prefix` and `value`, in hexadecimal.
    fn mac(&self, prefix: &[u8], value: &[u8]) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&*self.0) else {
            // HMAC takes a key of any length; a constant would still tell nothing about `value`.
            return "0".repeat(64);
        };
        mac.update(prefix);
        mac.update(value);
        hex(&mac.finalize().into_bytes())
    }
}

/// Names a key; the key cannot be found from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct KeyId(String);

/// A keyed fingerprint: 128 bits of HMAC-SHA-256, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The first 8 digits, for a path or a line of text.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

macro_rules! hex_text {
    ($($name:ident $digits:literal),*) => {$(
        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                let is_hex = text.len() == $digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                if is_hex { Ok(Self(text)) } else { Err("not a hexadecimal fingerprint") }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
hex_text!(KeyId 16, Fingerprint 32);

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> FingerprintKey {
        FingerprintKey::new([0x0b; KEY_BYTES])
    }

    #[test]
    fn it_is_hmac_sha_256() {
        // From `printf 'stillframe/fingerprint/1/secret\0Hi There' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0b…`.
        let fingerprint = key().fingerprint(Domain::Secret, b"Hi There");
        assert_eq!(fingerprint.to_string(), OPENSSL_SAYS);
    }

    const OPENSSL_SAYS: &str = "42f74f9407c0730e01260efad26ee645";

    #[test]
    fn domains_and_keys_separate() {
        let in_path = key().fingerprint(Domain::HomeUser, b"alice");
        assert_ne!(in_path, key().fingerprint(Domain::Account, b"alice"));
        assert_ne!(in_path, FingerprintKey::new([1; KEY_BYTES]).fingerprint(Domain::HomeUser, b"alice"));
        assert_eq!(in_path.short().len(), 8);
        assert_ne!(key().id(), FingerprintKey::new([1; KEY_BYTES]).id());
    }

    #[test]
    fn a_key_file_is_read_back() {
        let back = FingerprintKey::from_hex(&key().to_hex()).unwrap();
        assert_eq!(back.id(), key().id());
        assert!(FingerprintKey::from_hex("").is_err());
        assert!(FingerprintKey::from_hex(&"g".repeat(64)).is_err());
        assert!(FingerprintKey::from_hex(&"é".repeat(32)).is_err());
    }
}
