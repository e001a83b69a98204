use zeroize::Zeroizing;

use crate::{Domain, Fingerprint, FingerprintKey};

/// Bytes that were matched on a disk: a secret, a name, a line around one. They can be fingerprinted and measured.
/// They cannot be shown, logged, compared in the open, cloned or serialised, and are wiped when dropped.
///
/// ```compile_fail
/// let secret = stillframe_model::Sensitive::new(b"hunter2".to_vec());
/// println!("{secret:?}");
/// ```
pub struct Sensitive(Zeroizing<Vec<u8>>);

impl Sensitive {
    /// Takes the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.0.len()
    }

    /// Whether `test` holds of the bytes: a checksum, an entropy, a list of known examples.
    #[must_use]
    pub fn satisfies(&self, test: impl FnOnce(&[u8]) -> bool) -> bool {
        test(&self.0)
    }

    /// The keyed fingerprint, by which two reports can tell that they found the same.
    #[must_use]
    pub fn fingerprint(&self, key: &FingerprintKey, domain: Domain) -> Fingerprint {
        key.fingerprint(domain, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_its_length_and_its_fingerprint_only() {
        let key = FingerprintKey::new([7; 32]);
        let secret = Sensitive::new(b"hunter2".to_vec());
        assert_eq!(secret.len_bytes(), 7);
        assert!(secret.satisfies(|bytes| bytes.starts_with(b"hunter")));
        assert_eq!(secret.fingerprint(&key, Domain::Secret), key.fingerprint(Domain::Secret, b"hunter2"));
    }
}
