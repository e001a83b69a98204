fn main() {
    let line_of_a_file = String::from("canary");
    let _ = stillframe_model::Reason::words(&line_of_a_file);
}
