fn main() {
    let line_of_a_file = String::from("canary");
    let _ = stillframe_model::Label::try_from(line_of_a_file);
}
