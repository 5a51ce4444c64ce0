//! Writes every kind's definition as YAML into the directory given as the first argument.

use kube::ResourceExt;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).ok_or("usage: definitions DIRECTORY")?;
    for definition in skep_api::definitions() {
        let path = std::path::Path::new(&directory).join(format!("{}.yaml", definition.name_any()));
        std::fs::write(path, serde_saphyr::to_string(&definition)?)?;
    }
    Ok(())
}
