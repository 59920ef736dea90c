//! Compiles the simulation's own source of chance.

fn main() {
    println!("cargo::rerun-if-changed=src/chance.c");
    // The standard library looks for the symbol without asking for it, so that an archive's member
    // would be left out.
    cc::Build::new()
        .file("src/chance.c")
        .link_lib_modifier("+whole-archive")
        .compile("keyloom_simulation_chance");
}
