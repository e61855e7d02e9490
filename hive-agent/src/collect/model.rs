//! Names of models: from a file, a path, a repository or a URL on a command line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use hive_contract::text::ModelName;

/// The model named in the arguments of a server of an unknown kind: `--model X`, `--model=X`,
/// `-m X` and `-m=X`; the last one counts, as it does for the servers themselves. `python -m
/// package` names a module and no model.
pub(super) fn from_arguments(arguments: &[&[u8]]) -> Option<ModelName> {
    let mut model = None;
    let mut interpreter = Interpreter::default();
    let mut arguments = arguments.iter().copied().peekable();
    while let Some(argument) = arguments.next() {
        let names_module = interpreter.next(argument);
        let value = match argument {
            b"-m" if names_module => None,
            b"-m" | b"--model" => arguments.next_if(|value| !value.starts_with(b"-")),
            _ => argument.strip_prefix(b"--model=").or_else(|| argument.strip_prefix(b"-m=")),
        };
        model = value.and_then(name).or(model);
    }
    model
}

/// Follows the arguments of a Python interpreter, up to the script or module that it runs.
#[derive(Default)]
struct Interpreter {
    reads_options: bool,
    value_follows: bool,
}

impl Interpreter {
    /// Takes the next argument; whether a `-m` here would be the interpreter's own.
    fn next(&mut self, argument: &[u8]) -> bool {
        if std::mem::take(&mut self.value_follows) {
            return false;
        }
        let file = argument.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        if file.starts_with(b"python") || file.starts_with(b"pypy") {
            self.reads_options = true;
            return false;
        }
        let own = self.reads_options;
        match argument {
            b"-X" | b"-W" => self.value_follows = own,
            b"-m" | b"-c" => self.reads_options = false,
            _ if !argument.starts_with(b"-") => self.reads_options = false,
            _ => {}
        }
        own
    }
}

/// The model's name from an option's value: the stem of a GGUF file, the last part of a path,
/// and the name of a repository as it is.
///
/// Of a URL only the path counts: a query may hold a signature, and an authority a password.
pub(super) fn name(value: &[u8]) -> Option<ModelName> {
    let value = String::from_utf8_lossy(value);
    let value = value.trim();
    let url = value.split_once("://").map(|(_, rest)| rest.split(['?', '#']).next().unwrap_or(""));
    let is_path = url.is_some() || value.starts_with(['/', '.', '~']);
    let value = url.map_or(value, |rest| rest.split_once('/').map_or("", |(_, path)| path));
    let value = value.trim_end_matches('/');
    let last = value.rsplit('/').next()?;
    let name = match last.len().checked_sub(5).and_then(|stem| last.split_at_checked(stem)) {
        Some((stem, extension)) if extension.eq_ignore_ascii_case(".gguf") => whole_of_part(stem),
        _ if is_path => hub_repository(value).unwrap_or_else(|| last.to_owned()),
        _ => value.to_owned(),
    };
    ModelName::new(name).ok()
}

/// Without the `-00001-of-00003` that large models in several files carry.
fn whole_of_part(stem: &str) -> String {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let whole = stem
        .rsplit_once("-of-")
        .filter(|(_, parts)| digits(parts))
        .and_then(|(rest, _)| rest.rsplit_once('-'))
        .filter(|(_, part)| digits(part));
    whole.map_or(stem, |(whole, _)| whole).to_owned()
}

/// The repository in a path of the Hugging Face cache, whose last part is only a hash:
/// `…/models--org--name/snapshots/0123abcd`.
fn hub_repository(path: &str) -> Option<String> {
    let repository = path.split('/').find_map(|part| part.strip_prefix("models--"))?;
    let is_hash = path.contains("/snapshots/") || path.contains("/blobs/");
    is_hash.then(|| repository.replace("--", "/"))
}

/// The first name of a list with commas.
pub(super) fn first_of_list(value: &[u8]) -> Option<ModelName> {
    let value = String::from_utf8_lossy(value);
    ModelName::new(value.split(',').next()?.trim()).ok()
}

/// The path, if it is that of a model in Ollama's store: `…/blobs/sha256-0123…`.
pub(super) fn ollama_blob(value: &[u8]) -> Option<PathBuf> {
    let mut parts = value.rsplit(|&byte| byte == b'/');
    let digest = parts.next()?.strip_prefix(b"sha256-")?;
    let is_blob = parts.next() == Some(b"blobs")
        && digest.len() == 64
        && digest.iter().all(u8::is_ascii_hexdigit);
    is_blob.then(|| PathBuf::from(OsString::from_vec(value.to_vec())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(command: &str) -> Option<String> {
        let arguments: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        from_arguments(&arguments).map(|name| name.to_string())
    }

    #[test]
    fn models_are_found_in_the_usual_places() {
        for (command, expected) in [
            ("llama-server -m /models/llama-3.2-1b.gguf --port 8080", "llama-3.2-1b"),
            ("llama-server -m=models/Qwen3.GGUF", "Qwen3"),
            ("llama-server --model=/m/big-00001-of-00003.gguf", "big"),
            ("llama-server -m a.gguf -md draft.gguf --model b.gguf", "b"),
            ("vllm serve --model meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
            ("python3 -m vllm.entrypoints.openai.api_server --model org/name", "org/name"),
            ("/usr/bin/python3.12 -u -X dev -m server -m /srv/models/phi-4/", "phi-4"),
            ("env A=1 python -m server --model ./local/phi-4", "phi-4"),
            ("python server.py -m org/name", "org/name"),
            ("server --model /c/hub/models--org--n/snapshots/0a1b", "org/n"),
            ("sh -c true --model test", "test"),
        ] {
            assert_eq!(model(command).as_deref(), Some(expected), "{command}");
        }
    }

    #[test]
    fn what_names_no_model_gives_none() {
        for command in [
            "",
            "python -m http.server",
            "python3 -u -m http.server 8080",
            "server --model",
            "server --model --port 80",
            "server --models-dir /models",
            "server --model=",
            "server --model /",
            "server -mx",
            "server --model a\nb",
        ] {
            assert_eq!(model(command), None, "{command:?}");
        }
    }

    #[test]
    fn a_url_gives_away_no_more_than_the_model() {
        let name = |value: &str| name(value.as_bytes()).map(|name| name.to_string());
        let url = "https://user:secret@host/models/phi-4.gguf?X-Signature=secret/x.gguf#secret";
        assert_eq!(name(url).as_deref(), Some("phi-4"));
        assert_eq!(name("s3://bucket/llama-3/").as_deref(), Some("llama-3"));
        for nothing in ["https://user:secret@host", "https://host/?key=secret", "://", "a://"] {
            assert_eq!(name(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_blob_of_ollama_is_no_name() {
        let digest = "0a".repeat(32);
        let blob = format!("/root/.ollama/models/blobs/sha256-{digest}");
        assert_eq!(ollama_blob(blob.as_bytes()).unwrap(), PathBuf::from(&blob));
        for other in [format!("/x/sha256-{digest}"), blob[..80].to_owned(), format!("{blob}/x")] {
            assert_eq!(ollama_blob(other.as_bytes()), None, "{other}");
        }
        assert!(first_of_list(b" a,b").is_some_and(|name| name.as_str() == "a"));
        assert_eq!(first_of_list(b","), None);
    }

    proptest! {
        #[test]
        fn any_arguments_are_read(arguments: Vec<Vec<u8>>) {
            let arguments: Vec<&[u8]> = arguments.iter().map(Vec::as_slice).collect();
            let _ = from_arguments(&arguments);
        }

        #[test]
        fn any_value_is_a_name_or_none(value: Vec<u8>) {
            let _ = name(&value);
            let _ = name(&[b"https://", value.as_slice()].concat());
            let _ = first_of_list(&value);
            let _ = ollama_blob(&value);
        }
    }
}
