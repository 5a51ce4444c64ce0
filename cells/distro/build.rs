//! Lists the files of the pinned Go modules so that the crate can embed them.
//!
//! A binary that looked for its source tree at run time would hold the path of
//! the machine it was built on, and work only there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("modules");
    println!("cargo::rerun-if-changed=modules");
    let mut code = String::from("pub(crate) static EMBEDDED: &[(&str, &str, &[u8])] = &[\n");
    for entry in walkdir::WalkDir::new(&root).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            writeln!(code, "    {},", tuple(&root, entry.path())?)?;
            println!("cargo::rerun-if-changed={}", entry.path().display());
        }
    }
    code.push_str("];\n");
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("embedded.rs");
    std::fs::write(out, code)?;
    Ok(())
}

fn tuple(root: &Path, file: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let relative = file
        .strip_prefix(root)?
        .to_str()
        .ok_or("a module file's name is not UTF-8")?;
    let (module, name) = relative
        .split_once('/')
        .ok_or("a file lies outside every module directory")?;
    Ok(format!(
        "({module:?}, {name:?}, include_bytes!({:?}))",
        file.display().to_string()
    ))
}
