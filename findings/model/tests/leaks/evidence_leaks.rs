fn main() {
    let _ = stillframe_model::Evidence::Line { number: 3, text: String::from("canary") };
}
