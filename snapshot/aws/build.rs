//! Nothing to do. It exists because cargo looks at `[build-dependencies]` only where there is a build script, and their
//! features are what keeps `aws-sdk-ec2` from being compiled twice: see Cargo.toml.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
