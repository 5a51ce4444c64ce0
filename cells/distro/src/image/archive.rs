//! OCI image archives: one layer, config, manifest, and an index with all names.
//!
//! Must not hold a layer in memory: the Kubernetes binary alone is 150 MB.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::{Value, json};
use tar::EntryType;

use super::layer::{Tree, header};
use crate::sums::Hashing;
use crate::{Error, sums};

/// Changes when the same inputs are to give another archive.
pub(crate) const FORMAT: &[u8] = b"1";

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const BLOCK: u64 = 512;

/// A blob's place in the archive.
struct Blob {
    digest: String,
    size: u64,
}

/// What a container of an image runs where its pod does not say.
#[derive(Clone, Copy)]
pub(crate) struct Start<'a> {
    pub entrypoint: &'a [String],
    pub command: &'a [String],
}

/// Writes an archive and returns its manifest's digest, "sha256:…".
pub(crate) fn write(
    path: &Path,
    tree: &Tree,
    start: Start<'_>,
    references: &[String],
) -> Result<String, Error> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    let layer = write_layer(&mut file, path, tree)?;
    let mut tar = tar::Builder::new(file);
    let config = add_blob(&mut tar, path, &config(&layer, start))?;
    let manifest = add_blob(&mut tar, path, &manifest(&config, &layer))?;
    add(
        &mut tar,
        path,
        "index.json",
        index(&manifest, references).to_string().as_bytes(),
    )?;
    add(
        &mut tar,
        path,
        "oci-layout",
        json!({ "imageLayoutVersion": "1.0.0" }).to_string().as_bytes(),
    )?;
    let file = tar.into_inner().map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("flush", path))?;
    Ok(manifest.digest)
}

/// A blob's name is its hash, known only at the end: its header is written last, into the gap left for it.
fn write_layer(file: &mut File, path: &Path, tree: &Tree) -> Result<Blob, Error> {
    let io = || Error::io("write", path);
    file.seek(SeekFrom::Start(BLOCK)).map_err(io())?;
    let hashing = tree.write(
        Hashing::new(std::io::BufWriter::with_capacity(1 << 20, &mut *file)),
        path,
    )?;
    let (mut buffer, hash, size) = hashing.finish();
    // A tar stream is a whole number of blocks, so nothing has to be padded.
    buffer.flush().map_err(io())?;
    drop(buffer);
    let blob = Blob {
        digest: format!("sha256:{hash}"),
        size,
    };
    let mut head = header(EntryType::Regular, 0o644, size);
    head.set_path(blob_path(&blob.digest)).map_err(io())?;
    head.set_cksum();
    file.seek(SeekFrom::Start(0)).map_err(io())?;
    file.write_all(head.as_bytes()).map_err(io())?;
    file.seek(SeekFrom::End(0)).map_err(io())?;
    Ok(blob)
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn add_blob(tar: &mut tar::Builder<File>, path: &Path, content: &Value) -> Result<Blob, Error> {
    let bytes = content.to_string().into_bytes();
    let digest = format!("sha256:{}", sums::of_bytes(&bytes));
    add(tar, path, &blob_path(&digest), &bytes)?;
    Ok(Blob {
        digest,
        size: bytes.len() as u64,
    })
}

fn add(tar: &mut tar::Builder<File>, path: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    let mut header = header(EntryType::Regular, 0o644, bytes.len() as u64);
    tar.append_data(&mut header, name, bytes)
        .map_err(Error::io("write", path))
}

fn config(layer: &Blob, start: Start<'_>) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut config = json!({
        "Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "WorkingDir": "/",
    });
    for (key, words) in [("Entrypoint", start.entrypoint), ("Cmd", start.command)] {
        if !words.is_empty() {
            config[key] = json!(words);
        }
    }
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [layer.digest] },
    })
}

fn manifest(config: &Blob, layer: &Blob) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.digest,
            "size": config.size,
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer.digest,
            "size": layer.size,
        }],
    })
}

fn index(manifest: &Blob, references: &[String]) -> Value {
    let named = |reference: &String| {
        let tag = reference.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        json!({
            "mediaType": MANIFEST_TYPE,
            "digest": manifest.digest,
            "size": manifest.size,
            "annotations": {
                "io.containerd.image.name": reference,
                "org.opencontainers.image.ref.name": tag,
            },
        })
    };
    json!({ "schemaVersion": 2, "manifests": references.iter().map(named).collect::<Vec<_>>() })
}
