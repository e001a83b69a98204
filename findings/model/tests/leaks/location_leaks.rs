fn main() {
    let mut location = stillframe_model::Location::in_volume("disk0/p1", "ext4");
    location.path = Some(String::from("/home/canary"));
}
