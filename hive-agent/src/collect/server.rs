//! Which inference server a command line starts, and what it says about model and port.
//!
//! Invariant: of a command line and an environment, only the values of the options and
//! variables named in `kinds` are taken. Everything else may be a secret, and goes with the
//! buffer it was read into.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hive_contract::text::ModelName;

mod arguments;
mod kinds;

pub(super) use arguments::MAX_CMDLINE;
use arguments::{Program, file_name, has, positional, split, value};
pub(super) use kinds::{Endpoint, Figures, Kind, Series, kind_named, kind_names};
use kinds::{Form, KINDS, Offered, Source, Start};

use super::model;
use super::text::number;

/// How much of an environment is read; what comes later is not looked at.
const MAX_ENVIRON: u64 = 256 << 10;

/// What a command line says.
#[derive(Debug, Clone, Default)]
pub(super) struct Server {
    /// Absent if only options that nearly all servers share were found.
    pub(super) kind: Option<&'static Kind>,
    pub(super) role: Role,
    pub(super) model: Option<Model>,
    /// Where it says that it listens.
    pub(super) port: Option<u16>,
    pub(super) queue: Option<Queue>,
}

/// What a process is to the models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// It serves one.
    #[default]
    Worker,
    /// It starts a server for each, and passes requests on.
    Supervisor,
    /// It is a part of a server and shows a title instead of its command line.
    Part,
}

/// How a model is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Model {
    Name(ModelName),
    /// A file of Ollama's store, which is called by the hash of its content.
    OllamaBlob(PathBuf),
}

/// Where a server says how busy it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue {
    pub(super) endpoint: &'static Endpoint,
    /// If it is another than the server's.
    pub(super) port: Option<u16>,
}

impl Server {
    /// Whether it is the same kind with the same model on the same port.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let name = |server: &Self| server.kind.map(|kind| kind.name);
        name(self) == name(other) && (&self.model, self.port) == (&other.model, other.port)
    }

    /// Its port, or the one that its kind takes if it says nothing.
    pub(super) fn port_or_default(&self) -> Option<u16> {
        self.port.or_else(|| self.kind?.default_port)
    }
}

/// What a command line starts that begins with a server or its interpreter. `proc_dir` is the
/// `/proc/PID` of the process, where its environment and working directory are, for what the
/// command line alone does not say.
pub(super) fn recognise(cmdline: &[u8], proc_dir: &Path) -> Option<Server> {
    recognise_arguments(&split(cmdline), proc_dir)
}

/// What runs in a process that is known to belong to a worker: the server may stand behind any
/// other program, and one of an unknown kind may name its model too.
pub(super) fn recognise_anywhere(cmdline: &[u8], proc_dir: &Path) -> Option<Server> {
    let arguments = split(cmdline);
    let behind = |start: usize| recognise_arguments(&arguments[start..], proc_dir);
    (0..arguments.len()).find_map(behind).or_else(|| unknown(&arguments))
}

/// The server in a command line that runs the file or module of this name.
pub(super) fn recognise_named(cmdline: &[u8], name: &str) -> Option<Server> {
    let arguments = split(cmdline);
    let (program, rest) = Program::of(&arguments)?;
    program.is_called(name).then(|| unknown(rest).unwrap_or_default())
}

/// A server of an unknown kind, by the options that nearly all share.
fn unknown(arguments: &[&[u8]]) -> Option<Server> {
    let model = model::from_arguments(arguments).map(Model::Name);
    let port = value(arguments, &["--port"]).and_then(port_number);
    (model.is_some() || port.is_some()).then_some(Server { model, port, ..Server::default() })
}

fn recognise_arguments(arguments: &[&[u8]], proc_dir: &Path) -> Option<Server> {
    let first = arguments.first()?;
    let is_part = |title: &&str| first.starts_with(title.as_bytes());
    if let Some(kind) = KINDS.iter().find(|kind| kind.titles.iter().any(is_part)) {
        return Some(Server { kind: Some(kind), role: Role::Part, ..Server::default() });
    }
    let (program, rest) = Program::of(arguments)?;
    let matching = |starts: &'static [Start]| {
        starts.iter().find_map(|start| matches(start, program, rest, proc_dir))
    };
    KINDS.iter().find_map(|kind| {
        if matching(kind.supervisors).is_some() {
            let role = Role::Supervisor;
            return Some(Server { kind: Some(kind), role, ..Server::default() });
        }
        Some(describe(kind, matching(kind.starts)?, program, proc_dir))
    })
}

/// The arguments after what starts a server, if it does.
fn matches<'a, 'b>(
    start: &Start,
    program: Program<'_>,
    rest: &'b [&'a [u8]],
    proc_dir: &Path,
) -> Option<&'b [&'a [u8]]> {
    match (start, program) {
        (Start::Program(name, verbs), _) => {
            let has_verbs = || verbs.iter().zip(rest).all(|(verb, word)| verb.as_bytes() == *word);
            (program.is_called(name) && verbs.len() <= rest.len() && has_verbs())
                .then(|| &rest[verbs.len()..])
        }
        (Start::Prefix(prefix), Program::File(path)) => {
            file_name(path).starts_with(prefix.as_bytes()).then_some(rest)
        }
        (Start::Suffix(suffix), Program::File(path)) => {
            file_name(path).ends_with(suffix.as_bytes()).then_some(rest)
        }
        (Start::Script(name, directory), Program::File(path)) => {
            (program.is_called(name) && is_in(directory, path, proc_dir)).then_some(rest)
        }
        (_, Program::Module(_)) => None,
    }
}

/// Whether a directory of the script's path, or else the working directory, begins so.
fn is_in(name: &str, script: &[u8], proc_dir: &Path) -> bool {
    let script = Path::new(OsStr::from_bytes(script));
    let path = match script.is_absolute() {
        true => script.to_owned(),
        // Of a process of another user, it is not shown to everybody.
        false => fs::read_link(proc_dir.join("cwd")).unwrap_or_default().join(script),
    };
    path.parent().is_some_and(|parent| {
        let begins_so = |part: &OsStr| {
            part.as_bytes()
                .get(..name.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
        };
        parent.iter().any(begins_so)
    })
}

/// What a server says about itself. `rest` are its own arguments.
fn describe(kind: &'static Kind, rest: &[&[u8]], program: Program<'_>, proc_dir: &Path) -> Server {
    let mut environ = Environ::of(proc_dir);
    let from_file = || match program {
        Program::File(path) => file_name(path).strip_suffix(b".llamafile").and_then(model::name),
        Program::Module(_) => None,
    };
    let model = kind
        .model
        .iter()
        .find_map(|source| find_model(source, rest, &mut environ))
        .or_else(|| from_file().map(Model::Name));
    if model.is_none() && kind.needs_model {
        return Server { kind: Some(kind), role: Role::Supervisor, ..Server::default() };
    }
    let port = value(rest, kind.port).and_then(port_number);
    let port = port.or_else(|| port_number(&environ.get(kind.port_env?)?));
    let queue = find_queue(kind, rest, &mut environ);
    // Whatever opens the files of Ollama's store was started by Ollama.
    let kind = match model {
        Some(Model::OllamaBlob(_)) => kind_named("ollama"),
        _ => Some(kind),
    };
    Server { kind, role: Role::Worker, model, port, queue }
}

fn find_model(source: &Source, rest: &[&[u8]], environ: &mut Environ<'_>) -> Option<Model> {
    let (given, form) = match source {
        Source::Positional => (positional(rest)?.to_vec(), Form::Reference),
        Source::Option(options, variable, form) => {
            let given = value(rest, options).map(<[u8]>::to_vec);
            (given.or_else(|| environ.get((*variable)?))?, *form)
        }
    };
    match form {
        Form::Name => model::first_of_list(&given).map(Model::Name),
        Form::Reference => match model::ollama_blob(&given) {
            Some(blob) => Some(Model::OllamaBlob(blob)),
            None => model::name(&given).map(Model::Name),
        },
    }
}

/// The first endpoint that the server offers; none where asking would wake up a model.
fn find_queue(kind: &Kind, rest: &[&[u8]], environ: &mut Environ<'_>) -> Option<Queue> {
    if has(rest, kind.sleeps) || kind.sleeps_env.is_some_and(|key| environ.get(key).is_some()) {
        return None;
    }
    let endpoint = kind.endpoints.iter().find(|endpoint| match endpoint.offered {
        Offered::Always => true,
        Offered::Without(option) => !has(rest, &[option]),
        Offered::With(option, variable) => {
            has(rest, &[option])
                || variable.and_then(|key| environ.get(key)).is_some_and(|value| is_on(&value))
        }
    })?;
    let port = endpoint
        .port
        .map(|(option, default)| value(rest, &[option]).and_then(port_number).unwrap_or(default));
    Some(Queue { endpoint, port })
}

fn is_on(value: &[u8]) -> bool {
    matches!(value, b"1" | b"on" | b"true" | b"enabled")
}

fn port_number(digits: &[u8]) -> Option<u16> {
    u16::try_from(number(digits)?).ok().filter(|&port| port != 0)
}

/// The environment of a process, read when it is first asked for and gone with this.
enum Environ<'a> {
    Unread(&'a Path),
    Read(Vec<u8>),
}

impl<'a> Environ<'a> {
    fn of(proc_dir: &'a Path) -> Self {
        Self::Unread(proc_dir)
    }

    /// The value of one variable, for keys of the program's own tables only.
    fn get(&mut self, key: &'static str) -> Option<Vec<u8>> {
        if let Self::Unread(proc_dir) = self {
            let mut bytes = Vec::new();
            // Of a process of another user, it is not shown to everybody.
            if let Ok(file) = File::open(proc_dir.join("environ")) {
                let _ = file.take(MAX_ENVIRON).read_to_end(&mut bytes);
            }
            *self = Self::Read(bytes);
        }
        let Self::Read(bytes) = self else { return None };
        let value = |variable: &'_ [u8]| {
            variable.strip_prefix(key.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec)
        };
        bytes.split(|&byte| byte == 0).find_map(value)
    }
}

#[cfg(test)]
mod tests;
