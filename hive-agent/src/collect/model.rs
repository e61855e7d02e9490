//! Which model a process serves, from its command line.
//!
//! Understood are `--model X`, `--model=X`, `-m X` and `-m=X`; the last one counts, as it does
//! for the servers themselves. `python -m package` names a module and no model.

use hive_contract::text::ModelName;

/// How much of a command line is read. Servers name their model long before; a longer command
/// line is cut there, and the argument at the cut is left out.
pub(super) const MAX_CMDLINE: usize = 64 << 10;

/// The model named on a command line, whose arguments each end in NUL.
pub(super) fn from_cmdline(cmdline: &[u8]) -> Option<ModelName> {
    let cmdline = match cmdline.iter().rposition(|&byte| byte == 0) {
        Some(end) if cmdline.len() >= MAX_CMDLINE => &cmdline[..end],
        _ => cmdline,
    };
    let mut model = None;
    let mut interpreter = Interpreter::default();
    let mut arguments = cmdline.split(|&byte| byte == 0).peekable();
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
fn name(value: &[u8]) -> Option<ModelName> {
    let value = String::from_utf8_lossy(value);
    let value = value.trim().trim_end_matches('/');
    let is_path = value.starts_with(['/', '.', '~']);
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
    path.contains("/snapshots/").then(|| repository.replace("--", "/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(command: &str) -> Option<String> {
        let cmdline: String = command.split(' ').flat_map(|word| [word, "\0"]).collect();
        from_cmdline(cmdline.as_bytes()).map(|name| name.to_string())
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
    fn a_long_or_binary_command_line_does_no_harm() {
        let mut cmdline = b"server\0--model\0good\0".to_vec();
        cmdline.resize(2 << 20, 0xfe);
        let read = &cmdline[..MAX_CMDLINE];
        assert_eq!(from_cmdline(read).unwrap().as_str(), "good");
        let cut = [b"server\0-m\0good\0".to_vec(), vec![b'-'; MAX_CMDLINE]].concat();
        assert_eq!(from_cmdline(&cut[..MAX_CMDLINE]).unwrap().as_str(), "good");
        assert!(from_cmdline(&[b"-m\0".as_slice(), &[b'x'; 600], b"\0"].concat()).is_none());
    }

    proptest! {
        #[test]
        fn any_command_line_is_read(bytes: Vec<u8>) {
            let _ = from_cmdline(&bytes);
        }

        #[test]
        fn any_value_is_a_name_or_none(value: Vec<u8>) {
            let _ = name(&value);
            let _ = from_cmdline(&[b"x\0--model=".as_slice(), &value].concat());
        }
    }
}
