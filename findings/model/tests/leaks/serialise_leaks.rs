fn main() {
    let secret = stillframe_model::Sensitive::new(b"canary".to_vec());
    let _ = serde_json::to_string(&secret);
}
