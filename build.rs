//! How the binary is linked.
//!
//! A position-independent executable is relocated when it starts: with the usual table that is
//! 1.5 MB read and kept resident, for VRL's function tables mostly. The packed form (RELR, since
//! glibc 2.36 and binutils 2.38) is a few kilobytes.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let of_target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}"));
    let os = of_target("OS").unwrap_or_default();
    let env = of_target("ENV").unwrap_or_default();
    if os == "linux" && env == "gnu" {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
