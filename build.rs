//! A new migration has to be compiled in.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
