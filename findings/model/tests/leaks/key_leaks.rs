fn main() {
    let key = stillframe_model::FingerprintKey::new([1; 32]);
    println!("{key:?}");
}
