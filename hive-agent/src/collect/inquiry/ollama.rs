//! The names of models in Ollama's store, whose files are called by the hash of their content.
//!
//! `…/models/manifests/HOST/NAMESPACE/MODEL/TAG` lists the files of a model; that of the
//! weights is looked for. A path of a container counts from the container's root.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use hive_contract::text::ModelName;
use serde::Deserialize;

/// The directories below `manifests`: of hosts, namespaces, models, and the tags in them.
const DEPTH: usize = 4;
/// The most manifests that are opened.
const MAX_MANIFESTS: usize = 4096;
/// The largest manifest, in bytes.
const MAX_LEN: u64 = 64 << 10;
/// The characters of a hash that people use.
const SHORT_HASH_LEN: usize = 12;
/// What goes without saying in a name.
const DEFAULT_HOST: &str = "registry.ollama.ai/";
const DEFAULT_NAMESPACE: &str = "library/";

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
}

/// The name of the model whose weights are in this file, opened by a process whose root is
/// `root`; a piece of the hash where no manifest names it. Of several names the shortest.
pub(super) fn name(root: &Path, blob: &Path) -> Option<ModelName> {
    let file = blob.file_name()?.to_str()?;
    let hash = file.strip_prefix("sha256-")?;
    let manifests = blob.parent()?.parent()?.join("manifests");
    let manifests = root.join(manifests.strip_prefix("/").unwrap_or(&manifests));
    let mut names: Vec<String> = Vec::new();
    let mut left = MAX_MANIFESTS;
    search(&manifests, &mut Vec::new(), &mut left, &mut |path, parts| {
        if names_weights(path, hash) {
            names.extend(shown(parts));
        }
    });
    names.sort_by_key(|name| (name.len(), name.clone()));
    let short = || format!("sha256-{}", hash.get(..SHORT_HASH_LEN).unwrap_or(hash));
    ModelName::new(names.into_iter().next().unwrap_or_else(short)).ok()
}

fn search(
    dir: &Path,
    parts: &mut Vec<String>,
    left: &mut usize,
    see: &mut impl FnMut(&Path, &[String]),
) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        parts.push(entry.file_name().to_string_lossy().into_owned());
        let path: PathBuf = entry.path();
        match parts.len() {
            DEPTH => see(&path, parts),
            _ => search(&path, parts, left, see),
        }
        parts.pop();
    }
}

fn names_weights(manifest: &Path, hash: &str) -> bool {
    let mut text = Vec::new();
    // Hidden files of an operating system, half-written ones: all that is no manifest.
    if manifest.file_name().is_none_or(|name: &OsStr| name.as_encoded_bytes().starts_with(b".")) {
        return false;
    }
    let read = File::open(manifest).and_then(|file| file.take(MAX_LEN).read_to_end(&mut text));
    let Ok(Manifest { layers }) = read
        .map_err(|_| ())
        .and_then(|_| serde_json::from_slice::<Manifest>(&text).map_err(|_| ()))
    else {
        return false;
    };
    layers.iter().any(|Layer { media_type, digest }| {
        media_type.ends_with("image.model") && digest.strip_prefix("sha256:") == Some(hash)
    })
}

/// `llama3.2:1b`, as people write it.
fn shown(parts: &[String]) -> Option<String> {
    let (tag, path) = parts.split_last()?;
    let path = path.join("/");
    let path = path.strip_prefix(DEFAULT_HOST).unwrap_or(&path);
    Some(format!("{}:{tag}", path.strip_prefix(DEFAULT_NAMESPACE).unwrap_or(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_gets_the_name_that_people_gave_it() {
        let root = tempfile::tempdir().unwrap();
        let hash = |digit: &str| digit.repeat(64);
        let write = |path: &str, text: &str| {
            let path = root.path().join("m/manifests").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let manifest = |digit: &str| {
            format!(
                r#"{{"schemaVersion": 2, "layers": [
                    {{"mediaType": "application/vnd.ollama.image.template", "digest": "sha256:{}"}},
                    {{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:{}"}}]}}"#,
                hash("f"),
                hash(digit)
            )
        };
        write("registry.ollama.ai/library/llama3.2/1b", &manifest("1"));
        write("registry.ollama.ai/library/llama3.2/1b-instruct-q4", &manifest("1"));
        write("registry.ollama.ai/me/own/latest", &manifest("2"));
        write("hf.co/org/Qwen3-GGUF/Q4_K_M", &manifest("3"));
        write("registry.ollama.ai/library/broken/latest", "{torn");
        write("registry.ollama.ai/library/broken/.DS_Store", "x");
        write("stray", "x");
        let name = |digit: &str| {
            let blob = format!("/m/blobs/sha256-{}", hash(digit));
            name(root.path(), Path::new(&blob)).unwrap().to_string()
        };
        assert_eq!(name("1"), "llama3.2:1b");
        assert_eq!(name("2"), "me/own:latest");
        assert_eq!(name("3"), "hf.co/org/Qwen3-GGUF:Q4_K_M");
        assert_eq!(name("f"), "sha256-ffffffffffff", "a template is no model");
        assert_eq!(name("9"), "sha256-999999999999");
    }
}
