use stillframe_model::{Evidence, FingerprintKey, Label, Sensitive, Domain};

fn main() {
    let key = FingerprintKey::new([1; 32]);
    let secret = Sensitive::new(b"canary".to_vec());
    let evidence = Evidence::Fingerprint { fingerprint: secret.fingerprint(&key, Domain::Secret) };
    let text = format!("{evidence:?} {}", Label::new("words"));
    assert!(!text.contains("canary"));
}
