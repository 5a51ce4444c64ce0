//! The shared libraries that a program needs, so that an image can carry them.
//!
//! Must not guess: a library that the loader does not find is an error.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;

/// The absolute paths of a program's shared libraries and loader; none for a static program.
pub(crate) fn of(program: &Path) -> Result<Vec<PathBuf>, Error> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .map_err(|e| {
            libraries(
                program,
                &format!("ldd cannot be run: {e}; apt-get install libc-bin"),
            )
        })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if is_static(&text) || is_static(&complaint) {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        return Err(libraries(program, complaint.trim()));
    }
    parse(program, &text)
}

fn is_static(text: &str) -> bool {
    text.contains("not a dynamic executable") || text.contains("statically linked")
}

fn parse(program: &Path, text: &str) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for line in text.lines().map(str::trim) {
        // `name => /path (0x…)`, `/path/of/the/loader (0x…)`, or `linux-vdso.so.1 (0x…)`, which is no file.
        let (name, place) = line.split_once(" => ").unwrap_or((line, line));
        if place == "not found" {
            let problem = format!("{name} is not on this machine; install the package that has it");
            return Err(libraries(program, &problem));
        }
        let path = place.split_once(" (").map_or(place, |(path, _)| path);
        if path.starts_with('/') {
            paths.push(PathBuf::from(path));
        }
    }
    paths.sort();
    paths.dedup();
    Ok(paths)
}

fn libraries(program: &Path, problem: &str) -> Error {
    Error::Libraries {
        program: program.to_owned(),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_and_libraries_are_found_and_the_vdso_is_not() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found = parse(Path::new("p"), text).unwrap();
        let wanted = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(found, wanted.map(PathBuf::from));
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = parse(Path::new("p"), "\tlibx.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libx.so.1"), "{error}");
    }

    #[test]
    fn this_test_has_a_closure_of_existing_files() {
        let own = std::env::current_exe().unwrap();
        let found = of(&own).unwrap();
        assert!(
            found.iter().any(|p| p.to_string_lossy().contains("libc.so")),
            "{found:?}"
        );
        assert!(found.iter().all(|p| p.is_absolute() && p.exists()), "{found:?}");
    }
}
