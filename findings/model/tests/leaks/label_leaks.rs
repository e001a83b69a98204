fn main() {
    let line_of_a_file = String::from("canary");
    let _ = stillframe_model::Label::new(&line_of_a_file);
}
