//! The programs of this crate give out `getrandom` themselves (`src/chance.rs`), so that libraries which look it up by name find it.

fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-link-arg=-Wl,--export-dynamic-symbol=getrandom");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
