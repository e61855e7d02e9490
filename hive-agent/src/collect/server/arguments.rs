//! Command lines: their arguments, the program behind an interpreter, the values of options.
//!
//! Invariant: any bytes are read; what is not understood gives `None`.

/// How much of a command line is read. Servers name their model long before; a longer command
/// line is cut there, and the argument at the cut is left out.
pub(in crate::collect) const MAX_CMDLINE: usize = 64 << 10;
/// The most arguments that are looked at.
const MAX_ARGUMENTS: usize = 4096;

/// The arguments of a command line, each of which ends in NUL.
pub(super) fn split(cmdline: &[u8]) -> Vec<&[u8]> {
    let cmdline = match cmdline.iter().rposition(|&byte| byte == 0) {
        Some(end) if cmdline.len() >= MAX_CMDLINE => &cmdline[..end],
        _ => cmdline.strip_suffix(b"\0").unwrap_or(cmdline),
    };
    cmdline.split(|&byte| byte == 0).take(MAX_ARGUMENTS).collect()
}

/// The last part of a path.
pub(super) fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// What a command line runs, behind a Python interpreter too: a script with a `#!` line shows
/// up as its interpreter with the script's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program<'a> {
    /// A file, by the path that was given.
    File(&'a [u8]),
    /// A module of Python.
    Module(&'a [u8]),
}

impl<'a> Program<'a> {
    /// The program and the arguments that are its own.
    pub(super) fn of<'b>(arguments: &'b [&'a [u8]]) -> Option<(Self, &'b [&'a [u8]])> {
        let (&first, mut rest) = arguments.split_first()?;
        if !is_interpreter(first) {
            return Some((Self::File(first), rest));
        }
        loop {
            let (&argument, after) = rest.split_first()?;
            rest = after;
            match argument {
                b"-X" | b"-W" => rest = rest.split_first()?.1,
                [b'-', b'-', ..] => {}
                // Options of one letter can stand together, and the last one takes a value.
                [b'-', .., b'c'] => return None,
                [b'-', .., b'm'] => {
                    let (&module, rest) = rest.split_first()?;
                    return Some((Self::Module(module), rest));
                }
                [b'-', ..] => {}
                script => return Some((Self::File(script), rest)),
            }
        }
    }

    /// Whether it is the file or module of this name.
    pub(super) fn is_called(self, name: &str) -> bool {
        match self {
            Self::File(path) => {
                let file = file_name(path);
                file.strip_suffix(b".py").unwrap_or(file) == name.as_bytes()
            }
            Self::Module(module) => module == name.as_bytes(),
        }
    }
}

fn is_interpreter(program: &[u8]) -> bool {
    let file = file_name(program);
    let version = file.strip_prefix(b"python").or_else(|| file.strip_prefix(b"pypy"));
    version.is_some_and(|version| version.iter().all(|byte| b"0123456789.".contains(byte)))
}

/// The value of the last of these options: `--port 1`, `--port=1`, `-p 1`. In long options `_`
/// stands for `-`.
pub(super) fn value<'a>(arguments: &[&'a [u8]], options: &[&str]) -> Option<&'a [u8]> {
    let mut found = None;
    let mut rest = arguments.iter().copied().peekable();
    while let Some(argument) = rest.next() {
        let (name, inline) = match argument.iter().position(|&byte| byte == b'=') {
            Some(equals) => (&argument[..equals], Some(&argument[equals + 1..])),
            None => (argument, None),
        };
        if options.iter().any(|option| is_option(name, option)) {
            let value = inline.or_else(|| rest.next_if(|next| !next.starts_with(b"-")));
            found = value.or(found);
        }
    }
    found
}

/// Whether one of these options is there.
pub(super) fn has(arguments: &[&[u8]], options: &[&str]) -> bool {
    let name = |argument: &&[u8]| {
        let equals = argument.iter().position(|&byte| byte == b'=').unwrap_or(argument.len());
        options.iter().any(|option| is_option(&argument[..equals], option))
    };
    arguments.iter().any(name)
}

fn is_option(argument: &[u8], option: &str) -> bool {
    let is_same = |(&given, known): (&u8, u8)| given == known || (given == b'_' && known == b'-');
    argument.len() == option.len() && argument.iter().zip(option.bytes()).all(is_same)
}

/// The first argument that is neither an option nor, as far as can be told without knowing all
/// options, the value of one.
pub(super) fn positional<'a>(arguments: &[&'a [u8]]) -> Option<&'a [u8]> {
    let mut may_be_value = false;
    for argument in arguments {
        let is_option = argument.starts_with(b"-");
        if !is_option && !may_be_value {
            return Some(argument);
        }
        may_be_value = is_option && !argument.contains(&b'=');
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(command: &str) -> Vec<&[u8]> {
        command.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn the_program_stands_behind_its_interpreter() {
        for (command, program, rest) in [
            ("/opt/bin/llama-server -m x", Program::File(b"/opt/bin/llama-server"), 2),
            ("python3.12 -u -X dev -m vllm serve", Program::Module(b"vllm"), 1),
            ("/usr/bin/python3 -Ium vllm", Program::Module(b"vllm"), 0),
            ("python /usr/local/bin/vllm serve x", Program::File(b"/usr/local/bin/vllm"), 2),
            ("python-server x", Program::File(b"python-server"), 1),
        ] {
            let arguments = words(command);
            let (found, own) = Program::of(&arguments).unwrap();
            assert_eq!((found, own.len()), (program, rest), "{command}");
        }
        for command in ["python -c code vllm serve", "python3", "python -m", "python3 -X"] {
            assert_eq!(Program::of(&words(command)), None, "{command}");
        }
        assert!(Program::File(b"/a/koboldcpp.py").is_called("koboldcpp"));
        assert!(!Program::Module(b"vllm.x").is_called("vllm"));
    }

    #[test]
    fn the_last_value_of_an_option_counts() {
        let arguments = words("--port 1 --model_path a -p 2 --port=3 --port --x --ports 9");
        assert_eq!(value(&arguments, &["--port", "-p"]), Some(b"3".as_slice()));
        assert_eq!(value(&arguments, &["--model-path"]), Some(b"a".as_slice()));
        assert_eq!(value(&arguments, &["--x", "--absent"]), None);
        assert!(has(&arguments, &["--x"]) && has(&words("--x=1"), &["--x"]));
        assert!(!has(&arguments, &["--por"]));
    }

    #[test]
    fn a_positional_argument_is_no_value() {
        assert_eq!(positional(&words("org/m --port 1")), Some(b"org/m".as_slice()));
        assert_eq!(positional(&words("--port 1 --x=2 org/m")), Some(b"org/m".as_slice()));
        assert_eq!(positional(&words("--port 1 --flag org/m")), None, "it may be --flag's");
        assert_eq!(positional(&[]), None);
    }

    #[test]
    fn a_long_command_line_is_cut_between_arguments() {
        let mut cmdline = b"server\0--port\0x\0".to_vec();
        cmdline.resize(2 << 20, b'x');
        assert_eq!(split(&cmdline[..MAX_CMDLINE]), [b"server".as_slice(), b"--port", b"x"]);
        assert_eq!(split(&vec![0; MAX_CMDLINE]).len(), MAX_ARGUMENTS);
        assert_eq!(split(b"a\0\0b\0"), [b"a".as_slice(), b"", b"b"]);
    }

    proptest! {
        #[test]
        fn any_command_line_is_read(bytes: Vec<u8>) {
            let arguments = split(&bytes);
            let _ = Program::of(&arguments);
            let _ = value(&arguments, &["--port", "-p"]);
            let _ = has(&arguments, &["--port"]);
            let _ = positional(&arguments);
        }

        #[test]
        fn any_arguments_are_read(arguments: Vec<(bool, String)>) {
            let arguments: Vec<String> =
                arguments.into_iter().map(|(o, a)| if o { format!("--{a}") } else { a }).collect();
            let arguments: Vec<&[u8]> = arguments.iter().map(|a| a.as_bytes()).collect();
            let _ = Program::of(&arguments);
            let _ = value(&arguments, &["--port", "-p"]);
            let _ = positional(&arguments);
        }
    }
}
