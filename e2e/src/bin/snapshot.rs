//! Writes what this machine holds to the file given as the first argument, for a comparison later.

fn main() -> anyhow::Result<()> {
    let path = std::env::args()
        .nth(1)
        .ok_or_else(|| anyhow::anyhow!("usage: snapshot FILE"))?;
    let snapshot = skep_e2e::leftovers::Snapshot::take()?;
    std::fs::write(path, serde_json::to_string_pretty(&snapshot)?)?;
    Ok(())
}
