//! Programs that would carry a disk's content out, and that the compiler refuses.

#[test]
fn content_does_not_compile_into_a_report() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/leaks/allowed.rs");
    cases.compile_fail("tests/leaks/*_leaks.rs");
}
